"""`make run` as a person types it: what the terminal shows, in a world of its own or in one that stays up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.binance.server import BinanceServer

ROOT = Path(__file__).parent.parent.parent
EVENTS = ROOT / "events"
OWN_KEY = "CANARYmyownkey".ljust(64, "x")
Done = subprocess.CompletedProcess[str]
Python = Callable[..., Done]


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Python]:
    """Run a module in an empty directory, as make does in the project's; a world left up is ended."""
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BINANCE_"))
    } | {"PYTHONPATH": f"{ROOT / 'functions/keepalive'}:{ROOT}", "COLUMNS": "200"}

    def run(*arguments: str, **variables: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path, env=ours | variables, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        # Every API key and listenKey here has 64 letters and digits.
        assert not re.search(r"[A-Za-z0-9]{60}", done.stdout + done.stderr)
        return done

    yield run
    if (tmp_path / ".local/world.json").exists():
        run("local.world", "--stop")


def outcomes(done: Done) -> dict[str, str]:
    """Return each account's outcome, as the table at the end shows it."""
    rows = re.findall(r"^(\w+) +(?:usdm|coinm|portfolio|options) +([A-Z]+) ", done.stdout, re.MULTILINE)
    return dict(rows)


def gone(process: int) -> bool:
    """Wait until a process that was told to end has done so."""
    for _ in range(200):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_make_run_is_the_command_that_is_tested_here() -> None:
    def recipe(*arguments: str) -> str:
        told = ["make", "--dry-run", "--assume-old=install", *arguments]
        return subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "-m local.run events/scheduled.json" in recipe("run")
    assert "-m local.run events/dry-run.json --keep" in recipe("run", "EVENT=events/dry-run.json", "KEEP=1")
    assert "-m local.world --stop" in recipe("down")


def test_a_newcomer_sees_four_accounts_in_four_states_and_what_to_do(python: Python, tmp_path: Path) -> None:
    done = python("local.run", str(EVENTS / "scheduled.json"))

    assert (done.returncode, done.stderr) == (0, "")
    assert outcomes(done) == {
        "alice": "EXTENDED",
        "bob": "CREATED",
        "carol": "RECREATED",
        "dave": "REJECTED",
    }
    minutes = re.findall(r"^(alice|bob|carol) +usdm +[A-Z]+ +(\d+)", done.stdout, re.MULTILINE)
    assert [(name, left) for name, left in minutes if left in ("59", "60")] == minutes
    assert len(minutes) == 3
    advice = done.stdout.split("what it returned")[1]
    assert "INVALID_API_KEY" in advice
    assert "check that it is right" in " ".join(advice.split())
    assert not (tmp_path / ".local").exists()


def test_a_world_that_is_kept_shows_what_a_second_run_skips_and_ends_when_told_to(
    python: Python, tmp_path: Path
) -> None:
    first = python("local.run", str(EVENTS / "scheduled.json"), "--keep")
    state = json.loads((tmp_path / ".local/world.json").read_text())

    second = python("local.run", str(EVENTS / "scheduled.json"), "--keep")
    (tmp_path / "odd.json").write_text('{"acounts": ["alice"]}')
    odd = python("local.run", "odd.json")
    down = python("local.world", "--stop")

    assert set(outcomes(first).values()) == {"EXTENDED", "CREATED", "RECREATED", "REJECTED"}
    assert (second.returncode, outcomes(second)) == (
        0,
        {"alice": "SKIPPED", "bob": "SKIPPED", "carol": "SKIPPED", "dave": "REJECTED"},
    )
    assert odd.returncode == 1
    assert "InvalidEvent: unknown field 'acounts'" in odd.stdout
    assert "the local world is down" in down.stdout
    assert gone(state["pid"])
    assert "no local world is up" in python("local.world", "--stop").stdout


def test_an_account_of_ones_own_is_used_instead_of_the_stand_in(python: Python) -> None:
    with BinanceServer() as binance:
        binance.exchange.add_account(OWN_KEY)

        done = python(
            "local.run",
            str(EVENTS / "scheduled.json"),
            BINANCE_API_KEY=OWN_KEY,
            BINANCE_BASE_URL=binance.url,
            BINANCE_PRODUCT="coinm",
        )

        assert outcomes(done) == {"mine": "CREATED"}
        assert [(request.method, request.api_key) for request in binance.exchange.requests] == [
            ("PUT", OWN_KEY),
            ("POST", OWN_KEY),
        ]


@pytest.mark.parametrize("content", [None, "not JSON"])
def test_an_event_file_that_cannot_be_read_is_one_line(
    python: Python, tmp_path: Path, content: str | None
) -> None:
    if content:
        (tmp_path / "mine.json").write_text(content)

    done = python("local.run", "mine.json")

    assert done.returncode == 1
    assert done.stderr.startswith("mine.json: ")
    assert done.stderr.count("\n") == 1
