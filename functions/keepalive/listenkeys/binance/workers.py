"""The workers of a run: threads that send what the lanes hand out, and the results they bring back."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

from ..aws.records import Current
from ..errors import AccountError, Transient
from ..renewal import Renewal, failure_of, internal
from ..report import Outcome, Result
from .client import BinanceClient
from .pacing import Clock, Lane, Task

LET_GO = 15.0  # seconds after the deadline from which a request under way is no longer waited for
Done = tuple[Result, Current]


def renew_all(
    renewals: Iterable[Renewal],
    binance: BinanceClient,
    open_lane: Callable[[str, list[Task]], Lane],
    clock: Clock,
    concurrency: int,
    deadline: float,
    idle: Callable[[], None],
    idle_seconds: float,
) -> Iterator[Done]:
    """Send the renewals, by one lane per host and `concurrency` workers each; yield results as they come.

    Every renewal is yielded once, with the record it started from: what a lane still holds at its end
    comes out as FAILED where it was tried, as DEFERRED where it was not. `deadline` is monotonic;
    `idle` is called when no result has come for `idle_seconds`.
    """
    tasks: dict[str, list[Task]] = {}
    for rank, renewal in enumerate(renewals):
        tasks.setdefault(binance.host_of(renewal.account.product), []).append(Task(rank, renewal))
    lanes = [open_lane(host, waiting) for host, waiting in tasks.items()]
    results: queue.SimpleQueue[Done | None] = queue.SimpleQueue()

    def work(lane: Lane) -> None:
        while (task := lane.next()) is not None:
            result = _attempt(lane, task, binance, clock)
            if result is not None:
                results.put((result, task.payload.before))
        results.put(None)

    working = 0
    for lane, waiting in zip(lanes, tasks.values(), strict=True):
        for _ in range(min(concurrency, len(waiting))):
            # Daemons: one that hangs in name resolution must not outlive the process.
            threading.Thread(target=work, args=(lane,), daemon=True).start()
            working += 1
    while working:
        try:
            finished = results.get(timeout=idle_seconds)
        except queue.Empty:
            idle()
            if clock.monotonic() > deadline + LET_GO:
                break
            continue
        if finished is None:
            working -= 1
        else:
            yield finished
    for lane in lanes:
        lane.stop("DEADLINE")
        for task in lane.left():
            yield _left(task, lane.stopped or "DEADLINE", clock), task.payload.before


def _attempt(lane: Lane, task: Task, binance: BinanceClient, clock: Clock) -> Result | None:
    """Send one request for an account; return its result, None when the lane will hand it out again."""
    renewal: Renewal = task.payload
    sent_at, last = clock.now(), renewal.posting
    result: Result | None = None
    error: AccountError | None = None
    try:
        result = renewal.send(binance)
        again = lane.done(
            task, None, again=result is None, used_weight=result.used_weight if result else None
        )
    except AccountError as trouble:
        error = trouble
        again = lane.done(task, trouble, last=last)
    except Exception as bug:  # noqa: BLE001 - one account's bug is not the others'
        error = internal(bug)
        again = lane.done(task, None)
    if again:
        return None
    if error or not result:
        result = failure_of(renewal, error or _no_answer(), sent_at)
    result.attempts, result.latency_ms = task.attempts, round((clock.monotonic() - task.started) * 1000)
    return result


def _left(task: Task, why: str, clock: Clock) -> Result:
    """Return the result of an account that a stopped lane holds."""
    renewal: Renewal = task.payload
    if task.attempts:
        result = failure_of(renewal, task.last_error or renewal.trouble or _no_answer(), clock.now())
        result.attempts = task.attempts
        return result
    account = renewal.account
    result = Result(account.id, account.product, Outcome.DEFERRED, clock.now(), attempted=False)
    return result.explain(AccountError(why, f"not attempted in this run: {why}"))


def _no_answer() -> Transient:
    return Transient("TIMEOUT", "no answer before the run had to end")
