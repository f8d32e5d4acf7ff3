"""A run's requests: who goes next, who waits, who is left. One thread decides; the pool's only send."""

import heapq
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ..aws.records import Records
from ..clock import Clock
from ..errors import AccountError, ErrorCode
from ..journal import Journal
from ..model import RETRYABLE, Outcome, Result
from ..pool import Pool
from ..products import ENDPOINTS
from ..selection import DueRule
from ..timing import LET_GO, NEVER
from .admission import Admission
from .gate import GroupGate, HostGate
from .host import Host
from .renewal import Renewal, internal
from .weight import Budget

if TYPE_CHECKING:
    from ..binance.client import BinanceClient

_log = logging.getLogger(__name__)


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
    due_rule: DueRule
    deadline: float
    workers: int
    _hosts: dict[tuple[str, str], Host] = field(init=False, default_factory=dict)
    _gates: dict[str, GroupGate] = field(init=False, default_factory=dict)
    _left: bool = field(init=False, default=False)  # whether there are accounts that were not renewed
    _kept: int = field(init=False, default=0)  # the last clock minute in which the next was taken, too
    _admission: Admission = field(init=False)

    def __post_init__(self) -> None:
        self._admission = Admission(
            self.budget, self.records, self.pool, self.clock, self.due_rule, self.workers, self._skip
        )

    def add(self, renewals: Iterable[Renewal]) -> None:
        """Add renewals, most urgent first. A host begins with one whose last attempt did not fail."""
        hosts: dict[tuple[str, str], list[Renewal]] = {}
        for renewal in renewals:
            name = renewal.account.endpoint
            hosts.setdefault((self.binance.host_of(name), ENDPOINTS[name].group), []).append(renewal)
        for key, own in hosts.items():
            probe = next((renewal for renewal in own if not renewal.before.consecutive_failures), own[0])
            own.remove(probe)
            probe.rank = -1
            gate = self._gates.setdefault(key[1], GroupGate())
            weight = max(ENDPOINTS[renewal.account.endpoint].weight for renewal in [probe, *own])
            self._hosts[key] = Host(key[1], gate, HostGate(), weight, [*own[::-1], probe])

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
                return min(wake, self._keep(now, flying), self.deadline + LET_GO)
            renewal = best.launch(now)
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
        """Give back the weight that was not used, and leave the minute to others if there is work left."""
        for group in self._gates:
            self.budget.give_back(group, self._left and self.due_rule.trigger.scheduled)

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
                at = self._admission.opens_at(host)
            if (now if at == NEVER else max(now, at)) > self.deadline:
                paused = host.group_gate.opens_at > self.deadline
                host.gate.stop(ErrorCode.RATE_LIMITED if paused else ErrorCode.DEADLINE)
            elif at > now:
                wake = at if wake is None else min(wake, at)
            elif best is None or host.first()[0] < best.first()[0]:
                best = host
        return best, wake

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

    def _skip(self, host: Host, renewal: Renewal) -> None:
        self._finish(host, renewal, renewal.skipped())

    def _keep(self, now: float, flying: int) -> float:
        """In a minute's last second, take the next one if something is under way; return when to look again.

        No other run then asks for what is not answered or not recorded yet.
        """
        minute, left = self.budget.minute(), self.budget.ends_in()
        if left > 0:
            return now + left
        if self._kept != minute and self.due_rule.trigger.scheduled and (flying or self.journal.unrecorded):
            self._kept = minute
            for group in self._gates:
                take = partial(self.budget.take, group, minute + 1, 0, self.due_rule.run_id)
                self.pool.start(take, lambda _: None)
        return NEVER

    def _finish(self, host: Host, renewal: Renewal, result: Result) -> None:
        result.attempts = renewal.attempts
        self._left |= result.outcome in (*RETRYABLE, Outcome.REJECTED)
        self.journal.add(result)


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
