"""Who is admitted: weight from the budget that all runs share, and a claim that keeps other runs away."""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from ..aws.counter import Taken
from ..aws.records import Records
from ..clock import Clock
from ..errors import Unavailable
from ..model import Current
from ..pool import Pool
from ..selection import DueRule
from ..timing import NEVER
from .host import Host
from .renewal import Renewal
from .weight import Budget


@dataclass(slots=True)
class Admission:
    """Gets hosts weight in the pool, ahead of `workers` requests; `skip` ends whom another run renews."""

    budget: Budget
    records: Records
    pool: Pool
    clock: Clock
    due_rule: DueRule
    workers: int
    skip: Callable[[Host, Renewal], None]
    asking: set[str] = field(init=False, default_factory=set)
    _read_in: int = field(init=False)  # the clock minute in which the run read the records, or an earlier one
    _carried: int = field(init=False, default=0)  # the last clock minute whose claims went into the next

    def __post_init__(self) -> None:
        self._read_in = self.budget.minute()

    def ask(self, host: Host) -> None:
        """Have a portion admitted, and get weight for those who need more than they were promised."""
        group, minute = host.group, self.budget.now(host.group)
        if group in self.asking or self.budget.opens_at(group, 0) > self.clock.monotonic():
            return
        short = host.short(self.workers)
        if not short and (not host.ready or host.first()[-1].promised or minute.free):
            return
        in_sight = minute.free + minute.room
        lacking = min(in_sight, sum(not renewal.promised for *_, renewal in host.ready))
        needed = lacking + (host.admit(in_sight - lacking) if short else 0)
        weight = max(0, needed - minute.free)
        if not host.asked and not weight:
            return
        portion, number = host.asked, minute.number
        if self.budget.trouble:
            self._granted(host, portion, weight, number, (Taken(True, minute.taken, set()), {}))
            return
        self.asking.add(group)
        work = partial(self._take, group, number, weight, [renewal.id for renewal in portion])
        self.pool.start(work, partial(self._granted, host, portion, weight, number))

    def _take(
        self, group: str, minute: int, weight: int, ids: list[str]
    ) -> tuple[Taken | Unavailable, Mapping[str, Current]]:
        """In the pool: take weight, claim the accounts, and read their records again.

        Not in the minute in which the run read them first: who changes one then has claimed it.
        """
        taken = self.budget.take(group, minute, weight, ids)
        if self._read_in == minute or not self.due_rule.trigger.scheduled or not ids:
            return taken, {}
        try:
            return taken, self.records.current(ids)
        except Unavailable:
            return taken, {}  # go by what was read first

    def _granted(
        self,
        host: Host,
        portion: list[Renewal],
        weight: int,
        minute: int,
        said: tuple[Taken | Unavailable, Mapping[str, Current]],
    ) -> None:
        taken, fresh = said
        self.asking.discard(host.group)
        in_hand = self.budget.taken(host.group, minute, weight, taken)
        if host.asked is not portion:
            return  # they have been reported as not attempted
        host.asked = []
        if not in_hand:
            host.backlog += portion[::-1]
            return
        # Somebody waits for the answer, and does not wait for another run.
        waits = not self.due_rule.trigger.scheduled
        claimed = set() if waits or isinstance(taken, Unavailable) else taken.claimed
        due_rule, now = replace(self.due_rule, now=self.clock.now()), self.clock.monotonic()
        for renewal in portion:
            known = renewal.before
            renewal.before = fresh.get(renewal.id, known)
            renewed = renewal.before.renewed_at != known.renewed_at
            if renewed and not due_rule(renewal.account, renewal.before)[0]:
                self.skip(host, renewal)
            elif renewal.id in claimed and renewal.at_risk(now):
                # Who has it may be at its end. Look again in the next minute: there is a key to save.
                heapq.heappush(host.waiting, (self.budget.next_minute(), renewal.rank, renewal))
            elif renewal.id in claimed:
                self.skip(host, renewal)
            else:
                renewal.promised = renewal.weight
                self.budget.now(host.group).free -= renewal.weight
                host.add(renewal)

    def carry(self, now: float, under_way: Iterable[tuple[str, str]]) -> float:
        """In a minute's last second, claim in the next what is under way; return when to look again."""
        minute, left = self.budget.minute(), self.budget.ends_in()
        if left > 0:
            return now + left
        if self._carried != minute and not self.budget.trouble:
            self._carried = minute
            of: dict[str, list[str]] = {}
            for group, id_ in under_way:
                of.setdefault(group, []).append(id_)
            for group, ids in of.items():
                self.pool.start(partial(self.budget.take, group, minute + 1, 0, ids), lambda _: None)
        return NEVER
