"""`listenkeys renew`: a manual run, its report, and how it ends."""

import io
import json
import re
from types import SimpleNamespace

import pytest

from listenkey_keeper.cli.errors import CliError
from listenkey_keeper.cli.renew import invoke, report_view
from local.clock import VirtualClock
from local.front import Front
from local.invoke import LocalFunction
from local.world import World

from .conftest import Run, Start


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
    [line] = re.findall("`listenkeys (.*)` renews it now", added.stdout)
    done = run(*line.split())
    assert (done.exit_code, "INVALID_API_KEY" in done.stdout) == (1, True)


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


def test_a_dry_run_shows_the_plan_and_sends_nothing(
    run: Run, world: World, front: Front, clock: VirtualClock
) -> None:
    world.add_account("alice", "a" * 20)
    before = world.exchange.count
    done = run("renew", "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].split() == ["alice", "usdm", "renew", "no", "listenKey", "yet"]
    assert done.stdout.splitlines()[-1] == "dry run: nothing was sent; 1 due, 0 not due yet"
    assert (world.exchange.count, world.records("alice")) == (before, [])
    probed = report_view({"plan": [], "skipped": 2, "probe": {"served": True}}, clock.now())
    assert str(probed.renderables[-1]) == "dry run: only the probe was sent; 0 due, 2 not due yet"


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
    assert "60 accounts; not all have a live listenKey" in lines
    assert "  50 accounts: desk-00, " in "\n".join(lines)
    assert lines[-1] == "10 more are not listed: `listenkeys status` shows them"
