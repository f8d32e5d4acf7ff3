"""Who sends what, and when: the tasks of a run, handed to its workers one request at a time.

A task is an account on its way through the run. Each host has a lane of tasks; a lane admits a portion of
them at a time, with weight from the stack's budget. The gates say when to hold back. One condition variable
guards everything here, and waiting goes through the injected clock.
"""

import heapq
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..aws.budget import Budget
from ..clock import Clock
from ..errors import AccountError, ErrorCode, Refused, Transient
from .gate import GroupGate, HostGate
from .lanes import NEVER, Lane, Task

if TYPE_CHECKING:
    from ..report import Result

PORTION = 100  # accounts admitted at a time: as many records as one BatchGetItem reads


class Dispatcher:
    """Hands out tasks and takes them back with what became of them. Thread-safe.

    `deadline` (monotonic) is when nothing new may start, `patience` how many seconds a host may fail.
    `screen` is given a portion about to be sent, with the ids that another run has claimed, and returns the
    results of those that are not to be sent any more.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        budget: Budget,
        screen: "Callable[[list[Task], set[str]], dict[Task, Result]]",
        clock: Clock,
        deadline: float,
        patience: float,
    ) -> None:
        self._budget, self._screen, self._clock = budget, screen, clock
        self._deadline = deadline
        self._changed = threading.Condition()
        self._finished: list[Result] = []
        self._closed = False
        self._bug: BaseException | None = None
        self._workers = 0
        groups: dict[str, GroupGate] = {}
        # By group, too: BinanceBaseUrl gives all products one host.
        hosts: dict[tuple[str, str], list[Task]] = {}
        for task in tasks:
            hosts.setdefault((task.host, task.group), []).append(task)
        self._lane_of: dict[tuple[str, str], Lane] = {}
        for host, own in hosts.items():
            # The first to go finds out whether the host lets anybody in: not one that failed last time.
            probe = next((task for task in own if not task.suspect), own[0])
            own.remove(probe)
            probe.rank = -1
            gate = groups.setdefault(probe.group, GroupGate())
            self._lane_of[host] = Lane(probe.group, gate, HostGate(patience=patience), [*own[::-1], probe])
        self._lanes = list(self._lane_of.values())

    def next(self) -> Task | None:
        """Wait for this worker's turn and return a task whose request may go now; None when none is left."""
        with self._changed:
            while not self._closed:
                now = self._clock.monotonic()
                lane, wake = self._choose(now)
                if lane is not None:
                    # Weight is for a minute, and asking for it may take longer than what was left of it.
                    if self._supply(lane) and self._budget.minute() == lane.minute:
                        return self._send(lane, now)
                elif wake is None:
                    return None
                else:
                    busy = any(lane.flying for lane in self._lanes)
                    self._clock.wait(self._changed, None if wake == NEVER else wake - now, not busy)
            return None

    def done(self, task: Task, result: "Result | None", error: AccountError | None, last: bool) -> None:
        """Take a task back: with its result, or with neither where it needs one more request.

        `last`: it must not be sent again, whatever became of it.
        """
        with self._changed:
            if self._closed:
                return  # it has been reported as unanswered
            lane = self._lane_of[task.host, task.group]
            lane.flying.discard(task)
            now = self._clock.monotonic()
            again = self._learn(lane, task, result, error, now)
            task.last_error = error or task.last_error
            if again is not None and not last and not result:
                heapq.heappush(lane.waiting, (again, task.rank, task))
            else:
                result = result or task.renewal.failure(task.last_error)
                result.latency_ms = round((now - task.started) * 1000)
                self._budget.release(lane.group, task.promised)
                self._finish(task, result)
            self._changed.notify_all()

    def collect(self, seconds: float) -> "list[Result] | None":
        """Wait for results, at most `seconds`, and return them; None when there is nothing more to come.

        Raises what a worker raised: that is a bug of this file's.
        """
        with self._changed:
            if not self._finished and self._workers:
                self._clock.wait(self._changed, seconds, False)
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
            for lane in self._lanes:
                for task in lane.left():
                    self._finish(
                        task, task.renewal.left(task.last_error, task.attempts, lane.stopped or code)
                    )
                lane.ready, lane.waiting, lane.backlog = [], [], []
                lane.flying.clear()
            finished, self._finished = self._finished, []
            self._changed.notify_all()
            return finished

    def work(self, send: Callable[[Task], None]) -> None:
        """Be one of the workers: send tasks until none is left."""
        try:
            while (task := self.next()) is not None:
                send(task)
        except BaseException as bug:  # noqa: BLE001 - kept for `collect`, which runs in the main thread
            self._bug = bug
        finally:
            with self._changed:
                self._workers -= 1
                self._changed.notify_all()

    def start(self, workers: int) -> None:
        """Count the workers that are about to start."""
        self._workers = workers

    def _choose(self, now: float) -> tuple[Lane | None, float | None]:
        """Return the lane whose turn it is; else when to look again, None where nothing is left."""
        best: tuple[int, Lane] | None = None
        wake: float | None = None
        minute = self._budget.minute()
        for lane in self._lanes:
            if lane.stopped:
                continue
            lane.make_ready(now, minute)
            if not (lane.ready or lane.backlog or lane.waiting):
                continue
            at = self._opens_at(lane, now)
            if at == NEVER or at > now:
                if now > self._deadline or (at != NEVER and at > self._deadline):
                    paused = lane.group_gate.opens_at > self._deadline
                    lane.gate.stop(ErrorCode.RATE_LIMITED if paused else ErrorCode.DEADLINE)
                    continue
                wake = at if wake is None else min(wake, at)
            elif now > self._deadline:
                lane.gate.stop(ErrorCode.DEADLINE)
            else:
                rank = lane.ready[0][0] if lane.ready else lane.backlog[-1].rank
                if best is None or rank < best[0]:
                    best = rank, lane
        return (best[1], None) if best else (None, wake)

    def _opens_at(self, lane: Lane, now: float) -> float:
        """Return when the lane may send next; infinite where that depends on what is in flight."""
        if lane.gate.alone and lane.flying:
            return NEVER
        if lane.group_gate.alone and any(other.flying for other in self._lanes if other.group == lane.group):
            return NEVER
        ready_at = now if lane.ready or lane.backlog else lane.waiting[0][0]
        promised = not lane.wants_portion() and bool(lane.ready) and lane.first()[-1].promised > 0
        weight_at = self._budget.opens_at(lane.group, promised)
        return max(ready_at, lane.gate.opens_at, lane.group_gate.opens_at, weight_at)

    def _supply(self, lane: Lane) -> bool:
        """Get the lane a task and weight to send it with; False where there is none to send now."""
        if not lane.wants_portion():
            task = lane.first()[-1]
            if not task.promised and self._budget.take(lane.group):
                task.promised = 1
            return task.promised > 0
        size = 1 if lane.gate.failures else min(PORTION, len(lane.backlog))
        portion = lane.backlog[: -size - 1 : -1]
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
                heapq.heappush(lane.ready, (task.rank, task.attempts, task))
        self._changed.notify_all()
        return bool(lane.ready) and lane.first()[-1].promised > 0

    def _send(self, lane: Lane, now: float) -> Task:
        task = lane.pop()
        lane.flying.add(task)
        self._budget.spend(lane.group)
        task.promised -= 1
        task.attempts += 1
        task.started = now
        return task

    def _learn(
        self, lane: Lane, task: Task, result: "Result | None", error: AccountError | None, now: float
    ) -> float | None:
        """Tell the gates what came of a request; return when the task may go again, None for never."""
        self._budget.observe(lane.group, task.renewal.used_weight)
        if error and error.code == ErrorCode.INTERNAL:
            return None  # our own bug says nothing about the host
        if isinstance(error, Refused):
            return now if lane.group_gate.refused(task.id, error, now) else None
        if isinstance(error, Transient):
            others = any(other.at_risk(now) for other in lane.left())
            return lane.gate.failed(task.id, task.attempts, task.started, now, task.at_risk(now), others)
        lane.group_gate.answered(task.started)
        if error:
            lane.gate.rejected(task.started)
            return now if task.renewal.wants_more else None
        lane.gate.served(task.started)
        return now

    def _finish(self, task: Task, result: "Result") -> None:
        result.attempts = task.attempts
        self._finished.append(result)
