"""Types the lines of README and the pages in a shell, in an empty account, with the system's own Python.

No virtual environment is active, there is no `python`, only their owner can read new files, and pip has
settings that often cause trouble: it requires a virtual environment, and make and sam run with PIP_USER, too.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.deployed.account import Account
from tests.paths import ROOT
from tests.sam import SAM

pytestmark = [
    pytest.mark.e2e,
    # moto looks for Docker when `listenkeys check` calls the function, and leaves a socket behind.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

STOPPED = 130  # as if by Ctrl-C, once the expected text has been printed
CLONE = "git clone https://github.com/listenkey-keeper/listenkey-keeper && cd listenkey-keeper"
# The settings of a person whose package index is not reached in the usual way.
KEPT = re.compile(
    r"PIP_(CERT|FIND_LINKS|(EXTRA_)?INDEX_URL|DEFAULT_TIMEOUT)|(https?|no)_proxy", re.IGNORECASE
)


@dataclass
class Line:
    """A line of a page: `ends` is the exit code, `says` a part of the output, `typed` the standard input."""

    page: str
    text: str
    says: str = ""
    ends: int = 0
    typed: str = ""


# Typed in this order, in one shell.
FIRST = [
    Line("README.md", CLONE),
    Line("README.md", "make run", "dave is meant to fail"),
    Line("README.md", "python3 -m venv .venv-cli && . .venv-cli/bin/activate"),
    Line("README.md", "pip install '.[cli]'", "Successfully installed"),
    Line("README.md", "sam build", "Build Succeeded"),
    Line(
        "README.md", "sam deploy", "Successfully created/updated stack - listenkey-keeper in ap-northeast-1"
    ),
    Line("README.md", "listenkeys accounts add alice", "alice added", typed="a" * 64),
    # moto runs no function.
    Line("README.md", "listenkeys check", "listenkey-keeper in ap-northeast-1, CREATE_COMPLETE", ends=1),
]
# Typed in the bot's virtual environment; the last line while a local environment is up.
OF_A_BOT = [
    Line("docs/first-key.md", "python3 -m venv .venv-bot && . .venv-bot/bin/activate"),
    Line("README.md", "pip install '.[stream]'", "Successfully installed"),
    Line("docs/stream.md", "pip install '.[stream]'"),
    Line("docs/local.md", ".local/with python bot.py", "ORDER_TRADE_UPDATE", ends=STOPPED),
]
# Typed in the same virtual environment; the last two lines while the same local environment is up.
STAND_IN = ".local/with .venv-bot/bin/python examples/clients/stand_in.py"
OF_A_CLIENT = [
    Line("docs/clients.md", "python3 -m venv .venv-bot"),
    Line("docs/clients.md", ".venv-bot/bin/pip install . ccxt==4.5.90", "Successfully installed"),
    Line("docs/clients.md", ".venv-bot/bin/pip install python-binance==1.0.37", "Successfully installed"),
    Line("docs/clients.md", f"{STAND_IN} ccxt_pro.py", "BTC/USDT:USDT", ends=STOPPED),
    Line("docs/clients.md", f"{STAND_IN} python_binance.py", "BTCUSDT", ends=STOPPED),
]
# Typed in a clone of its own.
TO_CHANGE_IT = [
    Line("CONTRIBUTING.md", "make install"),
    Line("CONTRIBUTING.md", "make run", "dave is meant to fail"),
    Line("CONTRIBUTING.md", ".venv/bin/python -m pytest tests/unit -q", " passed"),
]

NAMES = "clients first-key local stream command operations alarms messages scaling simulation"
PAGES = [f"docs/{name}.md" for name in NAMES.split()]
COPY = "git archive --prefix=listenkey-keeper/ HEAD | ssh root@<vps>"
# Lines of the pages that no test types, and why.
NOT_TYPED = {
    "python bot.py": "needs an account at Binance; .local/with runs the same bot",
    "make run ACCOUNT=real": "needs an account at Binance; test_make_run.py runs it with the stand-in",
    "sam build && sam deploy": "needs AWS for an update; both commands are typed from README",
    "git rev-parse HEAD": "goes with git pull",
    "git pull --autostash": "needs a version that is newer",
    "git remote rename origin upstream": "is once, for a private copy",
    "git remote add origin <an empty private repository>": "goes with it",
    'git add samconfig*.toml && git commit -m "Our settings" && git push -u origin main': "goes with it",
    f"{COPY} 'tar x --recursive-unlink -C /opt'": "needs a server",
    "python3 -m venv /opt/recipe": "needs a server; the same is typed for .venv-bot",
    "sam delete": "ends a stack; tests/rehearsal does",
    "make simulate": "takes ten minutes; tests/unit/test_simulation.py runs its parts",
}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    if not list(Path("/usr/lib").glob("python3.*/EXTERNALLY-MANAGED")):
        pytest.skip("this system's Python is not managed as Debian's is")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tried to parse AWS::S3::BucketPolicy")
        with Account(tmp_path_factory.mktemp("bare")) as made:
            yield made


def page_text(page: str) -> str:
    return (ROOT / page).read_text()


def type_in(account: Account, lines: list[Line], before: str = "") -> None:
    """Type these lines into one shell, and check the exit code and the output of each."""
    programs = account.home / "bin"
    programs.mkdir(exist_ok=True)
    if not (programs / "sam").exists():
        (programs / "sam").symlink_to(SAM)
    ours = {name: value for name, value in account.environment().items() if name.startswith(("AWS_", "SAM_"))}
    environment = {
        **{name: value for name, value in os.environ.items() if KEPT.fullmatch(name)},
        **ours,
        "PATH": f"{programs}:/usr/bin:/bin",
        "HOME": str(account.home),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",  # as on a terminal
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{ROOT}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/listenkey-keeper/listenkey-keeper",
    }
    script = ["umask 077", before]
    for number, line in enumerate(lines):
        user = "export PIP_USER=1" if line.text.startswith(("make", "sam")) else "unset PIP_USER"
        output = f"{account.home}/{number}.out"
        script += [user, f"rm -f {output}"]
        if line.ends == STOPPED:
            script += [
                f"{line.text} > {output} 2>&1 &",
                f"for try in $(seq 300); do grep -qs {line.says} {output} && break; sleep 0.2; done; kill $!",
                f"echo {number} ended with {STOPPED}",
            ]
        else:
            answers = f"< <(printf %s {shlex.quote(line.typed)})"
            script += [f"{{ {line.text}\n}} > {output} 2>&1 {answers}", f"echo {number} ended with $?"]
    done = subprocess.run(
        ["/bin/bash", "-c", "\n".join(script)],
        cwd=account.home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    for number, line in enumerate(lines):
        written = account.home / f"{number}.out"
        said = written.read_text() if written.exists() else done.stdout + done.stderr
        assert f"{number} ended with {line.ends}\n" in done.stdout, f"{line.text}: {said}{done.stderr}"
        assert line.says in said, f"{line.text}: {said}"
        assert re.search(rf"^\$ {re.escape(line.text)}( +#.*)?$", page_text(line.page), re.MULTILINE)


@pytest.mark.timeout(1000)
def test_a_newcomer_types_readme_from_the_clone_to_a_checked_stack(account: Account) -> None:
    type_in(account, FIRST)
    done = subprocess.run(
        [account.home / "listenkey-keeper/.venv-cli/bin/listenkeys", "status"],
        cwd=account.home / "listenkey-keeper",
        env=account.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    assert "alice" in done.stdout
    # Lambda reads the zip's files as another user, so everybody must be able to read them.
    built = account.home / "listenkey-keeper/.aws-sam/build/KeepaliveFunction"
    assert [path for path in built.rglob("*") if not path.stat().st_mode & 0o004] == []


@pytest.mark.timeout(1000)
def test_a_bot_hears_in_the_local_world_as_the_pages_say(account: Account) -> None:
    folder = account.home / "listenkey-keeper"
    assert folder.exists(), "the newcomer's test comes first"
    readme = page_text("README.md")
    (folder / "bot.py").write_text(readme.partition("```python\n")[2].partition("```")[0])
    type_in(account, OF_A_BOT[:-1], "cd listenkey-keeper")
    type_in(account, OF_A_CLIENT[:-2], "cd listenkey-keeper")
    # It takes a while until the bot's socket is open; orders are emitted until then.
    beside = """
    cd listenkey-keeper
    make up > ../up.out 2>&1 &
    until [ -x .local/with ]; do sleep 0.2; done
    trap 'make down' EXIT
    . .venv-bot/bin/activate
    (while [ -x .local/binance ]; do sleep 1; .local/binance order alice; done) > /dev/null 2>&1 &
    """
    type_in(account, OF_A_BOT[-1:] + OF_A_CLIENT[-2:], beside)


def test_every_line_that_runs_something_is_typed_or_says_why_not() -> None:
    typed = {line.text for line in [*FIRST, *OF_A_BOT, *OF_A_CLIENT, *TO_CHANGE_IT]}
    typed.add("make up")  # by the bot's test
    found = set()
    for page in ("README.md", "CONTRIBUTING.md", "examples/bot/README.md", *PAGES):
        programs = r"git|make|pip|python3?|sam|\.local/with|\.venv-bot/bin/pip"
        for text in re.findall(rf"^ *\$ ((?:{programs})\b.*)$", page_text(page), re.MULTILINE):
            found.add(re.sub(r" +#.*", "", text))
    assert found - typed == set(NOT_TYPED)


@pytest.mark.timeout(1000)
def test_a_contributor_types_the_first_lines_of_contributing(account: Account, tmp_path: Path) -> None:
    type_in(account, TO_CHANGE_IT, f"cd {tmp_path} && git clone -q file://{ROOT} clone && cd clone")
