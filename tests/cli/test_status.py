"""`listenkeys status`, `history` and `renew`: what they say of a world, and how they end."""

import json
from datetime import timedelta

import pytest

from local.clock import VirtualClock
from local.front import Front
from local.invoke import LocalFunction
from local.world import World

from .conftest import Run

TICK = {"source": "aws.events", "detail-type": "Scheduled Event"}
LISTEN_KEY = "CANARYlisten".ljust(64, "9")


def put(world: World, clock: VirtualClock, account_id: str, minutes_left: float, **current: object) -> None:
    world.put_row(account_id)
    renewed_at = clock.now() - timedelta(minutes=60 - minutes_left)
    world.put_current(account_id, LISTEN_KEY, renewed_at, **current)


@pytest.mark.parametrize(
    ("minutes_left", "exit_code"), [(59.9, 0), (15.01, 0), (14.99, 1), (0.01, 1), (0, 1), (-500, 1)]
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


def test_an_account_without_a_key_is_at_risk(run: Run, world: World) -> None:
    world.put_row("alice")
    assert run("status").exit_code == 1


def test_a_disabled_account_is_never_at_risk(run: Run, world: World, clock: VirtualClock) -> None:
    world.put_row("alice", enabled=False)
    world.put_row("bob", enabled=False, product="spot")
    done = run("status")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].split() == ["alice", "usdm", "DISABLED", "-", "-"]
    assert done.stdout.splitlines()[-1] == "0 accounts: 0 well, 2 disabled"


def test_status_of_nothing_is_well_and_says_how_to_add(run: Run) -> None:
    done = run("status")
    assert (done.exit_code, "`listenkeys accounts add`" in done.stdout) == (0, True)


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
    assert lines[wrong + 1 : wrong + 3] == [
        "  Correct the attribute that the message names, in AccountsTable.",
        "  carol",
    ]
    assert lines[-1] == "3 accounts: 1 well, 2 at risk (carol, bob), 1 disabled"


def test_an_account_that_fails_while_its_key_lives_is_not_called_well(
    run: Run, world: World, clock: VirtualClock
) -> None:
    put(world, clock, "alice", 20)
    put(world, clock, "bob", 20, outcome="FAILED", errorCode="TIMEOUT", errorMessage="late")
    for number in range(7):
        put(world, clock, f"c{number}", 5)
    done = run("status")
    assert done.stdout.splitlines()[-1] == (
        "9 accounts: 1 well, 7 at risk (c0, c1, c2, c3, c4 and 2 more), 1 failing (bob)"
    )
    assert [line.split()[0] for line in done.stdout.splitlines()[8:10]] == ["bob", "alice"]


def test_trouble_comes_first_and_in_it_the_key_that_dies_first(
    run: Run, world: World, clock: VirtualClock
) -> None:
    put(world, clock, "well-late", 20)
    put(world, clock, "failing", 40, outcome="FAILED", errorCode="TIMEOUT", errorMessage="late")
    put(world, clock, "risk-later", 14)
    put(world, clock, "well", 50)
    put(world, clock, "risk", 2)
    put(world, clock, "dead", -5)
    rows = [line.split()[0] for line in run("status").stdout.splitlines()[1:7]]
    assert rows == ["dead", "risk", "risk-later", "failing", "well-late", "well"]


def test_an_error_that_hits_many_accounts_is_said_once_with_their_names(
    run: Run, world: World, clock: VirtualClock
) -> None:
    for number in range(60):
        message = {"errorMessage": "not tried: Binance is down"}
        put(world, clock, f"desk-{number:02}", 20, outcome="DEFERRED", errorCode="EXCHANGE_DOWN", **message)
    put(world, clock, "other", 20, outcome="DEFERRED", errorCode="EXCHANGE_DOWN", errorMessage="not the same")
    lines = run("status").stdout.splitlines()
    at = lines.index("EXCHANGE_DOWN: not tried: Binance is down")
    assert lines[at + 2] == "  60 accounts: " + ", ".join(f"desk-{number:02}" for number in range(60))
    assert lines[at + 3] == "EXCHANGE_DOWN: not the same"
    assert lines[at + 5] == "  other"


