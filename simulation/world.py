"""The world of the simulation: one timeline, the listenKeys at Binance, and everything that can be down.

Binance's answers come from the stand-in, and the program's own code reads them. AWS is in aws.py.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from listenkeys.binance.client import BinanceClient
from listenkeys.errors import ErrorCode, Transient
from listenkeys.products import ENDPOINTS
from local.binance.exchange import REAL_ANSWERS, Exchange, _Lease
from simulation.timeline import Timeline

MINUTE = 60.0
SERVER_ERRORS, TIMEOUTS, RESETS = "5xx", "timeouts", "resets"
RATE_LIMIT, BAN, ONE_ACCOUNT = "429", "ban", "one account"
REVOKED, FIREWALL = "revoked", "firewall"  # these affect one account too
SECRETS, DYNAMODB, WRITES, EVENTS = "Secrets Manager", "DynamoDB", "DynamoDB writes", "EventBridge"
# The trouble nearest to the account applies: a gateway refuses its key even while what is behind it is down.
_BEFORE_THE_GATEWAY = (TIMEOUTS, RESETS, RATE_LIMIT, BAN)
_OF_ONE_ACCOUNT = (REVOKED, FIREWALL, ONE_ACCOUNT)
_ANSWERS = {
    RATE_LIMIT: "rate_limited",
    BAN: "ip_banned",
    REVOKED: "invalid_api_key",
    FIREWALL: "waf_blocked",
    SERVER_ERRORS: "internal_error",
    ONE_ACCOUNT: "internal_error",
}
_READ_TIMEOUT = 5.0  # as in listenkeys.transport
_AWS_GIVES_UP = 3.0  # seconds that botocore's three attempts take when a service answers with errors
FUTURES = ("usdm", "coinm")  # two hosts that share one weight limit


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is down from `start` to `end` (seconds since the beginning), for one account or all."""

    kind: str
    start: float
    end: float
    api_key: str | None = None


class Troubles:
    """All troubles of a timeline. Those of one kind must not overlap."""

    def __init__(self, troubles: Iterable[Trouble]) -> None:
        self._of: dict[str, list[Trouble]] = defaultdict(list)
        for trouble in sorted(troubles, key=lambda trouble: trouble.start):
            self._of[trouble.kind].append(trouble)
        self._starts = {kind: [t.start for t in of_kind] for kind, of_kind in self._of.items()}
        self._of_host = [kind for kind in _BEFORE_THE_GATEWAY if kind in self._of]
        self._of_one = [kind for kind in _OF_ONE_ACCOUNT if kind in self._of]

    def at(self, kind: str, now: float) -> Trouble | None:
        """Return the trouble of this kind at this time, or None."""
        place = bisect_right(self._starts.get(kind, ()), now) - 1
        if place < 0:
            return None
        trouble = self._of[kind][place]
        return trouble if now < trouble.end else None

    def of_host(self, now: float, api_key: str) -> str | None:
        """Return the kind of trouble that affects a request to Binance with this API key, or None."""
        for kind in self._of_host:
            if self.at(kind, now):
                return kind
        for kind in self._of_one:
            alone = self.at(kind, now)
            if alone and alone.api_key == api_key:
                return kind
        return SERVER_ERRORS if self.at(SERVER_ERRORS, now) else None


@dataclass(frozen=True, slots=True)
class Lapse:
    """A key that expired at `died`, and the time at which its account had a live one again."""

    api_key: str
    died: float
    until: float


class Leases(Exchange):
    """The stand-in, which also records the keys that expired."""

    def __init__(self, clock: Timeline, seed: int) -> None:
        super().__init__(now=clock.monotonic, seed=seed)
        self.lapses: list[Lapse] = []
        self.renewals: list[tuple[float, str]] | None = None  # when and which key, for tests

    def _start(self, api_key: str, product: str, now: float, live: _Lease | None = None) -> _Lease:
        before = self._leases.get((api_key, product))
        if before and now >= before.expires_at:
            self.lapses.append(Lapse(api_key, before.expires_at, now))
        lease = super()._start(api_key, product, now, live)
        if self.renewals is not None:
            self.renewals.append((now, lease.listen_key))
        return lease

    def close(self, now: float) -> None:
        """Record the keys that are dead at the end."""
        for (api_key, _), lease in self._leases.items():
            if now > lease.expires_at:
                self.lapses.append(Lapse(api_key, lease.expires_at, now))


