"""Who may begin: weight from the counter that all runs share, and what other runs have recorded meanwhile."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

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
    """Admits a host's accounts, ahead of `workers` requests; `skip` ends those another run has renewed."""

    budget: Budget
    records: Records
    pool: Pool
    clock: Clock
    due_rule: DueRule
    workers: int
    skip: Callable[[Host, Renewal], None]
    _asking: set[str] = field(init=False, default_factory=set)  # groups
    _read_in: int = field(init=False)  # the clock minute in which the run read the records, or an earlier one

    def __post_init__(self) -> None:
        self._read_in = self.budget.minute()

    def opens_at(self, host: Host) -> float:
        """Return when a request may go; NEVER where that depends on an answer. Asks for what is missing."""
        at = self.budget.opens_at(host.group)
        if at > self.clock.monotonic():
            return at
        self._ask(host)
        if host.ready and self.budget.now(host.group).free and not (host.alone and host.asked):
            return at
        return NEVER if host.group in self._asking else self.budget.next_minute()

    def _ask(self, host: Host) -> None:
        """Admit the next portion if few are ready, and get the weight that is missing."""
        group, minute, now = host.group, self.budget.now(host.group), self.clock.monotonic()
        if group in self._asking:
            return
        room = 0 if minute.used_up else self.budget.caps[group] - minute.taken
        portion = host.next(self.workers, minute.free + room - len(host.ready))
        run_id: str | None = self.due_rule.run_id
        # Somebody waits for what is not scheduled, and a key about to die waits for no other run.
        if not self.due_rule.trigger.scheduled or any(renewal.dying(now) for renewal in portion):
            run_id = None
        elif minute.foreign:
            portion = []
        weight = max(0, min(room, len(portion) * host.weight + len(host.ready) - minute.free))
        if not portion and (minute.free or not weight):
            return
        host.admit(portion)
        self._asking.add(group)
        work = partial(self._take, group, minute.number, weight, run_id if portion else None, portion)
        self.pool.start(work, partial(self._taken, host, portion, minute.number, weight))

    def _take(
        self, group: str, minute: int, weight: int, run_id: str | None, portion: list[Renewal]
    ) -> tuple[int | None, Mapping[str, Current]]:
        """In the pool: take weight and the minute, and read the portion's records again.

        Not in the minute in which the run read them first: since then no other run has begun any.
        """
        got = self.budget.take(group, minute, weight, run_id)
        if (
            got is None
            or self._read_in == minute
            or self.budget.trouble
            or not self.due_rule.trigger.scheduled
        ):
            return got, {}
        try:
            return got, self.records.current(renewal.id for renewal in portion)
        except Unavailable:
            return got, {}  # go by what was read first

    def _taken(
        self,
        host: Host,
        portion: list[Renewal],
        minute: int,
        weight: int,
        came: tuple[int | None, Mapping[str, Current]],
    ) -> None:
        got, fresh = came
        self._asking.discard(host.group)
        self.budget.taken(host.group, minute, weight, got)
        if host.asked is not portion:
            return  # they have been reported as not attempted
        host.asked = []
        if got is None or minute != self.budget.minute():
            host.backlog += portion[::-1]
            return
        due_rule = replace(self.due_rule, now=self.clock.now())
        for renewal in portion:
            known, renewal.before = renewal.before, fresh.get(renewal.id, renewal.before)
            renewed = renewal.before.renewed_at != known.renewed_at
            if renewed and not due_rule(renewal.account, renewal.before)[0]:
                self.skip(host, renewal)
            else:
                host.add(renewal)