def test_a_key_that_nothing_has_renewed_in_time_says_what_to_check(
    run: Run, world: World, clock: VirtualClock
) -> None:
    put(world, clock, "alice", -40)
    lines = run("status").stdout.splitlines()
    assert lines[3].startswith("No run has renewed this key in time: check that both rules are enabled")
    assert lines[4] == "  alice"


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
        "atRisk": [],
        "accounts": [
            {
                "accountId": "alice",
                "product": "usdm",
                "enabled": True,
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


def test_history_of_a_new_account_says_so_and_of_an_unknown_one_is_an_error(run: Run, world: World) -> None:
    world.put_row("alice")
    assert "nothing was attempted for alice yet" in run("history", "alice").stdout
    assert json.loads(run("history", "alice", "--json").stdout) == []
    done = run("history", "nobody")
    assert (done.exit_code, "there is no account nobody" in done.stderr) == (2, True)


def test_renew_calls_the_function_and_shows_its_report(run: Run, world: World, front: Front) -> None:
    world.add_account("alice", "a" * 20)
    world.add_account("bob", "b" * 20)
    done = run("renew")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines[:2]] == [["outcome", "accounts"], ["CREATED", "2"]]
    assert lines[3].startswith("2 accounts in ")
    assert lines[3].endswith("the least time left on a key is 60 min")
    assert {name: world.current(name)["outcome"] for name in ("alice", "bob")} == {
        "alice": "CREATED",
        "bob": "CREATED",
    }
    again = run("renew")
    assert again.exit_code == 0
    assert "SKIPPED" in again.stdout
    assert json.loads(run("renew", "--force", "--json").stdout)["extended"] == 2


def test_renew_renews_only_the_accounts_named(run: Run, world: World, front: Front) -> None:
    for name in ("alice", "bob", "carol"):
        world.add_account(name, name.ljust(20, "x"))
    report = json.loads(run("renew", "alice", "carol", "--json").stdout)
    assert (report["trigger"], report["created"]) == ("manual", 2)
    assert world.records("bob") == []


def test_renew_ends_with_1_when_an_account_was_not_renewed(run: Run, world: World, front: Front) -> None:
    world.add_account("alice", "a" * 20)
    world.add_account("bob", "b" * 20, known=False)
    done = run("renew")
    assert done.exit_code == 1
    assert "\nINVALID_API_KEY: Binance refused the API key" in done.stdout
    assert done.stdout.splitlines()[-1] == "  bob"
    assert run("renew", "nobody").exit_code == 1
    world.exchange.fault(status=451)
    done = run("renew", "alice", "--force")
    assert done.exit_code == 1
    assert "RESTRICTED_LOCATION" in done.stdout


def test_a_dry_run_shows_the_plan_and_sends_nothing(run: Run, world: World, front: Front) -> None:
    world.add_account("alice", "a" * 20)
    before = world.exchange.count
    done = run("renew", "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].split() == ["alice", "usdm", "renew", "no", "key", "yet"]
    assert done.stdout.splitlines()[-1] == "dry run: nothing was sent; 1 due, 0 not due yet"
    assert (world.exchange.count, world.records("alice")) == (before, [])


def test_a_run_that_raised_is_one_line(
    run: Run, world: World, front: Front, function: LocalFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamodb = function.app.keeper.accounts._dynamodb
    dynamodb.meta.events.register(
        "before-call.dynamodb.Scan", lambda **_: (_ for _ in ()).throw(ConnectionError("CANARY"))
    )
    done = run("renew")
    assert done.exit_code == 2
    assert done.stderr.startswith("listenkeys: the run failed: ")
    assert done.stderr.count("\n") == 1
