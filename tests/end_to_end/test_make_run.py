"""`make run` as a person types it: what the terminal shows, with and without KEEP=1."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from local.binance.server import BinanceServer
from local.world import MAKING
from tests.paths import PYTHONPATH, ROOT
from tests.terminal import Terminal
from tests.waiting import eventually

pytestmark = pytest.mark.e2e
EVENTS = ROOT / "events"
OWN_KEY = "CANARYmyownkey".ljust(64, "x")
Done = subprocess.CompletedProcess[str]
Python = Callable[..., Done]


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Python]:
    """Run a module in an empty directory, as make does in the project's.

    A local environment that is left running is stopped at the end.
    """
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BINANCE_"))
    } | {"PYTHONPATH": PYTHONPATH, "COLUMNS": "200"}

    def run(*arguments: str, typed: str = "", **variables: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path, env=ours | variables, input=typed, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        # No API key or listenKey may be printed; each has 64 letters and digits.
        assert not re.search(r"[A-Za-z0-9]{60}", done.stdout + done.stderr)
        return done

    yield run
    if (tmp_path / ".local/world.json").exists():
        run("local", "down")


def outcomes(done: Done) -> dict[str, str]:
    """Return each account's outcome, as the table at the end of the output shows it."""
    rows = re.findall(r"^(\w+) +(?:usdm|coinm|portfolio|options) +([A-Z]+) ", done.stdout, re.MULTILINE)
    return dict(rows)


def gone(process: int) -> bool:
    """Return whether a process has ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_newcomer_sees_four_accounts_in_four_states_and_what_to_do(python: Python, tmp_path: Path) -> None:
    done = python("local", "run", str(EVENTS / "scheduled.json"))

    assert done.returncode == 0
    assert done.stderr.splitlines() == [f"{MAKING} ..."]
    assert outcomes(done) == {
        "alice": "EXTENDED",
        "bob": "CREATED",
        "carol": "RECREATED",
        "dave": "REJECTED",
    }
    minutes = re.findall(r"^(alice|bob|carol) +usdm +[A-Z]+ +(\d+)", done.stdout, re.MULTILINE)
    assert [(name, left) for name, left in minutes if left in ("59", "60")] == minutes
    assert len(minutes) == 3
    advice = done.stdout.split("log of the function")[0]
    assert "INVALID_API_KEY" in advice
    assert "Check at Binance that the API key exists" in " ".join(advice.split())
    assert "dave is meant to fail" in done.stdout.split("REJECTED")[0]
    assert done.stdout.count('"recreated": 1') == 1
    assert "KeysChanged=2 (created, recreated or changed)" in done.stdout
    *_, following, last = done.stdout.splitlines()
    assert following.startswith("Next: `make up SPEED=60`")
    assert last.startswith("There you can also fix dave")
    assert not (tmp_path / ".local").exists()


def test_a_kept_world_shows_what_a_second_run_skips(python: Python, tmp_path: Path) -> None:
    first = python("local", "run", str(EVENTS / "scheduled.json"), "--keep")
    state = json.loads((tmp_path / ".local/world.json").read_text())

    second = python("local", "run", str(EVENTS / "scheduled.json"), "--keep")
    (tmp_path / "odd.json").write_text('{"acounts": ["alice"]}')
    odd = python("local", "run", "odd.json")
    down = python("local", "down")

    assert set(outcomes(first).values()) == {"EXTENDED", "CREATED", "RECREATED", "REJECTED"}
    assert (second.returncode, outcomes(second)) == (
        0,
        {"alice": "SKIPPED", "bob": "SKIPPED", "carol": "SKIPPED", "dave": "REJECTED"},
    )
    assert [run.stdout.count("dave is meant to fail") for run in (first, second, odd)] == [1, 0, 0]
    assert odd.returncode == 1
    assert "InvalidEvent: unknown field 'acounts'" in odd.stdout
    assert "the local environment has stopped" in down.stdout
    eventually(lambda: gone(state["pid"]))
    assert "no local environment is running" in python("local", "down").stdout


def test_an_account_of_ones_own_is_named_before_its_key_is_asked_for(
    tmp_path: Path,
) -> None:
    with BinanceServer() as binance:
        binance.exchange.add_account(OWN_KEY)
        run = ("local", "run", str(EVENTS / "scheduled.json"), "--account", "real", "--product", "coinm")
        environment = {"PYTHONPATH": PYTHONPATH, "BINANCE_API_KEY": "another"}
        command = (sys.executable, "-m", *run, "--host", binance.url)
        with closing(Terminal((), 200, environment, command, tmp_path)) as terminal:
            terminal.wait_for("API key (not shown): ")
            assert f"your own account at Binance (coinm), at {binance.url}" in terminal.output
            assert binance.exchange.requests == []
            terminal.type(f"{OWN_KEY}\n")
            assert terminal.end() == 0
            assert re.search(r"mine +coinm +\S*CREATED", terminal.output)
            assert OWN_KEY not in terminal.output
            assert "dave" not in terminal.output
        up = (sys.executable, "-m", "local", "up", "--account", "real", "--host", binance.url)
        for program, typed, code in ((command, "\x04", 1), (command, "\x03", 130), (up, "\x03", 130)):
            with closing(Terminal((), 200, environment, program, tmp_path)) as terminal:
                terminal.wait_for("API key (not shown): ")
                terminal.type(typed)
                assert (terminal.end(), "Traceback" in terminal.output) == (code, False)
                assert typed == "\x03" or "no API key was given: nothing was sent" in terminal.output
        # The first request, without the key, finds out whether the host answers at all.
        assert [(request.method, request.api_key) for request in binance.exchange.requests] == [
            ("GET", None),
            ("PUT", OWN_KEY),
            ("POST", OWN_KEY),
        ]


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ("none.json", "none.json: No such file or directory\n"),
        ("text.json", "text.json: not JSON: Expecting value"),
        ("", "EVENT is empty: give it a file, such as EVENT=events/dry-run.json\n"),
    ],
)
def test_an_event_file_that_cannot_be_read_is_one_line(
    python: Python, tmp_path: Path, event: str, says: str
) -> None:
    (tmp_path / "text.json").write_text("not JSON")

    done = python("local", "run", event)

    assert done.returncode == 1
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1


def test_a_dry_run_shows_the_plan(python: Python) -> None:
    done = python("local", "run", str(EVENTS / "dry-run.json"))

    assert re.findall(r"^(\w+) +usdm +(\w+) ", done.stdout, re.MULTILINE) == [
        ("alice", "renew"),
        ("bob", "renew"),
        ("dave", "renew"),
        ("carol", "renew"),
    ]
    assert "SKIPPED" not in done.stdout


CONFIG = """
[default]
region = us-east-1
ignore_configured_endpoint_urls = true
services = mine
[services mine]
dynamodb =
  endpoint_url = http://127.0.0.1:1
