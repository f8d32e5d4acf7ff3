"""Make a virtual environment from a lock file, and show how far it is: install.py DIRECTORY LOCK_FILE."""

# To be read by any Python 3, so that one that is too old can say so.
import os
import re
import subprocess
import sys


def main(home, lock):
    if sys.version_info < (3, 11):
        found = "%d.%d" % sys.version_info[:2]
        sys.exit("Python 3.11 or newer is needed, and this is %s: make PYTHON=python3.13 ..." % found)
    python = os.path.join(home, "bin", "python")
    made = subprocess.run(
        [sys.executable, "-m", "venv", home],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    if made.returncode:
        if "ensurepip" in made.stdout:
            sys.exit("this Python makes no virtual environments (on Debian: apt-get install python3-venv)")
        sys.exit(
            "%s was not made: %s" % (home, (made.stdout.strip().splitlines() or ["no reason given"])[-1])
        )
    with open(lock) as file:
        total = len(re.findall(r"^[\w.-]+==", file.read(), re.MULTILINE))
    say("installing up to %d packages into %s, once" % (total, home), end="" if sys.stderr.isatty() else "\n")
    pip = [
        python,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar",
        "off",
    ]
    process = subprocess.Popen(
        [*pip, "--progress-bar", "off", "--no-deps", "--require-hashes", "-r", lock],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        # Settings of a person's pip that would lead it out of the environment, or stop it there.
        env=dict(os.environ, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", PIP_TARGET="", PIP_PREFIX=""),
    )
    lines, fetched = [], 0
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Collecting "):
            fetched += 1
            progress("\rinstalling into %s: %d of up to %d packages fetched" % (home, fetched, total))
        elif line.startswith("Installing collected"):
            progress("\rinstalling into %s: %d packages fetched, now unpacked " % (home, fetched))
    if process.wait():
        sys.exit("\n" + "".join(lines[-15:]))
    progress("\n")
    open(os.path.join(home, ".installed"), "w").close()


def say(text, end="\n"):
    sys.stderr.write(text + end)
    sys.stderr.flush()


def progress(text):
    if sys.stderr.isatty():
        say(text, end="")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("\nstopped: the next make goes on with it")
