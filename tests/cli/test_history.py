"""`listenkeys history`: an account's ledger."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from listenkey_keeper.cli.history import _NUMBERS, _TEXTS, history_table, read_history
from listenkey_keeper.cli.output import show
from local.clock import VirtualClock
from local.invoke import LocalFunction
from local.world import World

from .conftest import Run
from .test_status import TICK


def test_history_is_the_ledger_newest_first(
    run: Run, world: World, function: LocalFunction, clock: VirtualClock, api_key: str
) -> None:
    world.add_account("alice", api_key)
    for minutes in (0, 30, 30):
        clock.advance(minutes=minutes)
        function.invoke(TICK)
    world.exchange.revoke(api_key)
    clock.advance(minutes=30)
    function.invoke(TICK)
    done = run("history", "alice")
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[2] for line in lines[1:5]] == ["REJECTED", "EXTENDED", "EXTENDED", "CREATED"]
    assert lines[1][:2] == ["01-01", "01:30:00"]
    assert lines[1][-2:] == ["02:00", "INVALID_API_KEY"]  # until when its key lives
    assert "\nINVALID_API_KEY: Binance refused the API key" in done.stdout
    entries = json.loads(run("history", "alice", "--json").stdout)
    ledger = world.ledger("alice")
    assert [entry["attemptedAt"] for entry in entries] == [item["record"] for item in reversed(ledger)]
    assert entries[0]["errorCode"] == "INVALID_API_KEY"
    assert entries[0]["httpStatus"] == 401
    assert entries[1] == {
        "attemptedAt": ledger[2]["record"],
        "outcome": "EXTENDED",
        "errorCode": None,
        "errorMessage": None,
        "expiresAt": ledger[2]["expiresAt"],
        "listenKeyFingerprint": ledger[2]["listenKeyFingerprint"],
        "runId": ledger[2]["runId"],
        "httpStatus": 200,
        "attempts": 1,
        "latencyMs": ledger[2]["latencyMs"],
    }


def test_an_error_that_is_over_is_not_shown_as_the_present_one(
    run: Run, world: World, function: LocalFunction, clock: VirtualClock, api_key: str
) -> None:
    world.add_account("alice", api_key)
    world.exchange.revoke(api_key)
    function.invoke(TICK)
    shown = run("history", "alice").stdout
    assert "\nINVALID_API_KEY: Binance refused the API key" in shown
    assert "\n  - Check at Binance that the API key exists" in shown
    assert "\n  - To enter an API key: listenkeys accounts add --replace alice\n" in shown
    assert "\n  - Then: listenkeys renew alice\n" in shown
    world.exchange.add_account(api_key)
    clock.advance(minutes=30)
    function.invoke(TICK)
    table, _, below = run("history", "alice").stdout.partition("\n\n")
    assert table.splitlines()[0].split()[-1] == "error"
    assert table.splitlines()[1].split()[2] == "CREATED"
    assert below.startswith("last INVALID_API_KEY, at 01-01 00:00:00: Binance refused the API key")
    assert below.count("\n") == 1


def test_history_stops_at_its_limit(
    run: Run, world: World, function: LocalFunction, clock: VirtualClock
) -> None:
    world.add_account("alice", "k" * 20)
    for _ in range(3):
        function.invoke(TICK)
        clock.advance(minutes=30)
    ledger = world.ledger("alice")
    entries = json.loads(run("history", "alice", "--limit", "2", "--json").stdout)
    assert [entry["attemptedAt"] for entry in entries] == [ledger[2]["record"], ledger[1]["record"]]


def test_a_day_of_more_attempts_than_an_answer_holds_is_read_whole(
    world: World, function: LocalFunction, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listenkey_keeper.cli.history._PAGE", 1)
    world.add_account("alice", "k" * 20)
    for _ in range(5):
        clock.advance(minutes=30)
        function.invoke(TICK)
    dynamodb, table = world.aws.client("dynamodb"), world.aws.outputs["LedgerTableName"]
    # All after this, and the one at it, which shows that there are no more.
    since = clock.now() - timedelta(minutes=90)
    assert len(read_history(dynamodb, table, "alice", 1, since)) == 4
    assert len(read_history(dynamodb, table, "alice", 5, since)) == 5
    assert len(read_history(dynamodb, table, "alice", 9, since)) == 5


@pytest.mark.parametrize(
    ("columns", "heading"),
    [
        (60, "time (UTC)      outcome   tries  ms  listenKey  until  error"),
        (56, "time (UTC)      outcome   tries  listenKey  until  error"),
        (45, "time (UTC)      outcome   tries  until  error"),
        (38, "time (UTC)      outcome   until  error"),
    ],
)
def test_what_a_narrow_terminal_has_no_room_for_is_left_out_in_its_order(columns: int, heading: str) -> None:
    entry: dict[str, Any] = dict.fromkeys((*_TEXTS, *_NUMBERS))
    entry |= {"attemptedAt": "2026-01-01T00:00:00.000Z", "outcome": "EXTENDED", "attempts": 1, "latencyMs": 7}
    console = Console(width=columns)
    with console.capture() as captured:
        console.print(history_table("alice", [entry]))
    first, row, *_ = captured.get().splitlines()
    assert first.rstrip() == heading
    for name, shown in (("tries", "1"), ("ms", "7")):
        assert name not in heading or row[heading.index(name) + len(name) - 1] == shown


def test_the_table_has_dashes_for_nothing_and_years_if_they_differ(
    capsys: pytest.CaptureFixture[str],
) -> None:
    none = dict.fromkeys((*_TEXTS, *_NUMBERS))
    late = {"outcome": "FAILED", "errorCode": "NO_REMEDY", "errorMessage": "late"}
    made = {"attempts": 1, "latencyMs": 12, "expiresAt": "2026-01-01T00:59:00.000Z"}
    entries: list[dict[str, Any]] = [
        {
            **none,
            "attemptedAt": "2026-01-01T00:30:00.000Z",
            **late,
            **made,
            "listenKeyFingerprint": "0123456789",
        },
        {
            **none,
            "attemptedAt": "2026-01-01T00:00:00.000Z",
            **late,
            "errorMessage": "earlier",
            "latencyMs": 0,
        },
        {**none, "attemptedAt": "2025-12-31T23:30:00.000Z", "outcome": "REJECTED", "errorCode": "OTHER"},
        {**none, "attemptedAt": "no time"},
    ]
    show(
        history_table("alice", entries),
        history_table("alice", entries[1:2]),
        history_table("bob", entries[3:]),
    )
    assert capsys.readouterr().out.splitlines() == [
        "time (UTC)           outcome   tries  ms  listenKey  until  error",
        "2026-01-01 00:30:00  FAILED        1  12  01234567   00:59  NO_REMEDY",
        "2026-01-01 00:00:00  FAILED        -   0  -          -      NO_REMEDY",
        "2025-12-31 23:30:00  REJECTED      -   -  -          -      OTHER",
        "no time              -             -   -  -          -",
        "", "NO_REMEDY: late", "last OTHER, at 2025-12-31 23:30:00:",
        "time (UTC)      outcome  tries  ms  listenKey  until  error",
        "01-01 00:00:00  FAILED       -   0  -          -      NO_REMEDY",
        "", "NO_REMEDY: earlier",
        "time (UTC)  outcome  tries  ms  listenKey  until  error",
        "no time     -            -   -  -          -",
    ]  # fmt: skip


def test_renewed_is_green_a_changed_key_cyan_an_error_red() -> None:
    none = dict.fromkeys((*_TEXTS, *_NUMBERS))
    rejected = {"outcome": "REJECTED", "errorCode": "INVALID_API_KEY"}
    entries = [
        {**none, "attemptedAt": "2026-01-01T00:00:00.000Z", "listenKeyFingerprint": "f" * 16, **entry}
        for entry in (rejected, {"outcome": "EXTENDED"}, {"outcome": "CREATED"})
    ]
    console = Console(width=80, force_terminal=True, color_system="standard", no_color=False)
    with console.capture() as captured:
        console.print(history_table("alice", entries))
    rows = captured.get().splitlines()[1:4]
    assert [re.findall(r"\x1b\[(\d+)m *(\w+)", row) for row in rows] == [
        [("31", "REJECTED"), ("2", "ffffffff"), ("31", "INVALID_API_KEY")],
        [("32", "EXTENDED"), ("2", "ffffffff")],
        [("36", "CREATED"), ("36", "ffffffff")],
    ]


def test_history_of_a_new_account_says_so_of_an_unknown_one_fails(run: Run, world: World) -> None:
    world.put_row("alice")
    assert "alice has no attempts yet" in run("history", "alice").stdout
    assert json.loads(run("history", "alice", "--json").stdout) == []
    done = run("history", "nobody")
    assert (done.exit_code, "there is no account nobody" in done.stderr) == (2, True)