"""


@pytest.mark.parametrize("keep", [False, True])
def test_the_aws_settings_of_the_person_at_the_keyboard_do_not_matter(
    python: Python, tmp_path: Path, keep: bool
) -> None:
    (tmp_path / "config").write_text(CONFIG)
    theirs = {
        "AWS_PROFILE": "no-such-profile",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:1",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_REGION": "us-east-1",
    }

    done = python("local", "run", str(EVENTS / "scheduled.json"), *["--keep"] * keep, **theirs)

    assert done.returncode == 0, done.stderr
    assert outcomes(done)["alice"] == "EXTENDED"
    if keep:
        assert ".local/listenkeys" in done.stdout
        command = [tmp_path / ".local/listenkeys", "renew", "--force"]
        renewed = subprocess.run(command, env=os.environ | theirs, capture_output=True, text=True)
        assert (renewed.returncode, renewed.stderr) == (1, "")  # dave
        assert re.search(r"EXTENDED +3", renewed.stdout)


def test_an_exported_api_key_sends_nothing_to_binance(python: Python) -> None:
    with BinanceServer() as binance:
        binance.exchange.add_account(OWN_KEY)
        done = python(
            "local", "run", str(EVENTS / "scheduled.json"),
            BINANCE_API_KEY=OWN_KEY, BINANCE_BASE_URL=binance.url, BINANCE_PRODUCT="coinm", ACCOUNT="real",
        )  # fmt: skip

        assert set(outcomes(done)) == {"alice", "bob", "carol", "dave"}
        assert binance.exchange.requests == []


@pytest.mark.parametrize(
    ("arguments", "key", "says"),
    [
        (("--host", "http://127.0.0.1:1"), OWN_KEY, "http://127.0.0.1:1 does not answer (ConnectionError)"),
        ((), "no key", "that is not an API key"),
        ((), "", "no API key was given: nothing was sent"),
        (("--keep",), OWN_KEY, "use `make up ACCOUNT=real`"),
    ],
)
def test_a_real_account_that_cannot_be_used_ends_the_command_early(
    python: Python, arguments: tuple[str, ...], key: str, says: str
) -> None:
    done = python(
        "local", "run", str(EVENTS / "scheduled.json"), "--account", "real", *arguments, typed=f"{key}\n"
    )

    assert done.returncode == 1
    assert says in done.stderr
    assert MAKING not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refused_api_key_of_ones_own_is_not_repaired_in_the_stack(python: Python) -> None:
    with BinanceServer() as binance:
        run = ("local", "run", str(EVENTS / "scheduled.json"), "--account", "real", "--host", binance.url)
        done = python(*run, typed=f"{OWN_KEY}\n")

    assert outcomes(done) == {"mine": "REJECTED"}
    assert MAKING not in done.stderr
    assert done.stdout.endswith("commands above are for your stack in AWS.\n")


def test_two_worlds_that_are_kept_at_once_are_one(python: Python, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(python, "local", "run", str(EVENTS / "dry-run.json"), "--keep") for _ in range(2)]
        assert [run.result().returncode for run in runs] == [0, 0]

    pid = json.loads((tmp_path / ".local/world.json").read_text())["pid"]
    python("local", "down")
    eventually(lambda: gone(pid))
    assert sorted(file.name for file in (tmp_path / ".local").iterdir()) == ["function.log", "world.log"]


def test_a_place_that_cannot_be_written_to_is_one_line(python: Python, tmp_path: Path) -> None:
    (tmp_path / ".local").write_text("a file where the directory should be")

    done = python("local", "run", str(EVENTS / "scheduled.json"), "--keep")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == ".local: File exists"
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_a_run_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local", "run", str(EVENTS / "scheduled.json")]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        told = process.stderr.readline()
        process.send_signal(signal.SIGINT)

        assert MAKING in told
        assert process.stderr.read().strip() == ""
    assert process.returncode == 130
