"""Who sends what, and when: the tasks of a run, handed to its workers one request at a time.

Each host has a lane of tasks. A lane admits a portion of them at a time, with weight from the stack's
budget, and its gates say when to hold back. One lock guards everything here, and waiting goes through the
injected clock.
"""

import heapq
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..aws.budget import Budget
from ..clock import Clock
from ..errors import AccountError, ErrorCode
from .lanes import NEVER, Lane, Task, lanes_of

if TYPE_CHECKING:
    from ..model import Result

PORTION = 100  # accounts admitted at a time: as many records as one BatchGetItem reads
HANDFUL = 50  # results collected at a time: as many as one transaction records


class Dispatcher:
    """Hands out tasks to `workers` threads and takes them back with their results. Thread-safe.

    Nothing new starts after `deadline` (monotonic). A host may fail for `patience` seconds.
    `screen` gets a portion about to be sent and the ids that another run has claimed, and returns the
    results of the tasks that need not be sent any more.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        budget: Budget,
        screen: "Callable[[list[Task], set[str]], dict[Task, Result]]",
        clock: Clock,
        deadline: float,
        patience: float,
        workers: int = 1,
    ) -> None:
        self._budget, self._screen, self._clock = budget, screen, clock
        self._deadline = deadline
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._collectable = threading.Condition(lock)
        self._lanes = lanes_of(tasks, patience)
        self._finished: list[Result] = []
        self._closed = False
        self._workers = workers
        self._bug: BaseException | None = None

    def next(self) -> Task | None:
        """Wait for this worker's turn and return a task whose request may go now; None when none is left."""
        with self._changed:
            while not self._closed:
                now = self._clock.monotonic()
                lane, wake = self._choose(now)
                if lane is not None:
                    # Getting weight may take longer than what was left of the minute that it is for.
                    if self._supply(lane) and self._budget.minute() == lane.minute:
                        self._budget.spend(lane.group)
                        return lane.launch(now)
                elif wake is None:
                    return None
                else:
                    busy = any(lane.flying for lane in self._lanes.values())
                    self._clock.wait(self._changed, None if wake == NEVER else wake - now, not busy)
            return None

    def done(self, task: Task, result: "Result | None", error: AccountError | None, last: bool) -> None:
        """Take a task back: with its result, or with neither where it needs one more request.

        `last`: it must not be sent again, whatever the answer was.
        """
        with self._changed:
            if self._closed:
                return  # it has been reported as unanswered
            lane = self._lanes[task.host, task.group]
            now = self._clock.monotonic()
            self._budget.observe(lane.group, task.renewal.used_weight)
            again = lane.land(task, error, now)
            task.last_error = error or task.last_error
            if again is not None and not last and not result:
                heapq.heappush(lane.waiting, (again, task.rank, task))
            else:
                result = result or task.renewal.failure(task.last_error)
                result.latency_ms = round((now - task.started) * 1000)
                self._budget.release(lane.group, task.promised)
                self._finish(task, result)
            self._changed.notify_all()

    def leave(self, bug: BaseException | None) -> None:
        """Note that a worker has ended, and what it raised, if anything."""
        with self._changed:
            self._workers -= 1
            self._bug = self._bug or bug
            self._changed.notify_all()
            self._collectable.notify()

    def collect(self, seconds: float) -> "list[Result] | None":
        """Return a HANDFUL of results, fewer after `seconds`; None when all workers have ended.

        Raises what a worker raised: that is a bug in this program.
        """
        with self._changed:
            if len(self._finished) < HANDFUL and self._workers:
                self._clock.wait(self._collectable, seconds, False)
            if self._bug:
                raise self._bug
            if not self._finished and not self._workers:
                return None
            finished, self._finished = self._finished, []
            return finished

    def close(self, code: ErrorCode) -> "list[Result]":
        """Hand out nothing more; return the results that were not collected, and one for each task left."""
        with self._changed:
            self._closed = True
            for lane in self._lanes.values():
                for task in lane.left():
                    why = lane.stopped or code
                    self._finish(task, task.renewal.left(task.last_error, task.attempts, why))
                lane.clear()
            finished, self._finished = self._finished, []
            self._changed.notify_all()
            return finished

    def _choose(self, now: float) -> tuple[Lane | None, float | None]:
        """Return the lane whose turn it is; else when to look again, None where nothing is left."""
        best: Lane | None = None
        wake: float | None = None
        minute = self._budget.minute()
        for lane in self._lanes.values():
            lane.make_ready(now, minute)
            if lane.stopped or not lane.pending:
                continue
            at = max(lane.opens_at(now), self._budget.opens_at(lane.group, lane.needed))
            if (now if at == NEVER else max(now, at)) > self._deadline:
                paused = lane.group_gate.opens_at > self._deadline
                lane.gate.stop(ErrorCode.RATE_LIMITED if paused else ErrorCode.DEADLINE)
            elif at > now:
                wake = at if wake is None else min(wake, at)
            elif best is None or lane.rank < best.rank:
                best = lane
        return best, wake

    def _supply(self, lane: Lane) -> bool:
        """Get the lane a task and weight to send it with; False where there is none to send now."""
        if not lane.wants_portion():
            task = lane.first()[-1]
            if not task.promised and self._budget.take(lane.group):
                task.promised = 1
            return task.promised > 0
        portion = lane.portion(PORTION)
        granted, claimed = self._budget.admit(lane.group, {task.id: task.weight for task in portion})
        if not granted:
            return False
        del lane.backlog[-granted:]
        settled = self._screen(portion[:granted], claimed)
        for task in portion[:granted]:
            if task in settled:
                self._budget.release(lane.group, task.weight)
                self._finish(task, settled[task])
            else:
                task.promised = task.weight
                lane.add(task)
        self._changed.notify_all()
        return not lane.needed

    def _finish(self, task: Task, result: "Result") -> None:
        result.attempts = task.attempts
        self._finished.append(result)
        if len(self._finished) >= HANDFUL:  # the collector shares the processor with the workers
            self._collectable.notify()
