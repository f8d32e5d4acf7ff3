"""Decides which of a run's renewals is sent next. One thread decides; the pool's threads only send."""

import heapq
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from ..binance.client import BinanceClient
from ..clock import Clock
from ..errors import AccountError, ErrorCode
from ..journal import Journal
from ..model import Result
from ..pool import Pool
from ..products import ENDPOINTS
from ..timing import LET_GO, NEVER
from .admission import Admission
from .gate import GroupGate, HostGate
from .host import Host
from .renewal import Renewal, internal
from .weight import Budget

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Sending:
    """Sends renewals and adds each one's result to the journal. Starts nothing after `deadline` (monotonic).

    `go` starts what may be sent now; the pool's `land` handles the outcomes.
    """

    binance: BinanceClient
    budget: Budget
    admission: Admission
    journal: Journal
    pool: Pool
    clock: Clock
    deadline: float
    _hosts: dict[tuple[str, str], Host] = field(init=False, default_factory=dict)
    _gates: dict[str, GroupGate] = field(init=False, default_factory=dict)

    def add(self, renewals: Iterable[Renewal]) -> None:
        """Add renewals, most urgent first. A host begins with one whose last attempt did not fail, if any."""
        hosts: dict[tuple[str, str], list[Renewal]] = {}
        for renewal in renewals:
            name = renewal.account.endpoint
            hosts.setdefault((self.binance.host_of(name), ENDPOINTS[name].group), []).append(renewal)
        for (url, group), own in hosts.items():
            probe = next((renewal for renewal in own if not renewal.before.consecutive_failures), own[0])
            own.remove(probe)
            probe.rank = -1
            gate = self._gates.setdefault(group, GroupGate())
            weight = ENDPOINTS[probe.account.endpoint].weight
            self._hosts[url, group] = Host(group, gate, HostGate(), weight, [*own[::-1], probe])

    def go(self) -> float | None:
        """Start what may be sent now. Return when to call again, or None if there is nothing to wait for."""
        while True:
            now = self.clock.monotonic()
            flying = sum(len(host.flying) for host in self._hosts.values())
            best, wake = self._choose(now) if flying < self.admission.workers else (None, NEVER)
            if best is None:
                if (wake is None and not flying) or now >= self.deadline + LET_GO:
                    return None
                wake = NEVER if wake is None else wake
                return min(wake, self.admission.keep(self._gates, flying), self.deadline + LET_GO)
            renewal = best.launch(now)
            self.budget.now(best.group).free -= 1
            self.pool.start(partial(_send, renewal, self.binance), partial(self._landed, best, renewal))

    def settle(self) -> None:
        """Report the renewals without a result: with their failure if they were tried, else as DEFERRED."""
        for host in self._hosts.values():
            for renewal in list(host.left()):
                self.journal.add(renewal.left(host.stopped or ErrorCode.DEADLINE))
            host.flying, host.backlog = set(), []  # an answer that arrives later is ignored
        self._hosts.clear()

    def _choose(self, now: float) -> tuple[Host | None, float | None]:
        """Return the host to send next, if any, and when to look again: None if nothing is left to send."""
        best: Host | None = None
        wake: float | None = None
        for host in self._hosts.values():
            host.make_ready(now, self.budget.minute())
            if host.stopped or not (host.ready or host.waiting or host.backlog):
                continue
            at = host.opens_at(now)
            if at <= now <= self.deadline:
                at = self.admission.opens_at(host)
            if (now if at == NEVER else max(now, at)) > self.deadline:
                paused = host.group_gate.opens_at > self.deadline
                host.gate.stop(ErrorCode.RATE_LIMITED if paused else ErrorCode.DEADLINE)
            elif at > now:
                wake = at if wake is None else min(wake, at)
            elif best is None or host.first().rank < best.first().rank:
                best = host
        return best, wake

    def _landed(self, host: Host, renewal: Renewal, came: Result | AccountError | None) -> None:
        """Handle the outcome of a request: report the account's result, or queue its next request."""
        if renewal not in host.flying:
            return  # already reported as unanswered
        now = self.clock.monotonic()
        self.budget.observe(host.group, renewal.used_weight)
        error = came if isinstance(came, AccountError) else None
        renewal.error = error or renewal.error
        again = host.land(renewal, error, now)
        if again is not None and not renewal.posted and not isinstance(came, Result):
            heapq.heappush(host.waiting, (again, renewal.rank, renewal))
            return
        result = came if isinstance(came, Result) else renewal.failure()
        result.latency_ms = round((now - renewal.started) * 1000)
        self.journal.add(result)


def _send(renewal: Renewal, binance: BinanceClient) -> Result | AccountError | None:
    """Send the next request, in the pool. Return the result, the error, or None if another must follow."""
    try:
        return renewal.send(binance)
    except AccountError as trouble:
        error = trouble
    except Exception as bug:  # noqa: BLE001 - one account's bug must not stop the others
        error = internal(bug)
    _log.debug("failure", extra={"accountId": renewal.id, "errorCode": error.code, "why": error.message})
    return error
