"""The tasks of a run, by host: not yet admitted, ready, waiting, or in flight. No locks, no clock."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import AccountError, ErrorCode, Refused, Transient
from ..settings import AT_RISK_MINUTES
from .gate import GroupGate, HostGate

if TYPE_CHECKING:
    from ..renewal import Renewal

AT_RISK = 60.0 * AT_RISK_MINUTES  # seconds
NEVER = float("inf")


@dataclass(eq=False, slots=True)
class Task:
    """An account's way through a run. `rank` is its place in the order; lower goes first.

    `dies_at` is the monotonic time at which a live key dies, infinite where there is none to save.
    `suspect`: its last attempt failed, so it is not used to find out whether a host works.
    """

    rank: int
    renewal: "Renewal"
    host: str
    group: str
    weight: int = 1
    dies_at: float = NEVER
    suspect: bool = False
    promised: int = 0  # weight of this minute that it was admitted with and has not used
    attempts: int = 0
    started: float = 0.0
    last_error: AccountError | None = None

    @property
    def id(self) -> str:
        """The account's id."""
        return self.renewal.account.id

    def at_risk(self, now: float) -> bool:
        """Whether there is a key to save, and later runs may come too late."""
        return now < self.dies_at < now + AT_RISK


@dataclass(eq=False, slots=True)
class Lane:
    """A host's tasks: not yet admitted (most urgent last), ready, waiting for their time, and in flight."""

    group: str
    group_gate: GroupGate
    gate: HostGate
    backlog: list[Task]
    ready: list[tuple[int, int, Task]] = field(default_factory=list)
    waiting: list[tuple[float, int, Task]] = field(default_factory=list)
    flying: set[Task] = field(default_factory=set)
    minute: int = 0

    @property
    def stopped(self) -> ErrorCode | None:
        """Why nothing more is sent in this run, None while it may be."""
        return self.group_gate.stopped or self.gate.stopped

    @property
    def pending(self) -> bool:
        """Whether there are tasks to send, now or later."""
        return bool(self.ready or self.backlog or self.waiting)

    @property
    def rank(self) -> int:
        """The rank of the most urgent task that could be sent."""
        return self.ready[0][0] if self.ready else self.backlog[-1].rank

    @property
    def needed(self) -> int:
        """The weight that the next task still has to get."""
        if self.wants_portion():
            return self.backlog[-1].weight
        return 0 if self.ready and self.first()[-1].promised else 1

    def left(self) -> Iterator[Task]:
        """Yield the tasks that have no result yet, including those in flight."""
        yield from self.flying
        yield from (task for *_, task in self.ready)
        yield from (task for *_, task in self.waiting)
        yield from reversed(self.backlog)

    def clear(self) -> None:
        """Forget all tasks."""
        self.ready, self.waiting, self.backlog = [], [], []
        self.flying.clear()

    def opens_at(self, now: float) -> float:
        """Return when the gates let the next task go; infinite where that depends on what is in flight."""
        if (self.gate.alone and self.flying) or (self.group_gate.alone and self.group_gate.in_flight):
            return NEVER
        ready_at = now if self.ready or self.backlog else self.waiting[0][0]
        return max(ready_at, self.gate.opens_at, self.group_gate.opens_at)

    def make_ready(self, now: float, minute: int) -> None:
        """Move what has waited long enough; what was admitted in an earlier minute must be admitted again."""
        while self.waiting and self.waiting[0][0] <= now:
            self.add(heapq.heappop(self.waiting)[-1])
        if minute != self.minute:
            self.minute = minute
            for task in self.left():
                task.promised = 0
            untried = [entry for entry in self.ready if not entry[2].attempts]
            if untried:
                self.backlog += [task for *_, task in sorted(untried, reverse=True)]
                self.ready = [entry for entry in self.ready if entry[2].attempts]
                heapq.heapify(self.ready)

    def wants_portion(self) -> bool:
        """Whether the next task has not been admitted: an account that was not tried makes the best probe."""
        if not self.backlog or not self.ready:
            return bool(self.backlog)
        return self.gate.alone and all(task.attempts for *_, task in self.ready)

    def portion(self, size: int) -> list[Task]:
        """Return the next tasks to admit, most urgent first: one where the host has been failing."""
        return self.backlog[: -(1 if self.gate.failures else size) - 1 : -1]

    def add(self, task: Task) -> None:
        """Add a task that may be sent."""
        heapq.heappush(self.ready, (task.rank, task.attempts, task))

    def first(self) -> tuple[int, int, Task]:
        """Return the next task that is ready: the most urgent; as a probe, the one that was tried least."""
        if not (self.gate.alone or self.group_gate.alone):
            return self.ready[0]
        return min(self.ready, key=lambda entry: (entry[2].attempts, entry[0]))

    def launch(self, now: float) -> Task:
        """Take the next task and put it in flight."""
        entry = self.first()
        if entry is self.ready[0]:
            heapq.heappop(self.ready)
        else:
            self.ready.remove(entry)
            heapq.heapify(self.ready)
        task = entry[-1]
        self.flying.add(task)
        self.group_gate.in_flight += 1
        task.promised -= 1
        task.attempts += 1
        task.started = now
        return task

    def land(self, task: Task, error: AccountError | None, now: float) -> float | None:
        """Take a task back and tell the gates how it went; return when it may go again, None for never."""
        self.flying.discard(task)
        self.group_gate.in_flight -= 1
        if error and error.code == ErrorCode.INTERNAL:
            return None  # our own bug says nothing about the host
        if isinstance(error, Refused):
            return now if self.group_gate.refused(task.id, error, now) else None
        if isinstance(error, Transient):
            others = any(other.at_risk(now) for other in self.left())
            return self.gate.failed(task.id, task.attempts, task.started, now, task.at_risk(now), others)
        self.group_gate.answered(task.started)
        if error:
            self.gate.rejected(task.started)
            return now if task.renewal.wants_more else None
        self.gate.served(task.started)
        return now


def lanes_of(tasks: Iterable[Task], patience: float) -> dict[tuple[str, str], Lane]:
    """Return a lane for each host and group: BinanceBaseUrl gives all products one host.

    The first task of a lane finds out whether the host lets anybody in. It is one whose last attempt did
    not fail, if there is one.
    """
    hosts: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        hosts.setdefault((task.host, task.group), []).append(task)
    groups: dict[str, GroupGate] = {}
    lanes: dict[tuple[str, str], Lane] = {}
    for host, own in hosts.items():
        probe = next((task for task in own if not task.suspect), own[0])
        own.remove(probe)
        probe.rank = -1
        gate = groups.setdefault(probe.group, GroupGate())
        lanes[host] = Lane(probe.group, gate, HostGate(patience=patience), [*own[::-1], probe])
    return lanes
