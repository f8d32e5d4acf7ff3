"""The dispatcher: who may send, who waits, in which order. Time is a virtual clock's."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from listenkeys.aws.budget import Budget
from listenkeys.aws.counter import Taken, WeightCounter
from listenkeys.aws.credentials import ApiKey
from listenkeys.binance.dispatcher import PORTION, Dispatcher
from listenkeys.binance.gate import DOWN_AFTER, MAX_ATTEMPTS, MAX_PAUSES, SUSPECT_AFTER
from listenkeys.binance.lanes import Task
from listenkeys.errors import AccountError, ErrorCode, RateLimited, Refused, Rejected, Transient
from listenkeys.model import NOTHING, Account, Outcome, Result
from listenkeys.renewal import Renewal
from local.clock import VirtualClock
from tests.waiting import SECONDS

TROUBLE = Transient(ErrorCode.SERVER_ERROR, "500")
LIMITED = RateLimited("429", 30.0)
Verdict = Callable[[Task, float], AccountError | None]


class Memory(WeightCounter):
    """The weight counters, in memory."""

    def __init__(self) -> None:
        self.used: Counter[int] = Counter()

    def take(self, group: str, minute: int, weight: int, cap: int, accounts: Sequence[str]) -> Taken:
        used = self.used[minute]
        if used + weight <= cap:
            self.used[minute] += weight
        return Taken(used + weight <= cap, used, set())


def budget_of(clock: VirtualClock, per_minute: int = 2400, counter: WeightCounter | None = None) -> Budget:
    return Budget(counter or Memory(), per_minute, clock.clock)


def task_of(rank: int, clock: VirtualClock, **fields: Any) -> Task:
    renewal = Renewal(
        Account(f"a{rank}", "usdm"), NOTHING, ApiKey("k"), lambda account: ApiKey("k"), clock.now
    )
    return Task(rank, renewal, "https://host", "futures", **fields)


def lane(clock: VirtualClock, accounts: int, **options: Any) -> Dispatcher:
    made = [task_of(n, clock) for n in range(accounts)]
    tasks = options.pop("tasks", made)
    budget = options.pop("budget", None) or budget_of(clock)
    screen = options.pop("screen", lambda portion, claimed: {})
    defaults = {"deadline": 10_000.0, "patience": 120.0}
    return Dispatcher(tasks, budget, screen, clock.clock, **(defaults | options))


def success(task: Task) -> Result:
    renewal = task.renewal
    return Result(renewal.account.id, "usdm", Outcome.EXTENDED, renewal.now(), NOTHING, "key")


def run(made: Dispatcher, clock: VirtualClock, verdict: Verdict) -> list[tuple[float, Task]]:
    """Serve the dispatcher with one worker; return when each request went, and whose it was."""
    sent: list[tuple[float, Task]] = []
    while (task := made.next()) is not None:
        sent.append((clock.monotonic(), task))
        error = verdict(task, clock.monotonic())
        made.done(task, None if error else success(task), error, last=False)
        assert len(sent) < 15_000, "no bound"
    return sent


def end(made: Dispatcher) -> list[Result]:
    return made.close(ErrorCode.DEADLINE)


def why_left(made: Dispatcher) -> Counter[str | None]:
    return Counter(result.error_code for result in end(made) if result.outcome == Outcome.DEFERRED)


def always(error: AccountError | None) -> Verdict:
    return lambda task, at: error


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

    made.done(probe, success(probe), None, last=False)
    waiting.join(SECONDS)

    assert [task and int(task.id[1:]) for task in second] == [1]
    assert made.next() is not None  # wide now: two are under way at once


@pytest.mark.parametrize("code", [ErrorCode.IP_BANNED, ErrorCode.RESTRICTED_LOCATION])
def test_a_host_that_refuses_the_address_gets_one_request(code: ErrorCode) -> None:
    clock = VirtualClock()
    made = lane(clock, 100)

    sent = run(made, clock, always(Refused(code, "no", 418)))

    assert len(sent) == 1
    assert why_left(made) == {code: 99}


def test_a_rejected_account_is_not_sent_again_and_says_nothing_of_the_host() -> None:
    clock = VirtualClock()
    made = lane(clock, 20)

    sent = run(made, clock, always(Rejected(ErrorCode.INVALID_API_KEY, "no", 401)))

    assert Counter(int(task.id[1:]) for _, task in sent) == dict.fromkeys(range(20), 1)
    assert Counter(result.outcome for result in end(made)) == {"REJECTED": 20}


def test_an_accounts_own_trouble_ends_after_a_few_attempts_that_move_apart() -> None:
    clock = VirtualClock()
    bad = 5

    sent = run(lane(clock, 30), clock, lambda task, at: TROUBLE if int(task.id[1:]) == bad else None)

    counted = Counter(int(task.id[1:]) for _, task in sent)
    assert counted.pop(bad) == MAX_ATTEMPTS
    assert set(counted.values()) == {1}


def test_a_dead_host_is_probed_by_one_account_after_another_and_then_counts_as_down() -> None:
    clock = VirtualClock()
    made = lane(clock, 10_000, patience=120.0)

    sent = run(made, clock, always(TROUBLE))

    assert DOWN_AFTER <= len(sent) <= 20
    assert len({int(task.id[1:]) for _, task in sent}) == len(sent)
    assert 120 <= clock.monotonic() <= 120 + 31
    left = end(made)
    assert len(left) == 10_000
    assert Counter(result.error_code for result in left) == {
        "EXCHANGE_DOWN": 10_000 - len(sent), "SERVER_ERROR": len(sent)
    }  # fmt: skip


def test_a_short_patience_gives_a_dead_host_up_sooner() -> None:
    clock = VirtualClock()
    made = lane(clock, 10, patience=5.0)

    run(made, clock, always(TROUBLE))

    assert why_left(made).keys() == {"EXCHANGE_DOWN"}
    assert clock.monotonic() < 40


def test_a_host_that_comes_back_serves_everybody() -> None:
    clock = VirtualClock()

    sent = run(lane(clock, 50), clock, lambda task, at: TROUBLE if at < 60 else None)

    assert {int(task.id[1:]) for at, task in sent if at >= 60} == set(range(50))
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

    assert len(sent) == 1
    assert why_left(made) == {"RATE_LIMITED": 9}


def test_429_after_429_is_waited_out_a_few_times() -> None:
    clock = VirtualClock()
    made = lane(clock, 10)

    sent = run(made, clock, always(LIMITED))

    assert len(sent) == MAX_PAUSES + 1
    assert why_left(made).keys() == {"RATE_LIMITED"}


def test_a_pause_that_does_not_fit_the_deadline_is_not_waited_for() -> None:
    clock = VirtualClock()
    made = lane(clock, 10, deadline=20.0)

    run(made, clock, always(LIMITED))

    assert why_left(made) == {"RATE_LIMITED": 9}
    assert clock.monotonic() < 20


def test_nothing_starts_after_the_deadline_and_what_is_left_is_handed_back() -> None:
    clock = VirtualClock()
    made = lane(clock, 5, deadline=10.0)

    def slow(task: Task, at: float) -> None:
        clock.advance(4)

    sent = run(made, clock, slow)

    assert [int(task.id[1:]) for _, task in sent] == [0, 1, 2]
    assert why_left(made) == {"DEADLINE": 2}


def test_the_most_urgent_goes_first() -> None:
    clock = VirtualClock()

    sent = run(lane(clock, 20), clock, always(None))

    assert [int(task.id[1:]) for _, task in sent] == list(range(20))


def test_an_account_that_needs_one_more_request_gets_it_before_less_urgent_ones() -> None:
    clock = VirtualClock()
    made = lane(clock, 3)
    first = made.next()
    assert first is not None

    made.done(first, None, None, last=False)

    assert made.next() is first


def test_the_last_request_of_an_account_is_the_last_whatever_came_of_it() -> None:
    clock = VirtualClock()
    made = lane(clock, 1)
    task = made.next()
    assert task is not None

    made.done(task, None, TROUBLE, last=True)

    assert made.next() is None


def test_the_first_to_go_is_not_one_that_failed_last_time() -> None:
    clock = VirtualClock()
    tasks = [task_of(n, clock, suspect=n < 2) for n in range(4)]

    sent = run(lane(clock, 0, tasks=tasks), clock, always(None))

    assert [task.id for _, task in sent] == ["a2", "a0", "a1", "a3"]


def test_a_closed_dispatcher_lets_waiting_workers_go_and_takes_no_late_answer() -> None:
    clock = VirtualClock()
    made = lane(clock, 2)
    first = made.next()
    assert first is not None
    got: list[Task | None] = []
    waiting = threading.Thread(target=lambda: got.append(made.next()))
    waiting.start()

    left = end(made)
    waiting.join(SECONDS)
    made.done(first, success(first), None, last=False)

    assert got == [None]
    assert [result.outcome for result in left] == ["FAILED", "DEFERRED"]
    assert end(made) == []


def test_every_account_comes_out_once_however_late_its_answer() -> None:
    clock = VirtualClock()
    made = lane(clock, 2)
    first = made.next()
    assert first is not None

    made.done(first, success(first), None, last=False)  # not collected before the end

    assert sorted(result.account_id for result in end(made)) == ["a0", "a1"]


def test_the_cap_holds_in_every_clock_minute_and_all_of_it_is_used() -> None:
    clock = VirtualClock(datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC))
    budget = budget_of(clock, per_minute=60)

    sent = run(lane(clock, 200, budget=budget), clock, always(None))

    minutes = Counter((30 + at) // 60 for at, _ in sent)
    assert list(minutes.values()) == [60, 60, 60, 20]


def test_nothing_is_sent_in_a_minutes_last_second() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=58.5)
    clock = VirtualClock(start)

    def slow(task: Task, at: float) -> None:
        clock.advance(0.3)

    sent = run(lane(clock, 5), clock, slow)

    seconds = [(58.5 + at) % 60 for at, _ in sent]
    assert [round(second, 1) for second in seconds] == [58.5, 58.8, 0.0, 0.3, 0.6]


def test_what_is_admitted_in_one_minute_and_sent_in_the_next_takes_weight_there() -> None:
    clock = VirtualClock()
    counter = Memory()
    budget = budget_of(clock, per_minute=60, counter=counter)

    def slow(task: Task, at: float) -> None:
        clock.advance(7)

    run(lane(clock, 20, budget=budget), clock, slow)

    assert list(counter.used.values()) == [20, 11, 3]


def test_weight_left_that_is_too_little_for_the_next_account_is_not_asked_about_again_and_again() -> None:
    """Each account is admitted with weight for two requests, and the first is enough."""
    clock = VirtualClock()

    class Impatient(Memory):
        asked = 0

        def take(self, *args: Any) -> Taken:
            self.asked += 1
            assert self.asked < 20, "it asks without a pause"
            return super().take(*args)

    counter = Impatient()
    budget = budget_of(clock, per_minute=4, counter=counter)
    counter.used[budget.minute()] = 1  # another run's
    tasks = [task_of(n, clock, weight=2) for n in range(6)]

    sent = run(lane(clock, 0, tasks=tasks, budget=budget), clock, always(None))

    assert Counter(at // 60 for at, _ in sent) == {0: 2, 1: 3, 2: 1}


def test_those_that_another_run_renews_are_not_sent() -> None:
    clock = VirtualClock()
    portions = []

    def screen(portion: list[Task], claimed: set[str]) -> dict[Task, Result]:
        portions.append(len(portion))
        return {task: task.renewal.skipped() for task in portion if int(task.id[1:]) % 2}

    made = lane(clock, PORTION + 10, screen=screen)
    sent = run(made, clock, always(None))

    assert portions == [PORTION, 10]
    assert [int(task.id[1:]) for _, task in sent] == list(range(0, PORTION + 10, 2))
    assert Counter(result.outcome for result in end(made)) == {"EXTENDED": 55, "SKIPPED": 55}
