"""`listenkeys status`: what it says of a world, and how it ends."""

import json
from datetime import timedelta

import pytest

from local.clock import VirtualClock
from local.front import Front
from local.invoke import LocalFunction
from local.world import World
from tests.faults.matrix import TICK
from tests.widget import load_widget

from .conftest import Run

LISTEN_KEY = "CANARYlisten".ljust(64, "9")


def put(
    world: World,
    clock: VirtualClock,
    account_id: str,
    minutes_left: float,
    enabled: bool = True,
    **current: object,
) -> None:
    world.put_row(account_id, enabled=enabled)
    renewed_at = clock.now() - timedelta(minutes=60 - minutes_left)
    world.put_current(account_id, LISTEN_KEY, renewed_at, **current)


@pytest.mark.parametrize(
    ("minutes_left", "exit_code"), [(59.9, 0), (20, 0), (14.99, 1), (0.01, 1), (0, 1), (-500, 1)]
)
def test_status_ends_with_1_when_a_key_has_less_than_15_minutes(
    run: Run, world: World, clock: VirtualClock, minutes_left: float, exit_code: int
) -> None:
    put(world, clock, "alice", 60)
    put(world, clock, "bob", minutes_left)
    assert run("status").exit_code == exit_code
    done = run("status", "--json")
    assert done.exit_code == exit_code
    assert json.loads(done.stdout)["atRisk"] == ["bob"] * exit_code


def test_a_key_that_no_run_has_renewed_for_40_minutes_is_not_ok(
    run: Run, world: World, clock: VirtualClock
) -> None:
    put(world, clock, "alice", 60)
    put(world, clock, "bob", 19)
    done = run("status")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[4:] == [
        "The listenKey is old, and no run has tried it since its last renewal: wait for the next sweep, or "
        "run listenkeys renew; if that fails, see listenkeys check.",
        "  bob",
        "",
        "2 accounts: 1 ok, 1 failing (bob)",
    ]
    assert json.loads(run("status", "--json").stdout)["atRisk"] == []


def test_an_account_without_a_key_is_at_risk(run: Run, world: World) -> None:
    world.put_row("alice")
    assert run("status").exit_code == 1
    assert json.loads(run("status", "--json").stdout)["status"] == "unknown"


def test_a_disabled_account_is_never_at_risk(run: Run, world: World, clock: VirtualClock) -> None:
    world.put_row("alice", enabled=False)
    world.put_row("bob", enabled=False, product="spot")
    put(world, clock, "carol", 7, enabled=False)
    put(world, clock, "dave", -2, enabled=False)
    done = run("status")
    assert done.exit_code == 0
    lines = {line.split()[0]: line.split()[2:] for line in done.stdout.splitlines()[1:5]}
    assert lines["alice"] == ["DISABLED", "-", "-"]
    assert lines["carol"][:3] == ["DISABLED", "7", "min"]  # its listenKey lives until it expires
    assert lines["dave"][:2] == ["DISABLED", "-"]
    assert done.stdout.splitlines()[-1] == "4 accounts: 0 ok, 4 disabled"


def test_status_of_nothing_is_well_and_says_how_to_add(run: Run) -> None:
    done = run("status")
    assert (done.exit_code, "`listenkeys accounts add NAME`" in done.stdout) == (0, True)


def test_status_shows_those_in_danger_first_and_why(run: Run, world: World, clock: VirtualClock) -> None:
    put(world, clock, "alice", 47.2)
    failed = {"outcome": "REJECTED", "errorCode": "INVALID_API_KEY", "errorMessage": "Binance refused " * 20}
    put(world, clock, "bob", 3, **failed)
    world.put_row("carol", product="spot")
    world.put_row("dave", enabled=False)
    done = run("status")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines[:5]] == [
        ["account", "product", "outcome", "left", "last", "try"],
        ["carol", "-", "NEW", "none", "-"],
        ["bob", "usdm", "REJECTED", "3", "min", "57", "min", "ago"],
        ["alice", "usdm", "EXTENDED", "47", "min", "13", "min", "ago"],
        ["dave", "usdm", "DISABLED", "-", "-"],
    ]
    assert f"INVALID_API_KEY: {'Binance refused ' * 20}".strip() in lines  # in a pipe: one line
    wrong = next(number for number, line in enumerate(lines) if line.startswith("INVALID_ACCOUNT: "))
    assert "product spot" in lines[wrong]
    assert lines[wrong + 1 : wrong + 5] == [
        "  - Correct it: listenkeys accounts set --OPTION VALUE carol (or enable carol)",
        "  - A wrong secretId: remove the account and add it again",
        "  - Then: listenkeys renew carol",
        "  carol",
    ]
    assert lines[-1] == "4 accounts: 1 ok, 2 at risk (carol, bob), 1 disabled"


