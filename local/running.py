"""How other processes find the running local environment, and the commands in .local that use it.

`python -m local down` stops it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

STATE = Path(".local/world.json")
START_SECONDS, END_SECONDS = 60, 10
IN_USE = 3  # exit code of a second environment in the same directory
_ROOT = Path(__file__).resolve().parent.parent
_PYTHONPATH = f"{_ROOT}/functions/keepalive:{_ROOT}"
# moto fails with a traceback for a region that does not exist, and has no stack in any other region.
_ONE_REGION = """
case " $*" in *" --region"*)
  echo '.local/listenkeys: the local environment has one region: leave --region out' >&2; exit 2
esac"""
_WITH_USAGE = """
case "${1:--h}" in -*)
  echo 'usage: .local/with PROGRAM [ARGUMENT]...'
  echo
  echo "Runs a program of yours with the local environment's AWS. The stand-in for Binance is at"
  echo 'BINANCE_BASE_URL and BINANCE_STREAM_URL: a program that does not read these (ccxt,'
  echo 'python-binance) goes to Binance itself.'
  echo 'Example: .local/with python bot.py'
  [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; exit $((2 * $?))
esac"""
_WITH_EXEC = """
command -v "$1" > /dev/null || { echo ".local/with: there is no program $1" >&2; exit 127; }
exec "$@"
"""


def running_world() -> dict[str, Any] | None:
    """Return `pid` and `environment` (variables) of the running environment, or None if none is running."""
    try:
        found: dict[str, Any] = json.loads(STATE.read_text())
        os.kill(found["pid"], 0)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found


def running_environment() -> Mapping[str, str]:
    """Return the variables of the running environment. If none is running, start one in the background.

    Raises SystemExit if it does not start within 60 s.
    """
    found = running_world()
    if found is None:
        log = STATE.with_name("world.log")
        log.parent.mkdir(exist_ok=True)
        with log.open("w") as output:
            # If it inherited our output, `make run KEEP=1 | less` would not end before the environment does.
            process = subprocess.Popen(
                [sys.executable, "-m", "local", "up", "--still"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        # If another process has just started one, ours exits with IN_USE and we find the other.
        while (found := running_world()) is None:
            if process.poll() not in (None, IN_USE) or time.monotonic() > deadline:
                raise SystemExit(f"the local environment did not start: see {log}")
            time.sleep(0.1)
    environment: dict[str, str] = found["environment"]
    return environment


class StopSignal:
    """Records that this process must end: after Ctrl-C, `make down`, or when its terminal is closed."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._receive)

    def wait(self, ended: threading.Event | None = None) -> None:
        """Wait for the signal, or for `ended`."""
        while not self.received and not (ended and ended.is_set()):
            time.sleep(0.1)

    def _receive(self, *_: object) -> None:
        # Not an Event: a second signal may come while the handler of the first holds the Event's lock.
        self.received = True


@contextmanager
def alone() -> Iterator[None]:
    """Hold the directory's lock. Raises BlockingIOError if another environment holds it."""
    STATE.parent.mkdir(exist_ok=True)
    folder = os.open(STATE.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(folder)


@contextmanager
def state(environment: Mapping[str, str]) -> Iterator[None]:
    """Let other processes find this environment until the block ends."""
    waiting = STATE.with_suffix(".new")
    waiting.write_text(json.dumps({"pid": os.getpid(), "environment": dict(environment)}))
    waiting.replace(STATE)
    try:
        yield
    finally:
        STATE.unlink(missing_ok=True)


@contextmanager
def commands(environment: Mapping[str, str]) -> Iterator[None]:
    """Write three commands to .local that use this environment from any terminal; delete them at the end."""
    listenkeys, binance, with_it = (STATE.with_name(name) for name in ("listenkeys", "binance", "with"))
    python = f"exec {shlex.quote(sys.executable)} -m"
    path = f"export PYTHONPATH={shlex.quote(_PYTHONPATH)}\n"
    # An environment that was killed leaves these behind.
    stopped = "the local environment is not running: start one with make up"
    lines = [f"kill -0 {os.getpid()} 2>/dev/null || {{ echo '{stopped}' >&2; exit 2; }}"]
    # The AWS settings of the user's own terminal must have no effect.
    lines += [r"unset $(env | sed -n 's/^\(AWS_[A-Za-z0-9_]*\)=.*/\1/p')"]
    lines += [
        f"export {name}={shlex.quote(value)}"
        for name, value in environment.items()
        if name.startswith(("AWS_", "LISTENKEYS_", "LISTEN_KEYS_", "BINANCE_")) or name.lower() == "no_proxy"
    ]
    scripts = {
        listenkeys: "\n".join(lines) + f'{_ONE_REGION}\n{path}{python} listenkey_keeper.cli "$@"\n',
        # local.front looks for .local/world.json in the current directory.
        binance: f'cd {shlex.quote(os.getcwd())} || exit\n{path}{python} local.front "$@"\n',
        # Runs the user's own program with the variables. Our `python` comes last on the PATH, in case they
        # have none.
        with_it: "\n".join(lines)
        + _WITH_USAGE
        + f'\nexport PATH="$PATH:"{shlex.quote(str(Path(sys.executable).parent))}'
        + f'\nexport PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}"{shlex.quote(_PYTHONPATH)}'
        + _WITH_EXEC,
    }
    try:
        for file, text in scripts.items():
            file.write_text(
                "#!/bin/sh\n# Written by the running local environment, and deleted when it stops.\n" + text
            )
            file.chmod(0o755)
        yield
    finally:
        for file in scripts:
            file.unlink(missing_ok=True)


def main(_: list[str]) -> int:
    """Stop the environment, and wait until it has stopped."""
    found = running_world()
    if not found:
        print("no local environment is running")
        return 0
    with suppress(ProcessLookupError):
        os.kill(found["pid"], signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        with suppress(BlockingIOError), alone():
            print("the local environment has stopped")
            return 0
        time.sleep(0.05)
    raise SystemExit(f"the local environment (process {found['pid']}) does not stop: kill that process")