class Wire(BinanceClient):
    """Passes requests to the stand-in without a socket. `latency` is in seconds."""

    def __init__(self, clock: Timeline, exchange: Exchange, troubles: Troubles, latency: float) -> None:
        super().__init__(clock.now)
        self._clock = clock
        self._exchange_of_requests = exchange
        self._troubles = troubles
        self._latency = latency
        self.in_minute: Counter[int] = Counter()

    def _exchange(self, method: str, product: str, api_key: str) -> tuple[int, Mapping[str, str], bytes]:
        now = self._clock.monotonic()
        self.in_minute[int(now // MINUTE)] += 1
        trouble = self._troubles.of_host(now, api_key)
        self._clock.sleep(_READ_TIMEOUT if trouble == TIMEOUTS else self._latency)
        if trouble == TIMEOUTS:
            raise Transient(ErrorCode.TIMEOUT, "no answer")
        if trouble == RESETS:
            raise Transient(ErrorCode.CONNECTION, "no connection")
        if trouble:
            answer = REAL_ANSWERS[_ANSWERS[trouble]]
            return answer.status, {"Retry-After": "30"} if trouble == RATE_LIMIT else {}, answer.body
        exchange = self._exchange_of_requests
        answer = exchange.handle(method, ENDPOINTS[product].path, {"X-MBX-APIKEY": api_key})
        exchange.requests.clear()
        return answer.status, answer.headers, answer.body


class World:
    """One timeline from its beginning: the clock, Binance, the accounts and the troubles.

    With `neighbours`, there are two more accounts, whose own keys do not count: see `neighbours_troubles`.
    """

    def __init__(
        self,
        accounts: int,
        troubles: Iterable[Trouble],
        seed: str,
        latency: float,
        neighbours: bool = False,
    ) -> None:
        self.random = random.Random(seed)
        random.seed(seed)  # the program's own jitter
        self.clock = Timeline()
        self.troubles = Troubles(troubles)
        self.exchange = Leases(self.clock, self.random.randrange(2**32))
        self.wire = Wire(self.clock, self.exchange, self.troubles, latency)
        self.api_keys = [api_key_of(number) for number in range(accounts)]
        self.neighbours = [_REVOKED, _REFUSED] if neighbours else []
        for api_key in (*self.api_keys, *self.neighbours):
            self.exchange.add_account(api_key, FUTURES)

    def down(self, kind: str) -> bool:
        """Return whether a service is down now. If it is, let the time pass that botocore's attempts take."""
        if not self.troubles.at(kind, self.clock.monotonic()):
            return False
        self.clock.sleep(_AWS_GIVES_UP)
        return True

    def lapses(self) -> list[Lapse]:
        """Return the lapses of all keys except those of the neighbours."""
        return [lapse for lapse in self.exchange.lapses if lapse.api_key not in self.neighbours]


def api_key_of(number: int) -> str:
    """Return the API key of an account."""
    return f"account{number:04}".ljust(64, "0")


_REVOKED, _REFUSED = "revoked".ljust(64, "0"), "refused".ljust(64, "0")


def neighbours_troubles(start: float, end: float) -> list[Trouble]:
    """Return the troubles of the two neighbours during an outage.

    The API key of one is revoked when the outage begins. The firewall refuses the other from 40 minutes
    before: its key is the first to expire, and the first that is requested.
    """
    before = max(0.0, start - 40 * MINUTE)
    return [Trouble(REVOKED, start, end, _REVOKED), Trouble(FIREWALL, before, end, _REFUSED)]
