"""The gates as tables: what was answered, one after the other, and whether and when the next may go."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from listenkeys.errors import Blocked, ErrorCode, RateLimited, Refused
from listenkeys.sending.admission import Admission
from listenkeys.sending.gate import GroupGate, HostGate
from listenkeys.sending.renewal import Renewal
from listenkeys.sending.weight import Budget
from listenkeys.timing import NEVER
from local.clock import VirtualClock

BANNED = Refused(ErrorCode.IP_BANNED, "no", 418)
RESTRICTED = Refused(ErrorCode.RESTRICTED_LOCATION, "no", 451)
BLOCKED = Blocked(ErrorCode.WAF_BLOCKED, "no", 403)
LIMITED = RateLimited("429", 30.0)


@pytest.mark.parametrize(
    ("answers", "stopped"),
    [
        pytest.param([("a", BANNED)], "IP_BANNED", id="418"),
        pytest.param([("a", RESTRICTED)], "RESTRICTED_LOCATION", id="451"),
        pytest.param([("a", BLOCKED)], None, id="one 403 is its account's"),
        pytest.param([("a", BLOCKED), ("a", BLOCKED)], None, id="however often"),
        pytest.param([("a", BLOCKED), ("b", BLOCKED)], "WAF_BLOCKED", id="two accounts in a row"),
        pytest.param([("a", BLOCKED), ("b", None), ("c", BLOCKED)], None, id="an answer in between"),
        pytest.param([("a", LIMITED)], None, id="429 that says for how long"),
        pytest.param([("a", RateLimited("429", None))], "RATE_LIMITED", id="429 that does not"),
        pytest.param([("a", LIMITED)] * 3, None, id="429s that are waited out"),
        pytest.param([("a", LIMITED)] * 4, "RATE_LIMITED", id="one too many"),
    ],
)
def test_what_stops_a_group(answers: list[tuple[str, Refused | None]], stopped: str | None) -> None:
    gate, now = GroupGate(), 0.0
    for account, error in answers:
        now = max(now + 1.0, gate.opens_at)
        if error is None:
            gate.answered(now)
        else:
            gate.refused(account, error, now)

    assert gate.stopped == stopped


def test_429_pauses_everybody_and_the_next_goes_alone() -> None:
    gate = GroupGate()
    assert (gate.alone, gate.in_flight, HostGate().alone) == (True, 0, True)
    gate.answered(0.0)
    assert not gate.alone

    assert gate.refused("a", LIMITED, 10.0)
    gate.refused("b", RateLimited("429", 5.0), 11.0)  # was in flight: no second pause

    assert (gate.opens_at, gate.alone, gate.stopped) == (40.0, True, None)
    gate.answered(9.0)  # sent before the 429
    assert gate.alone
    gate.answered(11.0)
    assert not gate.alone


@pytest.mark.parametrize(
    ("error", "again"), [(BANNED, False), (BLOCKED, False), (LIMITED, True), (RateLimited("429", None), True)]
)
def test_an_account_is_asked_for_again_only_after_a_429(error: Refused, again: bool) -> None:
    assert GroupGate().refused("a", error, 0.0) is again


def fail(gate: HostGate, account: str, attempts: int, now: float, **risk: bool) -> float | None:
    return gate.failed(account, attempts, now, now, risk.get("own", False), risk.get("others", False))


def test_a_host_that_served_others_gives_one_account_four_attempts() -> None:
    gate = HostGate()
    gate.served(0.0)

    goes_again = {n: fail(gate, "a", n, 1.0 * n) is not None for n in (1, 2, 3, 4)}

    assert goes_again == {1: True, 2: True, 3: True, 4: False}
    assert gate.stopped is None


def test_while_its_key_is_at_risk_an_account_is_not_given_up() -> None:
    gate = HostGate()
    gate.served(0.0)

    for attempt in range(1, 12):
        assert fail(gate, "a", attempt, 100.0 * attempt, own=True) is not None


def test_a_living_key_is_at_risk_if_it_dies_before_later_runs_may_come() -> None:
    none: Any = None
    renewal = Renewal(0, none, none, none, none, dies_at=1000.0, dead=False)
    left = (600.0, 599.0, 1.0, 0.0)
    assert [renewal.at_risk(1000.0 - seconds) for seconds in left] == [False, True, True, False]
    left = (120.0, 119.0, 1.0, 0.0)
    assert [renewal.dying(1000.0 - seconds) for seconds in left] == [False, True, True, False]


@pytest.mark.parametrize("served", [False, True])
def test_a_host_that_fails_everybody_is_down(served: bool) -> None:
    gate, now, failures = HostGate(), 0.0, 0
    if served:
        gate.served(0.0)
    while not gate.stopped:
        attempt = 4 if failures == 3 else 1  # three accounts in a row: what was served proves nothing now
        assert fail(gate, f"account {failures}", attempt, now) is not None
        failures += 1
        now = max(now + 0.1, gate.opens_at)

    assert gate.stopped == "EXCHANGE_DOWN"
    assert failures == 4


@pytest.mark.parametrize("risk", ["own", "others"])
def test_a_host_is_not_given_up_while_a_key_is_at_risk(risk: str) -> None:
    gate, now = HostGate(), 0.0
    for number in range(30):
        fail(gate, f"account {number}", 1, now, **{risk: True})
        now = max(now + 0.1, gate.opens_at)

    assert gate.stopped is None
    assert now > 300.0


def test_the_refusal_of_one_account_does_not_show_that_the_host_works() -> None:
    gate = HostGate()
    gate.rejected(0.0)
    assert not gate.alone
    for attempt in range(1, 12):
        assert fail(gate, "good", attempt, 1.0 * attempt) is not None
        gate.rejected(1.0 * attempt)

    assert gate.alone
    assert gate.failures == 11


@pytest.mark.parametrize(
    ("bound", "tries", "probes"), [(0, [0.0] * 3, [0.5, 1.0, 15.0]), (1, [1.0, 2.0, 10.0], [1.0, 2.0, 30.0])]
)
def test_the_next_try_is_at_random_within_an_interval_that_doubles(
    bound: int, tries: list[float], probes: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda *bounds: bounds[bound])
    assert [fail(HostGate(alone=False), "a", attempts, 0.0) for attempts in (1, 2, 40)] == tries
    gates = [HostGate(failures=failures) for failures in (0, 1, 40)]
    assert [fail(gate, "a", 1, 0.0) for gate in gates] == [0.0] * 3
    assert [gate.opens_at for gate in gates] == probes


def test_a_host_narrows_after_failures_and_widens_after_a_success() -> None:
    gate = HostGate()
    gate.served(0.0)
    assert not gate.alone
    for number in range(3):
        assert not gate.alone
        fail(gate, f"account {number}", 1, 1.0 + number)
    assert gate.alone

    failures = gate.failures
    gate.failed("late", 1, 0.5, 9.0, False, False)  # already in flight when it narrowed
    assert gate.failures == failures
    gate.failed("next", 1, 3.0, 9.0, False, False)  # sent in the moment in which it narrowed
    assert gate.failures == failures + 1
    gate.served(0.5)
    assert gate.alone
    gate.served(3.0)
    assert not gate.alone


def test_a_minute_is_closed_when_binance_counts_95_percent_of_its_limit() -> None:
    counter: Any = None
    budget = Budget(counter, 2400, VirtualClock())
    assert budget.used_weight == 0
    rooms = [
        (each.now("futures").room, each.now("options").room)
        for each in (budget, Budget(counter, 1, VirtualClock()))
    ]
    assert rooms == [(2400, 400), (1, 1)]
    budget.observe("futures", 2279)
    assert budget.opens_at("futures") < 0
    budget.observe("futures", 2280)
    assert budget.opens_at("futures") == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize(
    ("flying", "saving", "unsaved"), [(0, [], []), (1, [], []), (0, [1], []), (0, [], [1])]
)
def test_the_next_minute_is_taken_once_while_anything_is_under_way(
    flying: int, saving: list[int], unsaved: list[int]
) -> None:
    taken: list[tuple[Any, ...]] = []
    counter: Any = SimpleNamespace(add=lambda *what: taken.append(what))
    pool: Any = SimpleNamespace(start=lambda work, then: then(work()))
    journal: Any = SimpleNamespace(saving=saving, unsaved=unsaved)
    none: Any = None
    clock = VirtualClock()
    budget = Budget(counter, 2400, clock)
    budget.begin("this run")
    admission = Admission(budget, none, journal, pool, clock, none, 1)
    clock.advance(58.5)
    assert admission.keep({"futures": none}, flying) == pytest.approx(59)
    assert taken == []

    clock.advance(0.5)
    assert [admission.keep({"futures": none}, flying) for _ in range(2)] == [NEVER, NEVER]
    expected = ("futures", budget.minute() + 1, 0, "this run")
    assert taken == [expected] * bool(flying or saving or unsaved)
