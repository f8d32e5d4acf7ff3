"""Who is due in a run, in which order, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from listenkeys.errors import ErrorCode, Rejected
from listenkeys.model import LEASE, NOTHING, Account, Current, fingerprint
from listenkeys.selection import DueRule, Selection, select
from listenkeys.trigger import EXPIRED, MANUAL, SWEEP, TICK, Trigger

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OVERDUE = timedelta(minutes=31)
A_TICK, A_SWEEP, A_MANUAL = Trigger(TICK), Trigger(SWEEP), Trigger(MANUAL)
BAD_ROW = Rejected(ErrorCode.INVALID_ACCOUNT, "AccountsTable row: product must be one of ...")


def account(id_: str, **fields: Any) -> Account:
    return Account(id_, "usdm", f"listenkeys/{id_}", "apiKey", **fields)


def renewed(minutes_ago: float, outcome: str = "EXTENDED", **fields: Any) -> Current:
    at = NOW - timedelta(minutes=minutes_ago)
    return Current("key", outcome, at, at, at + LEASE, **fields)


def never(outcome: str) -> Current:
    return Current(outcome=outcome, attempted_at=NOW, error_code="INVALID_API_KEY", error_message="why")


def selected(
    accounts: list[Account], current: dict[str, Current], trigger: Trigger = A_TICK, run_id: str = "this"
) -> Selection:
    return select(accounts, current, due_rule(trigger, run_id))


def due_rule(trigger: Trigger, run_id: str = "this", overdue: timedelta = OVERDUE) -> DueRule:
    return DueRule(trigger, run_id, NOW, lambda minutes: timedelta(minutes=minutes) if minutes else overdue)


@pytest.mark.parametrize(
    ("before", "tick", "sweep", "manual"),
    [
        pytest.param(NOTHING, True, True, True, id="new"),
        pytest.param(never("FAILED"), True, True, True, id="never succeeded"),
        pytest.param(never("REJECTED"), True, False, True, id="rejected from the start"),
        pytest.param(
            replace(never("REJECTED"), attempted_at=NOW - timedelta(minutes=52)),
            True,
            True,
            True,
            id="rejected from the start, tried 52 minutes ago",
        ),
        pytest.param(replace(renewed(0), listen_key=None), True, True, True, id="renewed, but without a key"),
        pytest.param(renewed(0), False, False, False, id="0 min"),
        pytest.param(renewed(4.99), False, False, False, id="just under 5 min"),
        pytest.param(renewed(5), True, False, True, id="5 min"),
        pytest.param(renewed(30.9), True, False, True, id="30.9 min: the tick's"),
        pytest.param(renewed(31), True, True, True, id="31 min: overdue"),
        pytest.param(renewed(59), True, True, True, id="59 min"),
        pytest.param(renewed(600), True, True, True, id="dead for hours"),
        pytest.param(renewed(20, "FAILED"), True, True, True, id="failed, 20 min"),
        pytest.param(renewed(2, "FAILED"), False, True, True, id="failed, renewed 2 min ago"),
        pytest.param(renewed(2, "REJECTED"), False, False, True, id="rejected, renewed 2 min ago"),
        pytest.param(renewed(20, "REJECTED"), True, False, True, id="rejected, key lives, not overdue"),
        pytest.param(renewed(40, "REJECTED"), True, True, True, id="rejected, key lives, overdue"),
        pytest.param(renewed(60, "REJECTED"), True, True, True, id="rejected, key dead, tried an hour ago"),
        pytest.param(
            replace(renewed(60, "REJECTED"), attempted_at=NOW - timedelta(minutes=30)),
            True,
            False,
            True,
            id="rejected, key dead, tried half an hour ago",
        ),
        pytest.param(renewed(-0.5), False, False, False, id="renewed half a minute from now"),
        pytest.param(renewed(-20), True, True, True, id="renewed in the future: a clock was wrong"),
    ],
)
def test_who_is_due(before: Current, tick: bool, sweep: bool, manual: bool) -> None:
    alice = account("alice")

    assert due_rule(A_TICK)(alice, before)[0] is tick
    assert due_rule(A_SWEEP)(alice, before)[0] is sweep
    assert due_rule(A_MANUAL)(alice, before)[0] is manual
    assert due_rule(Trigger(MANUAL, force=True))(alice, before) == (True, "asked for with force")


@pytest.mark.parametrize(
    ("before", "trigger", "why"),
    [
        (NOTHING, A_TICK, "no listenKey yet"),
        (renewed(31), A_SWEEP, "renewed 31 min ago"),
        (renewed(2), A_TICK, "renewed 2 min ago"),
        (renewed(20, "FAILED"), A_SWEEP, "the last attempt failed, renewed 20 min ago"),
        (renewed(40, "REJECTED"), A_SWEEP, "rejected, renewed 40 min ago"),
        (
            never("REJECTED"),
            A_SWEEP,
            "rejected, without a listenKey: tried once an hour and by the next tick",
        ),
        (renewed(-20), A_TICK, "renewed in the future: a clock was wrong"),
    ],
)
def test_it_says_why_an_account_is_or_is_not_due(before: Current, trigger: Trigger, why: str) -> None:
    assert due_rule(trigger)(account("alice"), before)[1] == why


@pytest.mark.parametrize(
    ("key", "tried", "due"),
    [("key", 30, True), ("key", 29, False), ("key", -29, False), ("key", -30, True), ("another", 600, False)],
)
def test_a_bot_is_believed_of_the_recorded_key_30_seconds_after_a_try(
    key: str, tried: float, due: bool
) -> None:
    before = replace(renewed(20), attempted_at=NOW - timedelta(seconds=tried))
    other = "another listenKey is recorded than the one that is said to be dead"
    why = f"said to be dead, tried {tried} s ago" if key == "key" else other

    assert due_rule(Trigger(EXPIRED, fingerprint=fingerprint(key)))(account("alice"), before) == (due, why)


def test_a_row_can_ask_the_sweep_to_renew_it_sooner() -> None:
    often = account("alice", renew_after=10)

    assert due_rule(A_SWEEP)(often, renewed(10))[0]
    assert not due_rule(A_SWEEP)(often, renewed(9.9))[0]
    assert not due_rule(A_SWEEP)(account("bob"), renewed(10))[0]


@pytest.mark.parametrize(
    ("before", "trigger", "due"),
    [
        pytest.param(renewed(6, run_id="this"), A_TICK, False, id="by an earlier try of this tick"),
        pytest.param(renewed(6, run_id="another"), A_TICK, True, id="by another run"),
        pytest.param(renewed(6, "FAILED", run_id="this"), A_TICK, True, id="this tick failed"),
        pytest.param(renewed(25, run_id="this"), A_TICK, True, id="longer ago than any retry"),
        pytest.param(renewed(31, run_id="this"), A_SWEEP, True, id="a sweep asks for the age alone"),
        pytest.param(renewed(6, run_id="this"), A_MANUAL, True, id="a person, too"),
    ],
)
def test_a_retry_does_not_renew_again_what_its_tick_has_renewed(
    before: Current, trigger: Trigger, due: bool
) -> None:
    selection = selected([account("alice")], {"alice": before}, trigger)

    assert [a.id for a in selection.due] == (["alice"] if due else [])
    assert len(selection.due) + len(selection.settled) == 1


def test_live_keys_come_first_soonest_to_expire_first_then_those_without() -> None:
    current = {
        "young": renewed(10),
        "old": renewed(50),
        "dead": renewed(90),
        "middle": renewed(30),
        "rejected": never("REJECTED"),
    }

    due = selected([account(id_) for id_ in [*current, "new"]], current).due

    assert [a.id for a in due[:3]] == ["old", "middle", "young"]
    assert {a.id for a in due[3:]} == {"dead", "rejected", "new"}


NAMED = Trigger(MANUAL, ("alice",), force=True)
DRY = Trigger(MANUAL, dry_run=True)
BAD = account("alice", problem=BAD_ROW)
OFF = account("alice", enabled=False)
NOBODY = Account("alice", problem=Rejected(ErrorCode.ACCOUNT_NOT_FOUND, "there is no such row"))


@pytest.mark.parametrize(
    ("row", "before", "trigger", "outcome", "code", "recorded"),
    [
        pytest.param(account("alice"), renewed(1), A_TICK, "SKIPPED", None, False, id="fresh"),
        pytest.param(OFF, NOTHING, NAMED, "SKIPPED", "ACCOUNT_DISABLED", False, id="disabled, by name"),
        *(
            pytest.param(BAD, before, trigger, "REJECTED", "INVALID_ACCOUNT", recorded)
            for before, trigger, recorded in (
                (NOTHING, A_TICK, True),
                (NOTHING, A_SWEEP, True),
                (NOTHING, NAMED, True),
                (NOTHING, DRY, False),
                (renewed(1), A_TICK, True),
                (renewed(1), A_SWEEP, True),
                (never("REJECTED"), A_TICK, True),
            )
        ),
        pytest.param(NOBODY, NOTHING, NAMED, "REJECTED", "ACCOUNT_NOT_FOUND", False, id="nobody"),
        pytest.param(BAD, never("REJECTED"), A_SWEEP, "REJECTED", "INVALID_API_KEY", False, id="repeated"),
        pytest.param(
            account("alice"), never("REJECTED"), A_SWEEP, "REJECTED", "INVALID_API_KEY", False, id="stands"
        ),
    ],
)
def test_what_is_said_of_an_account_that_is_not_due(
    row: Account, before: Current, trigger: Trigger, outcome: str, code: str | None, recorded: bool
) -> None:
    """A sweep repeats what stands of a rejected account, and records nothing."""
    selection = selected([row], {"alice": before}, trigger)

    [result] = selection.settled
    assert (result.outcome, result.error_code, result.to_record) == (outcome, code, recorded)
    known = {"INVALID_ACCOUNT": BAD_ROW.message, "INVALID_API_KEY": "why"}
    assert code not in known or result.error_message == known[code]
    assert selection.due == []


def test_a_disabled_account_is_left_out_of_a_run_over_all() -> None:
    selection = selected([account("alice", enabled=False), account("bob")], {})

    assert [a.id for a in selection.due] == ["bob"]
    assert selection.settled == []
