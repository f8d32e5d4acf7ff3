"""The weight budget and the lane: who may send, who waits, when to stop. Time is a virtual clock's."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from listenkeys.binance.pacing import (
    DOWN_AFTER,
    MAX_ATTEMPTS,
    MAX_PAUSES,
    SUSPECT_AFTER,
    WINDOW,
    Lane,
    Task,
    WeightBudget,
)
from listenkeys.errors import AccountError, HostRefused, RateLimited, Rejected, Transient
from local.clock import VirtualClock

TROUBLE = Transient("SERVER_ERROR", "500")
LIMITED = RateLimited("429", 30.0)
Verdict = Callable[[Task, float], AccountError | None]


def budget(clock: VirtualClock, per_minute: int = 10_000) -> WeightBudget:
    return WeightBudget(per_minute, 2400, clock.clock)


def lane(clock: VirtualClock, accounts: int, **options: float) -> Lane:
    tasks = [Task(n, f"a{n}") for n in range(accounts)]
    per_minute = int(options.pop("per_minute", 10_000))
    defaults = {"deadline": 10_000.0, "patience": 120.0}
    return Lane(tasks, budget(clock, per_minute), clock.clock, **(defaults | options))


def run(made: Lane, clock: VirtualClock, verdict: Verdict) -> list[tuple[float, Task]]:
    """Serve the lane with one worker; return when each request went, and whose it was."""
    sent: list[tuple[float, Task]] = []
    while (task := made.next()) is not None:
        sent.append((clock.monotonic(), task))
        made.done(task, verdict(task, clock.monotonic()))
        assert len(sent) < 5000, "no bound"
    return sent


def always(error: AccountError | None) -> Verdict:
    return lambda task, at: error


def worst_window(times: list[float], seconds: float) -> int:
    return max(sum(start <= at < start + seconds for at in times) for start in times)


@pytest.mark.parametrize("per_minute", [1, 7, 60])
def test_the_cap_holds_in_any_minute_and_a_burst_up_to_it_goes_at_once(per_minute: int) -> None:
    clock = VirtualClock()

    times = [at for at, _ in run(lane(clock, 3 * per_minute, per_minute=per_minute), clock, always(None))]

    assert len(times) == 3 * per_minute
    assert worst_window(times, 60) == per_minute
    assert times[per_minute - 1] == times[0]
    assert times[per_minute] >= times[0] + WINDOW


def test_the_budget_outlives_a_lane() -> None:
    clock = VirtualClock()
    shared = budget(clock, per_minute=5)
    for _ in range(5):
        shared.take()

    clock.advance(30)

    assert shared.next_at() == WINDOW


@pytest.mark.parametrize(("used", "waits"), [(None, False), (2279, False), (2280, True), (5000, True)])
def test_what_others_used_of_the_address_is_heeded(used: int | None, waits: bool) -> None:
    clock = VirtualClock()  # starts with a minute
    clock.advance(20)
    heeding = budget(clock)

    heeding.observe(used)

    assert (heeding.next_at() > clock.monotonic()) is waits
    if waits:
        assert heeding.next_at() == pytest.approx(61.0)


def test_the_first_request_goes_alone_and_the_others_after_its_answer() -> None:
    clock = VirtualClock()
    made = lane(clock, 3)
    probe = made.next()
    assert probe is not None
    second: list[Task | None] = []
    waiting = threading.Thread(target=lambda: second.append(made.next()))
    waiting.start()
    waiting.join(0.05)
    assert not second

    made.done(probe, None)
    waiting.join(5)

    assert [task and task.rank for task in second] == [1]
    assert made.next() is not None  # wide now: two are under way at once


@pytest.mark.parametrize("code", ["IP_BANNED", "WAF_BLOCKED", "RESTRICTED_LOCATION"])
def test_a_host_that_refuses_the_address_gets_one_request(code: str) -> None:
    clock = VirtualClock()
    made = lane(clock, 100)

    sent = run(made, clock, always(HostRefused(code, "no", 418)))

    assert len(sent) == 1
    assert made.stopped == code
    assert len(made.left()) == 99  # the one that was tried has its answer


def test_a_rejected_account_is_not_sent_again_and_says_nothing_of_the_host() -> None:
    clock = VirtualClock()
    made = lane(clock, 20)

    sent = run(made, clock, always(Rejected("INVALID_API_KEY", "no", 401)))

    assert Counter(task.rank for _, task in sent) == dict.fromkeys(range(20), 1)
    assert made.stopped is None


def test_an_accounts_own_trouble_ends_after_a_few_attempts_that_move_apart() -> None:
    clock = VirtualClock()
    bad = 5

    sent = run(lane(clock, 30), clock, lambda task, at: TROUBLE if task.rank == bad else None)

    counted = Counter(task.rank for _, task in sent)
    assert counted.pop(bad) == MAX_ATTEMPTS
    assert set(counted.values()) == {1}


def test_a_dead_host_is_probed_by_one_account_after_another_and_then_counts_as_down() -> None:
    clock = VirtualClock()
    made = lane(clock, 10_000, patience=120.0)

    sent = run(made, clock, always(TROUBLE))

    assert made.stopped == "EXCHANGE_DOWN"
    assert DOWN_AFTER <= len(sent) <= 20
    assert len({task.rank for _, task in sent}) == len(sent)
    assert 120 <= clock.monotonic() <= 120 + 31
    assert len(made.left()) == 10_000


def test_a_short_patience_gives_a_dead_host_up_sooner() -> None:
    clock = VirtualClock()
    made = lane(clock, 10, patience=5.0)

    run(made, clock, always(TROUBLE))

    assert made.stopped == "EXCHANGE_DOWN"
    assert clock.monotonic() < 40


def test_a_host_that_comes_back_serves_everybody() -> None:
    clock = VirtualClock()

    sent = run(lane(clock, 50), clock, lambda task, at: TROUBLE if at < 60 else None)

    assert {task.rank for at, task in sent if at >= 60} == set(range(50))
    assert SUSPECT_AFTER <= sum(at < 60 for at, _ in sent) <= 15


def test_a_429_is_waited_out_by_everybody() -> None:
    clock = VirtualClock()
    answers = iter([None, LIMITED])

    sent = run(lane(clock, 10), clock, lambda task, at: next(answers, None))

    times = [at for at, _ in sent]
    assert len(sent) == 11
    assert min(times[2:]) >= times[1] + 30


def test_a_429_that_does_not_say_for_how_long_ends_the_hosts_run() -> None:
    clock = VirtualClock()
    made = lane(clock, 10)

    sent = run(made, clock, always(RateLimited("429", None)))

    assert (len(sent), made.stopped) == (1, "RATE_LIMITED")


def test_429_after_429_is_waited_out_a_few_times() -> None:
    clock = VirtualClock()
    made = lane(clock, 10)

    sent = run(made, clock, always(LIMITED))

    assert (len(sent), made.stopped) == (MAX_PAUSES + 1, "RATE_LIMITED")


def test_a_pause_that_does_not_fit_the_deadline_is_not_waited_for() -> None:
    clock = VirtualClock()
    made = lane(clock, 10, deadline=20.0)

    run(made, clock, always(LIMITED))

    assert made.stopped == "RATE_LIMITED"
    assert clock.monotonic() < 20


def test_nothing_starts_after_the_deadline_and_what_is_left_is_handed_back() -> None:
    clock = VirtualClock()
    made = lane(clock, 5, deadline=10.0)

    def slow(task: Task, at: float) -> None:
        clock.advance(4)

    sent = run(made, clock, slow)

    assert [task.rank for _, task in sent] == [0, 1, 2]
    assert made.stopped == "DEADLINE"
    assert sorted(task.rank for task in made.left()) == [3, 4]


def test_the_most_urgent_goes_first() -> None:
    clock = VirtualClock()

    sent = run(lane(clock, 20), clock, always(None))

    assert [task.rank for _, task in sent] == list(range(20))


def test_an_account_that_needs_one_more_request_gets_it_before_less_urgent_ones() -> None:
    clock = VirtualClock()
    made = lane(clock, 3)
    first = made.next()
    assert first is not None

    assert made.done(first, None, again=True)

    assert made.next() is first


def test_the_last_request_of_an_account_is_the_last_whatever_came_of_it() -> None:
    clock = VirtualClock()
    made = lane(clock, 1)
    task = made.next()
    assert task is not None

    assert not made.done(task, TROUBLE, last=True)

    assert made.next() is None


def test_a_stopped_lane_lets_waiting_workers_go() -> None:
    clock = VirtualClock()
    made = lane(clock, 2)
    made.next()
    got: list[Task | None] = []
    waiting = threading.Thread(target=lambda: got.append(made.next()))
    waiting.start()

    made.stop("DEADLINE")
    waiting.join(5)

    assert got == [None]
    assert len(made.left()) == 2