def test_an_account_that_fails_while_its_key_lives_is_not_called_well(
    run: Run, world: World, clock: VirtualClock
) -> None:
    put(world, clock, "alice", 30)
    put(world, clock, "bob", 35, outcome="FAILED", errorCode="TIMEOUT", errorMessage="late")
    done = run("status", "--json")
    assert (json.loads(done.stdout)["status"], done.exit_code) == ("action needed", 1)
    for number in range(7):
        put(world, clock, f"c{number}", 5)
    done = run("status")
    assert done.stdout.splitlines()[-1] == (
        "9 accounts: 1 ok (1 not tried since TIMEOUT), 7 at risk (c0, c1, c2, c3, c4 and 2 more), "
        "1 failing (bob)"
    )
    assert [line.split()[0] for line in done.stdout.splitlines()[8:10]] == ["bob", "alice"]


def test_an_error_that_hits_many_accounts_is_said_once_with_their_names(
    run: Run, world: World, clock: VirtualClock
) -> None:
    for number in range(60):
        message = {"errorMessage": "not tried: Binance is down"}
        put(world, clock, f"desk-{number:02}", 20, outcome="DEFERRED", errorCode="EXCHANGE_DOWN", **message)
    put(world, clock, "other", 20, outcome="DEFERRED", errorCode="EXCHANGE_DOWN", errorMessage="not the same")
    lines = run("status").stdout.splitlines()
    at = lines.index("EXCHANGE_DOWN: not tried: Binance is down")
    assert lines[at + 3] == "  60 accounts: " + ", ".join(f"desk-{number:02}" for number in range(60))
    assert lines[at + 4] == "EXCHANGE_DOWN: not the same"
    assert lines[at + 5] == "  other", "what to do is said once"


def test_accounts_that_are_named_are_shown_alone_and_decide_the_exit_code(
    run: Run, world: World, clock: VirtualClock
) -> None:
    for name, minutes in (("alice", 50), ("bob", 3), ("carol", 50)):
        put(world, clock, name, minutes)
    done = run("status", "alice", "carol")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "2 accounts: 2 ok")
    assert "bob" not in done.stdout
    done = run("status", "bob", "--json")
    assert done.exit_code == 1
    assert [each["accountId"] for each in json.loads(done.stdout)["accounts"]] == ["bob"]
    done = run("status", "alice", "zoe")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("listenkeys: there is no account zoe: `")
    said = run("status", "alicia", "zoe", "barol").stderr
    assert "no account alicia, barol, zoe: did you mean alice, carol? `" in said
    world.add_account("owner62-310", "e" * 20)
    assert "did you mean owner62-310?" in run("status", "onwer62-310").stderr
    assert "did you mean" not in run("status", "owner21-105").stderr
    for number in range(7):
        world.put_row(f"owner20-10{number}", secretId="listenkeys/owner20" if number else "listenkeys/x")
        world.put_row(f"owner30-10{number}")
    says = (
        "`--secret listenkeys/owner20` means owner20-101, owner20-102, owner20-103, owner20-104, owner20-105"
    )
    tail = " and 1 more; `listenkeys accounts list` shows the accounts\n"
    for command in (("status",), ("accounts", "disable")):
        assert f"no account owner20: {says}{tail}" in run(*command, "owner20").stderr
    meant = "did you mean owner30-100, owner30-101, owner30-102, owner30-103, owner30-104 and 2 more? "
    assert f"no account owner30: {meant}" in run("status", "owner30").stderr
    # `history` takes one name, and no --secret.
    assert "no account owner20: did you mean owner20-100, " in run("history", "owner20").stderr
    done = run("status", "k" * 64)
    assert (done.exit_code, "k" * 64 in done.output) == (2, False)


def test_a_key_that_nothing_has_renewed_in_time_says_what_to_check(
    run: Run, world: World, clock: VirtualClock
) -> None:
    put(world, clock, "alice", -40)
    lines = run("status").stdout.splitlines()
    assert lines[3].startswith(
        "The listenKey has died, and no run has tried it since its last renewal: wait for the next sweep, or "
        "run listenkeys renew; if that fails, see listenkeys check."
    )
    assert lines[4] == "  alice"


