"""The queues of a host's renewals, from the backlog to the answer. No clock, no threads."""

import heapq
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from ..errors import AccountError, ErrorCode, Refused, Transient
from ..timing import NEVER
from .gate import GroupGate, HostGate
from .renewal import Renewal

PORTION = 100  # accounts admitted at a time: as many records as one BatchGetItem reads


@dataclass(eq=False, slots=True)
class Host:
    """A host's renewals: not yet admitted (`backlog`, most urgent last), ready, waiting, in flight."""

    group: str
    group_gate: GroupGate
    gate: HostGate
    weight: int  # that one renewal takes
    backlog: list[Renewal]
    ready: list[Renewal] = field(default_factory=list)
    waiting: list[tuple[float, int, Renewal]] = field(default_factory=list)
    flying: set[Renewal] = field(default_factory=set)
    minute: int = 0

    @property
    def stopped(self) -> ErrorCode | None:
        """Why the host sends nothing more in this run, or None if it may send."""
        return self.group_gate.stopped or self.gate.stopped

    @property
    def alone(self) -> bool:
        """Whether only one request may be under way at a time."""
        return self.group_gate.alone or self.gate.alone

    def left(self) -> Iterator[Renewal]:
        """Yield the renewals that have no result yet, including those in flight."""
        yield from self.flying
        yield from self.ready
        yield from (renewal for *_, renewal in self.waiting)
        yield from reversed(self.backlog)

    def opens_at(self, now: float) -> float:
        """Return when (monotonic) the gates allow the next request; NEVER if one in flight must end first."""
        if (self.gate.alone and self.flying) or (self.group_gate.alone and self.group_gate.in_flight):
            return NEVER
        ready_at = now if self.ready or self.backlog else self.waiting[0][0]
        return max(ready_at, self.gate.opens_at, self.group_gate.opens_at)

    def make_ready(self, now: float, minute: int) -> None:
        """Move what has waited long enough to `ready`. In a new minute, move untried ones to the backlog."""
        while self.waiting and self.waiting[0][0] <= now:
            self.add(heapq.heappop(self.waiting)[-1])
        if minute != self.minute:
            self.minute = minute
            self.backlog += [renewal for renewal in self.ready[::-1] if not renewal.attempts]
            self.ready = [renewal for renewal in self.ready if renewal.attempts]

    def add(self, renewal: Renewal) -> None:
        """Add a renewal to `ready`, in the order of `rank`."""
        insort(self.ready, renewal, key=attrgetter("rank"))

    def next(self, ahead: int, most: int) -> list[Renewal]:
        """Return up to `most` to admit; none if `ahead` are ready or, while alone, an untried one is."""
        enough = (
            any(not renewal.attempts for renewal in self.ready) if self.alone else len(self.ready) >= ahead
        )
        count = 0 if enough else min(most, 1 if self.gate.failures else PORTION)
        return self.backlog[: -count - 1 : -1] if count > 0 else []

    def first(self) -> Renewal:
        """Return the next one to send: the most urgent or, while alone, the one with the fewest attempts."""
        return min(self.ready, key=attrgetter("attempts")) if self.alone else self.ready[0]

    def launch(self, now: float) -> Renewal:
        """Take the next renewal out of `ready` and count it as in flight."""
        renewal = self.first()
        self.ready.remove(renewal)
        self.flying.add(renewal)
        self.group_gate.in_flight += 1
        renewal.attempts += 1
        renewal.started = now
        return renewal

    def land(self, renewal: Renewal, error: AccountError | None, now: float) -> float | None:
        """Take a renewal back and pass its outcome to the gates. Return when it may go again, or None."""
        self.flying.discard(renewal)
        self.group_gate.in_flight -= 1
        if error and error.code == ErrorCode.INTERNAL:
            return None  # our own bug says nothing about the host
        if isinstance(error, Refused):
            return now if self.group_gate.refused(renewal.id, error, now) else None
        if isinstance(error, Transient):
            others = any(other.at_risk(now) for other in self.left())
            return self.gate.failed(
                renewal.id, renewal.attempts, renewal.started, now, renewal.at_risk(now), others
            )
        self.group_gate.answered(renewal.started)
        if error:
            self.gate.rejected(renewal.started)
            return now if renewal.wants_more else None
        self.gate.served(renewal.started)
        return now
