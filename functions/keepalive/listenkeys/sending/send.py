"""A run's requests: who goes next, who waits, who is left. One thread decides; the pool's threads only send.

Each host has a queue of renewals. It admits a portion of them at a time, with weight from the stack's budget,
and its gates say when to hold back.
"""

import heapq
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from ..aws.counter import Taken
from ..aws.records import Records
from ..clock import Clock
from ..errors import AccountError, ErrorCode, Refused, Transient, Unavailable
from ..journal import Journal
from ..model import RETRYABLE, Current, Outcome, Result
from ..pool import Pool
from ..products import ENDPOINTS
from ..selection import Judge
from .gate import GroupGate, HostGate
from .renewal import NEVER, Renewal, internal
from .weight import Budget

if TYPE_CHECKING:
    from ..binance.client import BinanceClient

PORTION = 100  # accounts admitted at a time: as many records as one BatchGetItem reads
LET_GO = 10.0  # seconds after the deadline: a request has ended by then, or it hangs outside its timeouts
_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Host:
    """A host's renewals: not yet admitted (most urgent last), ready, waiting for their time, in flight."""

    group: str
    group_gate: GroupGate
    gate: HostGate
    backlog: list[Renewal]
    ready: list[tuple[int, int, Renewal]] = field(default_factory=list)
    waiting: list[tuple[float, int, Renewal]] = field(default_factory=list)
    flying: set[Renewal] = field(default_factory=set)
    asked: list[Renewal] = field(default_factory=list)  # being admitted
    minute: int = 0

    @property
    def stopped(self) -> ErrorCode | None:
        """Why nothing more is sent in this run, None while it may be."""
        return self.group_gate.stopped or self.gate.stopped

    @property
    def alone(self) -> bool:
        """Whether one request goes at a time."""
        return self.group_gate.alone or self.gate.alone

    @property
    def pending(self) -> bool:
        """Whether there are renewals to send, now or later."""
        return bool(self.ready or self.waiting or self.asked or self.backlog)

    def left(self) -> Iterator[Renewal]:
        """Yield the renewals that have no result yet, including those in flight."""
        yield from self.flying
        yield from (renewal for *_, renewal in self.ready + self.waiting)
        yield from self.asked
        yield from reversed(self.backlog)

    def under_way(self) -> list[str]:
        """Return the accounts that have been tried and may be tried again."""
        queued = (renewal for *_, renewal in self.ready + self.waiting if renewal.attempts)
        return [renewal.id for renewal in (*self.flying, *queued)]

    def opens_at(self, now: float) -> float:
        """Return when the gates let the next one go; NEVER where that depends on what is in flight."""
        if (self.gate.alone and self.flying) or (self.group_gate.alone and self.group_gate.in_flight):
            return NEVER
        ready_at = now if self.ready or self.asked or self.backlog else self.waiting[0][0]
        return max(ready_at, self.gate.opens_at, self.group_gate.opens_at)

    def make_ready(self, now: float, minute: int) -> None:
        """Move what has waited long enough; what was admitted in an earlier minute must be admitted again."""
        while self.waiting and self.waiting[0][0] <= now:
            self.add(heapq.heappop(self.waiting)[-1])
        if minute != self.minute:
            self.minute = minute
            for renewal in self.left():
                renewal.promised = 0
            untried = [entry for entry in self.ready if not entry[2].attempts]
            self.backlog += [renewal for *_, renewal in sorted(untried, reverse=True)]
            self.ready = [entry for entry in self.ready if entry[2].attempts]
            heapq.heapify(self.ready)

    def add(self, renewal: Renewal) -> None:
        """Add a renewal that may be sent."""
        heapq.heappush(self.ready, (renewal.rank, renewal.attempts, renewal))

    def short(self, ahead: int) -> bool:
        """Whether to admit more: as a probe, an account that was not tried is best."""
        if not self.backlog:
            return False
        return all(r.attempts for *_, r in self.ready) if self.alone else len(self.ready) < ahead

    def admit(self, weight: int) -> int:
        """Take out of the backlog whom this weight lasts for; return how much they need."""
        needed = 0
        for _ in range(1 if self.gate.failures else PORTION):
            if not self.backlog or needed + self.backlog[-1].weight > weight:
                break
            needed += self.backlog[-1].weight
            self.asked.append(self.backlog.pop())
        return needed

    def first(self) -> tuple[int, int, Renewal]:
        """Return the next that is ready: the most urgent; as a probe, the one that was tried least."""
        if not self.alone:
            return self.ready[0]
        return min(self.ready, key=lambda entry: (entry[2].attempts, entry[0]))

    def launch(self, now: float) -> Renewal:
        """Take the next out of the queue."""
        entry = self.first()
        if entry is self.ready[0]:
            heapq.heappop(self.ready)
        else:
            self.ready.remove(entry)
            heapq.heapify(self.ready)
        renewal = entry[-1]
        self.flying.add(renewal)
        self.group_gate.in_flight += 1
        renewal.attempts += 1
        renewal.started = now
        return renewal

    def land(self, renewal: Renewal, error: AccountError | None, now: float) -> float | None:
        """Take one back and tell the gates how it went; return when it may go again, None for never."""
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