@pytest.mark.parametrize(("status", "code"), [(418, "IP_BANNED"), (503, "SERVER_ERROR")])
def test_accounts_that_no_run_tried_are_told_what_stopped_the_runs(
    run: Run, world: World, clock: VirtualClock, function: LocalFunction, status: int, code: str
) -> None:
    for number in range(8):
        world.add_account(f"acc{number}", f"{number}" * 64)
    function.invoke(TICK)
    world.exchange.fault(status=status)
    for minutes in (31, 15):
        clock.advance(minutes * 60)
        function.invoke(TICK)
    message = "not tried since the runs met this error"
    rows = json.loads(run("status", "--json").stdout)["accounts"]
    untried = [row["accountId"] for row in rows if row["errorMessage"] == message]
    assert len(untried) > 1, rows
    assert {row["errorCode"] for row in rows} == {code}
    lines = run("status").stdout.splitlines()
    at = lines.index(f"{code}: {message}")
    assert lines[at + 1] == f"  {len(untried)} accounts: {', '.join(untried)}", (
        "below what was met, and the steps"
    )
    assert lines[-1].startswith("8 accounts: 0 ok, ")
    widget = load_widget(world, clock)({})
    assert widget.count(f"<code>{code}</code> {message}") == len(untried)
    # It is over once an account was renewed later: the error says nothing of the others any more.
    clock.advance(1)
    put(world, clock, "zoe", 60)
    assert message not in run("status").stdout


@pytest.mark.parametrize(
    ("minutes", "shown"), [(59.99, "59 min"), (14.99, "14 min"), (1, "1 min"), (0.99, "<1 min"), (0, "dead")]
)
def test_minutes_are_rounded_down(
    run: Run, world: World, clock: VirtualClock, minutes: float, shown: str
) -> None:
    put(world, clock, "alice", minutes)
    assert f"  {shown}  " in run("status").stdout.splitlines()[1]


def test_status_as_json_is_all_that_is_known_but_the_key(run: Run, world: World, clock: VirtualClock) -> None:
    put(world, clock, "alice", 47.5, consecutiveFailures={"N": "2"}, errorCode="TIMEOUT", errorMessage="late")
    done = run("status", "--json")
    assert json.loads(done.stdout) == {
        "status": "action needed",
        "atRisk": [],
        "accounts": [
            {
                "accountId": "alice",
                "product": "usdm",
                "environment": "live",
                "enabled": True,
                "status": "action needed",
                "renewAfterMinutes": None,
                "outcome": "EXTENDED",
                "atRisk": False,
                "minutesLeft": 47.5,
                "expiresAt": "2026-01-01T00:47:30.000Z",
                "renewedAt": "2025-12-31T23:47:30.000Z",
                "attemptedAt": "2025-12-31T23:47:30.000Z",
                "consecutiveFailures": 2,
                "errorCode": "TIMEOUT",
                "errorMessage": "late",
            }
        ],
    }


def test_status_shows_at_which_age_a_key_is_renewed_where_a_row_says_so(
    run: Run, world: World, clock: VirtualClock
) -> None:
    put(world, clock, "alice", 58)
    put(world, clock, "bob", 47)
    world.put_row("alice", renewAfterMinutes={"N": "5"})
    assert run("status").stdout.splitlines()[:3] == [
        "account  product  outcome     left  last try    renew after",
        "bob      usdm     EXTENDED  47 min  13 min ago  -",
        "alice    usdm     EXTENDED  58 min  2 min ago   5 min",
    ]
    listed = json.loads(run("status", "--json").stdout)["accounts"]
    assert [account["renewAfterMinutes"] for account in listed] == [5, None]


def test_no_command_shows_a_listen_key_or_an_api_key(
    run: Run, world: World, function: LocalFunction, front: Front, api_key: str
) -> None:
    world.add_account("alice", api_key)
    commands = (
        ["status"], ["status", "--json"], ["history", "alice"], ["history", "alice", "--json"], ["renew"],
        ["renew", "--force", "--json"], ["renew", "--dry-run", "--force"], ["accounts", "list"],
        ["accounts", "list", "--json"], ["accounts", "disable", "alice", "--json"],
        ["accounts", "remove", "alice", "--yes", "--json"],
    )  # fmt: skip
    function.invoke(TICK)
    keys = [api_key, world.current("alice")["listenKey"]]
    for command in commands:
        done = run(*command)
        assert done.exit_code == 0, command
        assert not any(key in done.output or key[:20] in done.output for key in keys), command


def test_plain_text_comes_out_of_a_pipe(run: Run, world: World, clock: VirtualClock) -> None:
    put(world, clock, "alice", 3)
    output = run("status").stdout
    assert "\x1b" not in output
    assert output.isascii()
    assert all(line == line.rstrip() for line in output.splitlines())


def test_watch_needs_a_terminal(run: Run) -> None:
    done = run("status", "--watch")
    assert (done.exit_code, done.stderr.count("\n"), "--watch needs a terminal" in done.stderr) == (
        2,
        1,
        True,
    )
