"""Admits accounts: takes weight from the counter that all runs share, skips what other runs have renewed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from ..aws.records import Records
from ..clock import Clock
from ..errors import Unavailable
from ..journal import Journal
from ..model import Current, Outcome
from ..pool import Pool
from ..selection import DueRule
from ..timing import NEVER
from .host import Host
from .renewal import Renewal
from .weight import Budget, Minute


@dataclass(slots=True)
class Admission:
    """Admits a host's accounts in portions, early enough to keep `workers` requests ready."""

    budget: Budget
    records: Records
    journal: Journal
    pool: Pool
    clock: Clock
    due_rule: DueRule
    workers: int
    _asking: set[str] = field(init=False, default_factory=set)  # groups whose weight is being taken
    _kept: int = field(init=False, default=0)  # the minute in which `keep` last took the next one

    def opens_at(self, host: Host) -> float:
        """Return when (monotonic) the host may send; NEVER while it waits for weight, which this asks for."""
        at = self.budget.opens_at(host.group)
        if at > self.clock.monotonic():
            return at
        minute = self.budget.now(host.group)
        self._ask(host, minute)
        asking = host.group in self._asking
        if host.ready and minute.free and not (host.alone and asking):
            return at
        return NEVER if asking else self.budget.next_minute()

    def keep(self, groups: Mapping[str, object], flying: int) -> float:
        """Return when to look again. In a minute's last second, take the next minute if work is under way.

        Otherwise another run could take it, and renew accounts whose results are not recorded yet.
        """
        left = self.budget.ends_in()
        if left > 0:
            return self.clock.monotonic() + left
        minute = self.budget.minute()
        if self._kept != minute and (flying or self.journal.saving or self.journal.unsaved):
            self._kept = minute
            for group in groups:
                self.pool.start(partial(self.budget.take, group, minute + 1, 0, own=True), lambda _: None)
        return NEVER

    def _ask(self, host: Host, minute: Minute) -> None:
        """Start to admit the next portion if few renewals are ready, and to take the weight it lacks."""
        group, now = host.group, self.clock.monotonic()
        if group in self._asking:
            return
        portion = host.next(self.workers, minute.free + minute.room - len(host.ready))
        dying = any(renewal.dying(now) for renewal in portion)
        if minute.mine is False and not dying:
            portion = []
        weight = max(0, min(minute.room, len(portion) * host.weight + len(host.ready) - minute.free))
        if not portion and (minute.free or not weight):
            return
        self._asking.add(group)
        own = bool(portion) and not dying
        work = partial(self._take, group, minute.number, weight, own, portion)
        self.pool.start(work, partial(self._taken, host, portion, minute.number, weight))

    def _take(
        self, group: str, minute: int, weight: int, own: bool, portion: list[Renewal]
    ) -> tuple[int | None, Mapping[str, Current]]:
        """Take weight and the minute, and read the portion's records again. Runs in the pool.

        Return the weight, None if another run has the minute, and the records. None are read in the minute in
        which the run began, because no other run has begun an account since.
        """
        got = self.budget.take(group, minute, weight, own)
        if got is None or minute == self.budget.began or self.budget.trouble:
            return got, {}
        try:
            return got, dict(self.records.read(renewal.id for renewal in portion))
        except Unavailable:
            return got, {}  # use the records that the run read first

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
        if got is None or minute != self.budget.minute() or host.backlog[: -len(portion) - 1 : -1] != portion:
            return  # another run's minute, a past one, or the portion was reported as not attempted
        del host.backlog[len(host.backlog) - len(portion) :]
        due_rule = replace(self.due_rule, now=self.clock.now())
        for renewal in portion:
            known, renewal.before = renewal.before, fresh.get(renewal.id, renewal.before)
            renewed = renewal.before.renewed_at != known.renewed_at
            if renewed and not due_rule(renewal.account, renewal.before)[0]:
                self.journal.add(renewal.ended(Outcome.SKIPPED, to_record=False))
            else:
                host.add(renewal)
