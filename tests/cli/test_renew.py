"""`listenkeys renew`: a manual run, its report, and how it ends."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from listenkey_keeper.cli.errors import CliError
from listenkey_keeper.cli.output import show
from listenkey_keeper.cli.renew import _SAYS, event_of, invoke, needs_action, report_view
from listenkeys.model import Outcome
from local.clock import VirtualClock
from local.front import Front
from local.invoke import LocalFunction
from local.world import World

from .conftest import AwsFaults, Run, Start

Report = dict[str, Any]


def test_renew_calls_the_function_and_shows_its_report(run: Run, world: World, front: Front) -> None:
    world.add_account("alice", "a" * 20)
    world.add_account("bob", "b" * 20)
    done = run("renew")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[:2] == ["outcome  accounts", "CREATED         2"]
    assert lines[3] == "2 accounts; least time left on a listenKey: 60 min"
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
    assert "1 of 2 have a live listenKey; bob has none\n\nINVALID_API_KEY: Binance refused" in done.stdout
    assert done.stdout.splitlines()[-1] == "  bob"
    world.exchange.fault(status=451)
    done = run("renew", "alice", "--force")
    assert done.exit_code == 1
    assert "1 account; least time left on a listenKey: 60 min\n\nRESTRICTED_LOCATION" in done.stdout
    assert "\nbob has no live listenKey\n" in run("renew", "bob").stdout


def test_what_failed_after_a_success_is_tried_and_no_old_error_shown(
    run: Run, world: World, front: Front, clock: VirtualClock
) -> None:
    key = "a" * 20
    world.add_account("alice", key)
    assert run("renew").exit_code == 0
    world.exchange.revoke(key)
    assert run("renew", "alice", "--force").exit_code == 1
    sent = world.exchange.count
    for names in (("alice",), ()):
        clock.advance(minutes=1)
        done = run("renew", *names)
        assert (done.exit_code, "INVALID_API_KEY" in done.stdout) == (1, True)
    assert world.exchange.count == sent + 2
    world.exchange.add_account(key)
    done = run("renew", "alice")
    assert (done.exit_code, "INVALID_API_KEY" in done.stdout) == (0, False)
    assert world.current("alice")["listenKey"] == world.exchange.live_key(key, "usdm")


def test_a_replaced_api_key_is_tried_by_the_line_that_add_prints(
    run: Run, world: World, front: Front, clock: VirtualClock, api_key: str
) -> None:
    world.add_account("alice", "a" * 20)
    assert run("renew").exit_code == 0
    clock.advance(minutes=2)
    added = run("accounts", "add", "alice", "--replace", stdin=api_key)  # which Binance does not know
    plain = run("renew", "alice")
    assert plain.exit_code == 0
    assert "SKIPPED: renewed 2 minutes ago; --force renews it anyway" in plain.stdout
    [line] = re.findall("`listenkeys (.*)` does it now", added.stdout)
    done = run(*line.split())
    assert (done.exit_code, "INVALID_API_KEY" in done.stdout) == (1, True)


def test_renew_names_whose_listen_key_is_not_the_recorded_one(
    run: Run, world: World, front: Front, clock: VirtualClock, faults: AwsFaults, api_key: str
) -> None:
    for name in ("alice", "bob", "carol", "erin"):
        world.add_account(name, name.ljust(20, "x"))
    assert "listenKey already" not in run("renew").stdout
    clock.advance(minutes=1)
    world.exchange.rotate("alice".ljust(20, "x"), "usdm")
    world.add_account("dave", "bob".ljust(20, "x"))
    world.exchange.add_account(api_key)  # of an account that nobody has renewed
    run("accounts", "add", "erin", "--replace", stdin=api_key)
    done = run("renew", "--force")
    assert (done.exit_code, done.stderr) == (1, ""), "alice is CHANGED"
    assert done.stdout.splitlines() == [
        "outcome    accounts", "EXTENDED          3", "CHANGED           1", "RECREATED         1", "",
        "5 accounts; least time left on a listenKey: 60 min", "",
        f"{_SAYS[Outcome.CHANGED]}.", "  alice", f"{_SAYS[Outcome.EXTENDED]}.", "  dave",
        f"{_SAYS[Outcome.RECREATED]}.", "  erin",
    ]  # fmt: skip
    clock.advance(minutes=1)
    done = run("renew", "--force")
    assert (done.exit_code, "Binance h" in done.stdout) == (0, False)
    faults.fail("Scan", "AccessDeniedException")
    done = run("renew", "--force")
    assert (done.exit_code, "EXTENDED         5" in done.stdout) == (0, True)
    assert done.stderr == (
        "note: cannot name the accounts whose listenKey is not the recorded one: ListenKeysTable could not "
        "be read: access denied to these AWS credentials: they do not allow this; choose another with "
        "--profile\n"
    )


def test_recreated_accounts_are_named_because_their_bots_missed_events(
    run: Run, world: World, front: Front, clock: VirtualClock
) -> None:
    for name in ("alice", "bob", "carol"):
        world.add_account(name, name.ljust(20, "x"))
    assert run("renew").exit_code == 0
    for options in ((), ("--force",)):
        clock.advance(minutes=61)
        world.exchange.rotate("carol".ljust(20, "x"), "usdm")  # CHANGED, which is always named
        lines = run("renew", *options).stdout.splitlines()
        assert lines[1:3] == ["CHANGED           1", "RECREATED         2"]
        named = sorted(line for line in lines if line.startswith("  "))
        assert named == ["  2 accounts: alice, bob", "  carol"]


def test_renew_names_what_it_cannot_renew_and_what_to_do(run: Run, world: World, front: Front) -> None:
    world.add_account("alice", "a" * 20)
    world.add_account("-bob", "b" * 20, enabled=False)
    done = run("renew", "nobody", "alice", "zoe")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "listenkeys: there is no account nobody, zoe: `listenkeys accounts list` shows the accounts\n"
    )
    assert world.records("alice") == []
    enable = "-bob is disabled: `listenkeys accounts enable -- -bob` enables it"
    for options in ((), ("--dry-run",)):
        done = run("renew", *options, "--", "-bob")
        assert (done.exit_code, done.stdout) == (1, f"{enable}\n")
    done = run("renew", "--", "-bob", "alice", "alice")
    assert done.exit_code == 1
    assert [line.split() for line in done.stdout.splitlines()[:2]] == [
        ["outcome", "accounts"],
        ["CREATED", "1"],
    ]
    assert done.stdout.splitlines()[-1] == enable


def test_a_dry_run_shows_the_plan_and_sends_nothing(run: Run, world: World, front: Front) -> None:
    world.add_account("alice", "a" * 20)
    before = world.exchange.count
    done = run("renew", "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].split() == ["alice", "usdm", "renew", "no", "listenKey", "yet"]
    assert done.stdout.splitlines()[-1] == "dry run: nothing was sent; 1 due, 0 not due yet"
    assert (world.exchange.count, world.records("alice")) == (before, [])


def test_a_terminal_gets_the_plan_of_many_accounts_as_counts(
    run: Run, start: Start, world: World, front: Front, clock: VirtualClock
) -> None:
    for number in range(18):
        world.add_account(f"desk-{number:02}", f"{number:02}".ljust(20, "x"))
    for name, minutes in (("bob", 12), ("carol", 31)):
        world.add_account(name, name.ljust(20, "x"))
        world.put_current(name, "CANARYlisten", clock.now() - timedelta(minutes=minutes))
    world.put_row("dave")
    terminal = start("renew", "--dry-run", NO_COLOR="1")
    assert terminal.end() == 1
    counts = [
        "would  because                   accounts",
        "renew  no listenKey yet                18",
        "renew  renewed 12 to 31 min ago         2",
        "none   an error, as said below          1",
        "",
        "dry run: nothing was sent; 21 due, 0 not due yet (--json lists them)",
        "",
        "SECRET_NOT_FOUND: ",
    ]
    assert "\n".join(counts) in terminal.output.replace("\r", "")
    listed = run("renew", "--dry-run").stdout.splitlines()
    assert (listed[1].split()[0], listed[2].split()[-3:]) == ("carol", ["12", "min", "ago"])
    assert listed[23] == "dry run: nothing was sent; 21 due, 0 not due yet"
    assert len(json.loads(run("renew", "--dry-run", "--json").stdout)["plan"]) == 21


def test_what_the_function_is_sent() -> None:
    assert event_of([], True, False) == {"force": True, "dryRun": False}
    assert event_of(["a"] * 2000, False, True) == {"force": False, "dryRun": True, "accounts": ["a"] * 2000}
    with pytest.raises(CliError, match="at most 2000 accounts can be named"):
        event_of(["a"] * 2001, False, False)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"<html>", "Unhandled: no message"),
        (b"null", "Unhandled: no message"),
        (b'{"errorType": "E"}', "E: no message"),
        (b'{"errorType": "E", "errorMessage": "one\\ntwo"}', "E: one"),
        (b'{"errorMessage": "' + b"x" * 301 + b'"}', "Unhandled: " + "x" * 300),
    ],
)
def test_a_run_that_failed_is_said_in_its_first_line(payload: bytes, said: str) -> None:
    answer = {"FunctionError": "Unhandled", "Payload": io.BytesIO(payload)}
    with pytest.raises(CliError) as caught:
        invoke(SimpleNamespace(invoke=lambda **_: answer), "f", {})
    assert str(caught.value) == f"the run failed: {said} (the function's log has more)"


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"{}", b"<html>"])
def test_an_answer_that_is_no_report_is_said_to_be_none(payload: bytes) -> None:
    client = SimpleNamespace(invoke=lambda **_: {"Payload": io.BytesIO(payload)})
    with pytest.raises(CliError, match="returned no report"):
        invoke(client, "another-function", {})


def test_a_run_that_raised_is_one_line(
    run: Run, world: World, front: Front, function: LocalFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamodb = function.app.keeper.accounts.dynamodb
    dynamodb.meta.events.register(
        "before-call.dynamodb.Scan", lambda **_: (_ for _ in ()).throw(ConnectionError("CANARY"))
    )
    done = run("renew")
    assert done.exit_code == 2
    assert done.stderr.startswith("listenkeys: the run failed: ")
    assert done.stderr.count("\n") == 1


def test_in_a_terminal_renew_shows_for_how_long_it_waits_and_has_colours(
    run: Run, start: Start, world: World, front: Front
) -> None:
    world.add_account("alice", "a" * 20)
    assert run("renew").stderr == ""
    world.add_account("bob", "b" * 20)
    world.add_account("carol", "c" * 20, known=False)
    terminal = start("renew")
    assert terminal.end() == 1
    assert re.search("waiting for the run to end .*0:00:0", terminal.output)
    assert "\x1b[1A\x1b[2K" in terminal.output  # the line that waited is gone
    shown = re.findall(r"\x1b\[(\d+)m(CREATED|REJECTED|SKIPPED)", terminal.output)
    assert sorted(shown) == [("2", "SKIPPED"), ("31", "REJECTED"), ("32", "CREATED")]


@pytest.mark.slow
def test_a_report_of_more_problems_than_it_names_says_so(run: Run, world: World, front: Front) -> None:
    for number in range(60):
        world.add_account(f"desk-{number:02}", f"{number:02}".ljust(20, "x"), known=False)
    lines = run("renew").stdout.splitlines()
    assert "at least 50 of 60 accounts have no live listenKey" in lines
    assert "  50 accounts: desk-00, " in "\n".join(lines)
    assert lines[-1] == "10 more are not listed: `listenkeys status --not-ok` shows those that are not ok"


def problem(
    name: str, code: str = "NO_REMEDY", outcome: str = "REJECTED", until: str | None = None
) -> Report:
    said = {"errorCode": code, "errorMessage": "refused"}
    return {"accountId": name, "outcome": outcome, **said, "expiresAt": until}


DISABLED = problem("bob", "ACCOUNT_DISABLED", "SKIPPED")
ENABLE = "bob is disabled: `listenkeys accounts enable bob` enables it"
FORCE = "--force renews it anyway"
ONE_SKIPPED = ["outcome  accounts", "SKIPPED         1", ""]


@pytest.mark.parametrize(
    ("report", "lines", "code"),
    [
        ({"accounts": 0}, ["0 accounts"], 0),
        (
            {"accounts": 1, "skipped": 1, "minRemainingSeconds": 3541},
            [*ONE_SKIPPED, "1 account; least time left on a listenKey: 59 min; "
             f"SKIPPED: renewed less than a minute ago; {FORCE}"], 0,
        ),
        (
            {"accounts": 1, "skipped": 1, "minRemainingSeconds": 3540},
            [*ONE_SKIPPED, "1 account; least time left on a listenKey: 59 min; "
             f"SKIPPED: renewed 1 minute ago; {FORCE}"], 0,
        ),
        (
            {"accounts": 2, "skipped": 1, "extended": 1, "minRemainingSeconds": 3480},
            ["outcome   accounts", "EXTENDED         1", "SKIPPED          1", "",
             "2 accounts; least time left on a listenKey: 58 min; "
             "SKIPPED: renewed less than 5 minutes ago; --force renews them anyway"], 0,
        ),
        (
            {"accounts": 3, "rejected": 1, "failed": 1, "created": 1, "minRemainingSeconds": 0, "problems": [
                problem("bob"), problem("carol", outcome="FAILED", until="2026-01-01T00:00:00.000Z")]},
            ["outcome   accounts", "CREATED          1", "FAILED           1", "REJECTED         1", "",
             "1 of 3 have a live listenKey; bob, carol have none", "",
             "NO_REMEDY: refused", "  bob", "", "NO_REMEDY: refused", "  carol"], 1,
        ),
        (
            {"accounts": 6, "deferred": 6, "minRemainingSeconds": 60, "problems": [
                problem(f"b{n}", outcome="DEFERRED") for n in range(6)]},
            ["outcome   accounts", "DEFERRED         6", "",
             "6 accounts; least time left on a listenKey: 1 min", "", "NO_REMEDY: refused",
             "  6 accounts: b0, b1, b2, b3, b4 and 1 more (--json names them)"], 1,
        ),
        (
            {"accounts": 2, "deferred": 2, "minRemainingSeconds": 0, "problems": [
                problem("bob", outcome="DEFERRED", until="2026-01-01T00:00:01.000Z"),
                problem("carol", outcome="DEFERRED")]},
            ["outcome   accounts", "DEFERRED         2", "",
             "1 of 2 have a live listenKey; carol has none", "",
             "NO_REMEDY: refused", "  2 accounts: bob, carol"], 1,
        ),
        (
            {"accounts": 9, "deferred": 9, "minRemainingSeconds": 1500},
            ["outcome   accounts", "DEFERRED         9", "",
             "9 accounts; least time left on a listenKey: 25 min", "",
             "9 more are not listed: `listenkeys status --not-ok` shows those that are not ok; one that was "
             "not tried counts as ok until it has less than 24 minutes left"], 1,
        ),
        (
            {"accounts": 3, "failed": 3, "minRemainingSeconds": 0, "problems": [
                problem("bob", outcome="FAILED"), problem("carol", "OTHER", "FAILED")]},
            ["outcome  accounts", "FAILED          3", "",
             "at least 2 of 3 accounts have no live listenKey", "",
             "NO_REMEDY: refused", "  bob", "OTHER: refused", "  carol", "",
             "1 more are not listed: `listenkeys status --not-ok` shows those that are not ok"], 1,
        ),
        (
            {"accounts": 2, "failed": 1, "created": 1, "minRemainingSeconds": 0, "problems": [
                problem("bob", outcome="FAILED", until="2026-01-01T00:00:00.400Z")]},
            ["outcome  accounts", "CREATED         1", "FAILED          1", "",
             "at least 1 of 2 accounts has no live listenKey", "", "NO_REMEDY: refused", "  bob"], 1,
        ),
        (
            {"accounts": 7, "rejected": 6, "created": 1, "minRemainingSeconds": 0,
             "problems": [problem(f"b{n}") for n in range(6)]},
            ["outcome   accounts", "CREATED          1", "REJECTED         6", "",
             "1 of 7 have a live listenKey; b0, b1, b2, b3, b4 and 1 more have none", "",
             "NO_REMEDY: refused", "  6 accounts: b0, b1, b2, b3, b4, b5"], 1,
        ),
        (
            {"accounts": 6, "rejected": 5, "minRemainingSeconds": 0,
             "problems": [problem(f"b{n}") for n in range(5)]},
            ["outcome   accounts", "REJECTED         5", "",
             "1 of 6 have a live listenKey; b0, b1, b2, b3, b4 have none", "",
             "NO_REMEDY: refused", "  5 accounts: b0, b1, b2, b3, b4"], 1,
        ),
        (
            {"accounts": 1, "rejected": 1, "minRemainingSeconds": 0, "problems": [problem("bob")]},
            ["outcome   accounts", "REJECTED         1", "", "bob has no live listenKey", "",
             "NO_REMEDY: refused", "  bob"], 1,
        ),
        ({"accounts": 1, "skipped": 1, "problems": [DISABLED]}, [ENABLE], 1),
        (
            {"accounts": 2, "skipped": 1, "created": 1, "minRemainingSeconds": 60, "problems": [DISABLED]},
            ["outcome  accounts", "CREATED         1", "",
             "1 account; least time left on a listenKey: 1 min", "", ENABLE], 1,
        ),
        (
            {"accounts": 3, "skipped": 2, "problems": [DISABLED],
             "plan": [{"accountId": "alice", "product": "usdm", "action": "renew", "reason": "due"}]},
            ["account  product  would  because", "alice    usdm     renew  due", "",
             "dry run: nothing was sent; 1 due, 1 not due yet", "", ENABLE], 1,
        ),
        (
            {"accounts": 1200, "plan": [
                {"accountId": "a", "product": "usdm", "action": "renew", "reason": "due"}] * 1000},
            ["account  product  would  because", *["a        usdm     renew  due"] * 1000, "",
             "dry run: nothing was sent; 1000 or more due, 0 not due yet"], 0,
        ),
        (
            {"accounts": 2, "skipped": 2, "plan": [], "probe": {"served": True}},
            ["dry run: only the probe was sent; 0 due, 2 not due yet"], 0,
        ),
    ],
)  # fmt: skip
def test_a_report_says_who_has_no_live_key_and_what_was_skipped(
    capsys: pytest.CaptureFixture[str], report: Report, lines: list[str], code: int
) -> None:
    show(report_view(report, datetime(2026, 1, 1, tzinfo=UTC)))
    assert capsys.readouterr().out.splitlines() == lines
    assert needs_action(report) == bool(code)
