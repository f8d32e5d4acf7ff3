"""Who may send now: the weight budget of an IP address, and one lane per host with its stop gate.

A lane hands out tasks to its workers, one request at a time, and takes each back with what became
of it. It knows nothing of Binance or AWS beyond the kinds of error; time is passed in.
"""

import heapq
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import AccountError, HostRefused, RateLimited, Transient

WINDOW = 61.0  # seconds: a minute, and one more for requests that overtake each other on the way
# Leave a twentieth of what the IP address has to whoever else is behind it.
IP_CEILING = 0.95
MAX_ATTEMPTS = 4  # of one account in a run, while the host serves others
SUSPECT_AFTER = 3  # transient failures in a row: one request at a time from here on
DOWN_AFTER = 4  # at least this many in a row, and for the run's patience, before the host counts as down
MAX_PAUSES = 3  # 429s a run waits out
_BACKOFF_BASE, _BACKOFF_CAP = 0.5, 10.0
_PROBE_CAP = 30.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, passed in: `now` is aware UTC, `monotonic` and `sleep` are in seconds."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]


class WeightBudget:
    """At most `per_minute` weight in any minute towards one host. It outlives a run.

    In bursts if need be; `even` spreads it over the minute. That is for one of several functions behind
    an IP address: the one that takes a dead one's place must not bring a second burst.
    """

    def __init__(self, per_minute: int, ip_limit: int, clock: Clock, even: bool = False) -> None:
        self._sent: deque[float] = deque(maxlen=1 if even else per_minute)
        self._window = WINDOW / per_minute if even else WINDOW
        self._ceiling = ip_limit * IP_CEILING
        self._blocked_until = float("-inf")
        self._clock = clock

    def next_at(self) -> float:
        """Return the monotonic time from which one more request of weight 1 may go."""
        full = len(self._sent) == self._sent.maxlen
        return max(self._blocked_until, self._sent[0] + self._window if full else float("-inf"))

    def take(self) -> None:
        """Count a request of weight 1 that goes now."""
        self._sent.append(self._clock.monotonic())

    def observe(self, used_weight: int | None) -> None:
        """Heed what Binance says the IP address used in this minute, whoever used it."""
        if used_weight is not None and used_weight >= self._ceiling:
            # X-MBX-USED-WEIGHT-1M starts again with the minute.
            rest = 60.0 - self._clock.now().timestamp() % 60
            self._blocked_until = self._clock.monotonic() + rest + 1.0


@dataclass(eq=False, slots=True)
class Task:
    """One account's way through a lane. `rank` is its place in the order; lower goes first."""

    rank: int
    payload: Any
    attempts: int = 0
    started: float = 0.0
    ready_at: float = 0.0
    last_error: AccountError | None = None