@dataclass(slots=True)
class Sending:
    """Sends a run's renewals; each comes to the journal once. Nothing starts after `deadline` (monotonic).

    `go` starts what may go now, the pool's `land` takes in what came of it.
    """

    binance: "BinanceClient"
    budget: Budget
    records: Records
    journal: Journal
    pool: Pool
    clock: Clock
    judge: Judge
    deadline: float
    workers: int
    _hosts: dict[tuple[str, str], Host] = field(init=False, default_factory=dict)
    _gates: dict[str, GroupGate] = field(init=False, default_factory=dict)
    _groups: dict[str, str] = field(init=False, default_factory=dict)  # of each account
    _asking: set[str] = field(init=False, default_factory=set)  # groups for which weight is being taken
    _unrenewed: dict[str, list[str]] = field(init=False, default_factory=dict)  # by group
    _read_in: int = field(init=False)  # the clock minute in which the run read the records, or an earlier one
    _carried: int = field(init=False, default=0)  # the last clock minute whose claims went into the next

    def __post_init__(self) -> None:
        self._read_in = self.budget.minute()

    def add(self, renewals: Iterable[Renewal]) -> None:
        """Add renewals, most urgent first. The first of a host finds out whether it lets anybody in.

        It is one whose last attempt did not fail, if there is one.
        """
        hosts: dict[tuple[str, str], list[Renewal]] = {}
        for renewal in renewals:
            name = renewal.account.endpoint
            group = self._groups[renewal.id] = ENDPOINTS[name].group
            renewal.weight = min(ENDPOINTS[name].weight, self.budget.caps[group])
            hosts.setdefault((self.binance.host_of(name), group), []).append(renewal)
        for key, own in hosts.items():
            probe = next((renewal for renewal in own if not renewal.before.consecutive_failures), own[0])
            own.remove(probe)
            probe.rank = -1
            gate = self._gates.setdefault(key[1], GroupGate())
            self._hosts[key] = Host(key[1], gate, HostGate(), [*own[::-1], probe])

    def go(self) -> float | None:
        """Start what may go now; return when to look again, None when there is nothing left to wait for."""
        while True:
            now = self.clock.monotonic()
            best, wake = self._choose(now)
            flying = sum(len(host.flying) for host in self._hosts.values())
            if best is None or flying >= self.workers:
                if (wake is None and not flying) or now >= self.deadline + LET_GO:
                    return None
                wake = NEVER if wake is None or best else wake
                return min(wake, self._carry(now), self.deadline + LET_GO)
            renewal = best.launch(now)
            if renewal.promised:
                renewal.promised -= 1
            else:
                self.budget.now(best.group).free -= 1
            self.pool.start(partial(_send, renewal, self.binance), partial(self._landed, best, renewal))

    def settle(self) -> None:
        """End those that are left: FAILED if they were tried, DEFERRED if not."""
        for host in self._hosts.values():
            for renewal in list(host.left()):
                self._finish(host, renewal, renewal.left(host.stopped or ErrorCode.DEADLINE))
            host.flying, host.asked = set(), []  # what lands from now on has been reported
        self._hosts.clear()

    def close(self) -> None:
        """Give back the weight that was not used, and the claims on accounts that were not renewed."""
        for group in self._gates:
            self.budget.give_back(group, self._unrenewed.get(group, ()))

    def _choose(self, now: float) -> tuple[Host | None, float | None]:
        """Return the host whose turn it is; else when to look again, None where nothing is left to send."""
        best: Host | None = None
        wake: float | None = None
        for host in self._hosts.values():
            host.make_ready(now, self.budget.minute())
            if host.stopped or not host.pending:
                continue
            at = host.opens_at(now)
            if at <= now <= self.deadline:
                self._ask(host)
            needed = 0
            if not host.ready or (host.alone and host.short(1)):
                needed = host.backlog[-1].weight if host.backlog else 1
            elif not host.first()[-1].promised and not self.budget.now(host.group).free:
                needed = 1
            asking = needed > 0 and host.group in self._asking
            at = max(at, NEVER if asking else self.budget.opens_at(host.group, needed))
            if (now if at == NEVER else max(now, at)) > self.deadline:
                paused = host.group_gate.opens_at > self.deadline
                host.gate.stop(ErrorCode.RATE_LIMITED if paused else ErrorCode.DEADLINE)
            elif at > now:
                wake = at if wake is None else min(wake, at)
            elif best is None or host.first()[0] < best.first()[0]:
                best = host
        return best, wake

    def _ask(self, host: Host) -> None:
        """Have a portion admitted, and get weight for those who need more than they were promised."""
        group, minute = host.group, self.budget.now(host.group)
        if group in self._asking or self.budget.opens_at(group, 0) > self.clock.monotonic():
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
        self._asking.add(group)
        work = partial(self._take, group, number, weight, [renewal.id for renewal in portion])
        self.pool.start(work, partial(self._granted, host, portion, weight, number))

    def _take(
        self, group: str, minute: int, weight: int, ids: list[str]
    ) -> tuple[Taken | Unavailable, Mapping[str, Current]]:
        """In the pool: take weight, claim the accounts, and read their records again.

        Not in the minute in which the run read them first: who changes one then has claimed it.
        """
        taken = self.budget.take(group, minute, weight, ids)
        if self._read_in == minute or not self.judge.trigger.scheduled or not ids:
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
        self._asking.discard(host.group)
        in_hand = self.budget.taken(host.group, minute, weight, taken)
        if host.asked is not portion:
            return  # they have been reported as not attempted
        host.asked = []
        if not in_hand:
            host.backlog += portion[::-1]
            return
        # Somebody waits for the answer, and does not wait for another run.
        waits = not self.judge.trigger.scheduled
        claimed = set() if waits or isinstance(taken, Unavailable) else taken.claimed
        judge = replace(self.judge, now=self.clock.now())
        for renewal in portion:
            known = renewal.before
            renewal.before = fresh.get(renewal.id, known)
            renewed = renewal.before.renewed_at != known.renewed_at
            if renewal.id in claimed or (renewed and not judge(renewal.account, renewal.before)[0]):
                self._finish(host, renewal, renewal.skipped())
            else:
                renewal.promised = renewal.weight
                self.budget.now(host.group).free -= renewal.weight
                host.add(renewal)

    def _landed(
        self, host: Host, renewal: Renewal, came: tuple[Result | None, AccountError | None, bool]
    ) -> None:
        """Take in what came of a request: the account's result, or when it goes again."""
        result, error, last = came
        if renewal not in host.flying:
            return  # it has been reported as unanswered
        now = self.clock.monotonic()
        self.budget.observe(host.group, renewal.used_weight)
        again = host.land(renewal, error, now)
        renewal.error = error or renewal.error
        if again is not None and not last and not result:
            heapq.heappush(host.waiting, (again, renewal.rank, renewal))
            return
        result = result or renewal.failure()
        result.latency_ms = round((now - renewal.started) * 1000)
        self._finish(host, renewal, result)

    def _finish(self, host: Host, renewal: Renewal, result: Result) -> None:
        result.attempts = renewal.attempts
        if result.outcome in (*RETRYABLE, Outcome.REJECTED):
            self._unrenewed.setdefault(host.group, []).append(renewal.id)
        if host.minute == self.budget.minute():
            self.budget.now(host.group).free += renewal.promised
        self.journal.add(result)

    def _carry(self, now: float) -> float:
        """In a minute's last second, claim in the next one what is under way; return when to look again."""
        minute, left = self.budget.minute(), self.budget.ends_in()
        if left > 0 or self._carried == minute or self.budget.trouble:
            return now + left if left > 0 else NEVER
        self._carried = minute
        under_way: dict[str, list[str]] = {}
        for host in self._hosts.values():
            under_way.setdefault(host.group, []).extend(host.under_way())
        for result in self.journal.unrecorded():
            if group := self._groups.get(result.account_id):
                under_way.setdefault(group, []).append(result.account_id)
        for group, ids in under_way.items():
            if ids:
                self.pool.start(partial(self.budget.take, group, minute + 1, 0, ids), lambda _: None)
        return NEVER


def _send(renewal: Renewal, binance: "BinanceClient") -> tuple[Result | None, AccountError | None, bool]:
    """In the pool: send the next request. Return the result, or the error, and whether it was the last."""
    last = renewal.posting
    try:
        return renewal.send(binance), None, last
    except AccountError as trouble:
        error = trouble
    except Exception as bug:  # noqa: BLE001 - one account's bug is not the others'
        error = internal(bug)
    _log.debug("failure", extra={"accountId": renewal.id, "errorCode": error.code, "why": error.message})
    return None, error, last
