"""The tasks of a run, by host: not yet admitted, ready, waiting, or in flight. No locks, no clock."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import AccountError, ErrorCode
from .gate import GroupGate, HostGate

if TYPE_CHECKING:
    from ..renewal import Renewal

AT_RISK = 900.0  # seconds: a key that dies sooner may not live until a later run
NEVER = float("inf")


@dataclass(eq=False, slots=True)
class Task:
    """An account's way through a run. `rank` is its place in the order; lower goes first.

    `dies_at` is the monotonic time at which a live key dies, infinite where there is none to save.
    `suspect`: its last attempt failed, so it is not the one to find out about a host.
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
    """A host's tasks: not yet admitted (most urgent last), ready, and waiting for their time."""

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
        return self.group_gate.stopped or self.gate.stopped

    def left(self) -> Iterator[Task]:
        """Yield the tasks that have no result yet, those in flight too."""
        yield from self.flying
        yield from (task for *_, task in self.ready)
        yield from (task for *_, task in self.waiting)
        yield from reversed(self.backlog)

    def make_ready(self, now: float, minute: int) -> None:
        """Move what has waited long enough; what was admitted in an earlier minute is admitted again."""
        while self.waiting and self.waiting[0][0] <= now:
            *_, task = heapq.heappop(self.waiting)
            heapq.heappush(self.ready, (task.rank, task.attempts, task))
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
        """Whether the next task is still to be admitted: a probe is an account not tried before, if any."""
        if not self.backlog or not self.ready:
            return bool(self.backlog)
        return self.gate.alone and all(task.attempts for *_, task in self.ready)

    def first(self) -> tuple[int, int, Task]:
        """Return the next that is ready: the most urgent; as a probe the one that was tried least."""
        if not (self.gate.alone or self.group_gate.alone):
            return self.ready[0]
        return min(self.ready, key=lambda entry: (entry[2].attempts, entry[0]))

    def pop(self) -> Task:
        """Take the next task of those that are ready."""
        entry = self.first()
        if entry is self.ready[0]:
            heapq.heappop(self.ready)
        else:
            self.ready.remove(entry)
            heapq.heapify(self.ready)
        return entry[-1]