class Lane:
    """One host's tasks and its stop gate, shared by the host's workers.

    It opens with one task alone, so that a banned or blocked address costs one request. It narrows to
    one again when failures come in a row or after a 429, and each probe is then another account's: one
    account's trouble is not the host's. `patience` is how many seconds a host may fail before it counts
    as down; `deadline` (monotonic) is when nothing new may start.
    """

    def __init__(
        self, tasks: Iterable[Task], budget: WeightBudget, clock: Clock, deadline: float, patience: float
    ) -> None:
        self._ready = [(task.rank, task) for task in tasks]
        heapq.heapify(self._ready)
        self._waiting: list[tuple[float, int, Task]] = []
        self._flying: set[Task] = set()
        self._budget = budget
        self._clock = clock
        self._deadline = deadline
        self._patience = patience
        self._narrow = True
        self._narrow_since = float("-inf")
        self._served = False
        self._failures = 0
        self._failing_since = 0.0
        self._pauses = 0
        self._resume_at = float("-inf")
        self.stopped: str | None = None
        self._turn = threading.Lock()
        self._state = threading.Condition()

    def next(self) -> Task | None:
        """Wait for this worker's turn and return a task whose request may go now; None when none is left.

        One worker at a time waits for a time to come, on behalf of all.
        """
        with self._turn:
            while True:
                with self._state:
                    while self._flying and (self._narrow or not (self._ready or self._waiting)):
                        if self.stopped:
                            return None
                        self._state.wait()  # what is under way decides
                    if self.stopped or not (self._ready or self._waiting):
                        return None
                    now = self._clock.monotonic()
                    while self._waiting and self._waiting[0][0] <= now:
                        *_, task = heapq.heappop(self._waiting)
                        heapq.heappush(self._ready, (task.rank, task))
                    ready_at = now if self._ready else self._waiting[0][0]
                    start = max(ready_at, self._resume_at, self._budget.next_at())
                    if max(start, now) > self._deadline:
                        self._stop("RATE_LIMITED" if self._resume_at > self._deadline else "DEADLINE")
                        return None
                    if start <= now:
                        return self._take(now)
                self._clock.sleep(min(start - now, 1.0))  # in slices: a stop or a freed worker may come first

    def done(
        self,
        task: Task,
        error: AccountError | None,
        again: bool = False,
        last: bool = False,
        used_weight: int | None = None,
    ) -> bool:
        """Take a task back after its request; return whether it will be handed out again.

        `again`: the host is well and the account needs one more request (a POST after -1125). `last`:
        it must not be sent again, whatever became of it. `used_weight`: what the host said of it.
        """
        with self._state:
            self._budget.observe(used_weight)
            self._flying.discard(task)
            self._state.notify_all()
            if error is not None:
                task.last_error = error
            now = self._clock.monotonic()
            if isinstance(error, RateLimited):
                goes_on = self._rate_limited(task, error, now)
            elif isinstance(error, HostRefused):
                self._stop(error.code)
                goes_on = False
            elif isinstance(error, Transient):
                goes_on = self._failed(task, now)
            else:
                self._served, self._failures = True, 0
                if task.started >= self._narrow_since:  # an answer from before a 429 says nothing of after it
                    self._narrow = False
                task.ready_at = now
                goes_on = again
            if goes_on and not last:
                heapq.heappush(self._waiting, (task.ready_at, task.rank, task))
                return True
            return False

    def stop(self, code: str) -> None:
        """Hand out nothing more, for this reason."""
        with self._state:
            self._stop(code)

    def left(self) -> list[Task]:
        """Return the tasks that a stopped lane still holds, those under way too."""
        with self._state:
            return (
                [task for _, task in self._ready] + [task for *_, task in self._waiting] + list(self._flying)
            )

    def _take(self, now: float) -> Task:
        if self._narrow:
            # A probe: the account that was tried least, then the usual order.
            _, task = min(self._ready, key=lambda item: (item[1].attempts, item[0]))
            self._ready.remove((task.rank, task))
            heapq.heapify(self._ready)
        else:
            _, task = heapq.heappop(self._ready)
        self._flying.add(task)
        self._budget.take()
        task.attempts += 1
        task.started = now
        return task

    def _stop(self, code: str) -> None:
        self.stopped = self.stopped or code
        self._state.notify_all()

    def _rate_limited(self, task: Task, error: RateLimited, now: float) -> bool:
        if error.retry_after is None:
            # For how long is not said: the next run is a pause that is long enough.
            self._stop(error.code)
            return True
        if now >= self._resume_at:
            self._pauses += 1
            if self._pauses > MAX_PAUSES:
                self._stop(error.code)
        task.ready_at = now
        self._resume_at = max(self._resume_at, now + error.retry_after)
        self._narrow, self._narrow_since = True, now
        return True

    def _failed(self, task: Task, now: float) -> bool:
        if task.started >= self._narrow_since:
            # Those sent before the lane narrowed are one event with what narrowed it.
            self._failing_since = self._failing_since if self._failures else now
            self._failures += 1
        if not self._narrow and self._failures >= SUSPECT_AFTER:
            self._narrow, self._narrow_since = True, now
        if self._served and task.attempts >= MAX_ATTEMPTS:
            return False
        if self._narrow:
            if self._failures >= DOWN_AFTER and now - self._failing_since >= self._patience:
                self._stop("EXCHANGE_DOWN")
            # Between half and the whole of a doubling interval: a run's probes are few and far between.
            self._resume_at = max(self._resume_at, now + _spread(self._failures, _PROBE_CAP, 0.5))
            task.ready_at = now
        else:
            task.ready_at = now + _spread(task.attempts, _BACKOFF_CAP, 0.0)
        return True


def _spread(failures: int, cap: float, least: float) -> float:
    """Return seconds to wait: a random part, at least `least`, of an interval that doubles with failures."""
    interval = min(cap, _BACKOFF_BASE * 2.0 ** min(failures, 30))
    return interval * random.uniform(least, 1.0)  # nosec B311 # noqa: S311 - not for secrets
