"""Decides from Binance's answers when to pause or stop. Pure logic: no locks, no clock, no sleeping.

A refusal (429, 418, 451, 403) affects every host of a weight group, a failure (timeout, 5xx) one host.
Times are seconds of any monotonic clock.
"""

import random
from dataclasses import dataclass

from ..errors import Blocked, ErrorCode, RateLimited, Refused
from ..timing import BACKOFF_BASE, BACKOFF_CAP, NOW, PROBE_CAP

MAX_ATTEMPTS = 4  # of one account in a run, if the host has served others
SUSPECT_AFTER = 3  # failures in a row: one request at a time from here on
DOWN_AFTER = 4  # failures in a row: the host is down
MAX_PAUSES = 3  # 429s that a run waits out


@dataclass(slots=True)
class Gate:
    """The part common to both gates. `alone`: send one request at a time; `opens_at`: send nothing before."""

    alone: bool = True
    alone_since: float = NOW
    opens_at: float = NOW
    stopped: ErrorCode | None = None

    def stop(self, code: ErrorCode) -> None:
        """Send nothing more in this run. The first reason is kept."""
        self.stopped = self.stopped or code

    def _narrow(self, now: float) -> None:
        self.alone, self.alone_since = True, now

    def _widen(self, started: float) -> None:
        if started >= self.alone_since:  # a request sent before that proves nothing
            self.alone = False


@dataclass(slots=True)
class GroupGate(Gate):
    """The gate of a weight group, which refusals close. `in_flight` counts requests without an answer yet."""

    in_flight: int = 0
    _pauses: int = 0
    _blocked: str = ""

    def answered(self, started: float) -> None:
        """Note an answer that is not a refusal."""
        self._widen(started)
        if not self.alone:
            self._blocked = ""

    def refused(self, account: str, error: Refused, now: float) -> bool:
        """Note a refusal. Return whether the account may be tried again in this run."""
        if isinstance(error, RateLimited):
            if error.retry_after is None:
                self.stop(error.code)  # no usable Retry-After: leave it to the next run
                return True
            if now >= self.opens_at:
                self._pauses += 1
                if self._pauses > MAX_PAUSES:
                    self.stop(error.code)
            self.opens_at = max(self.opens_at, now + error.retry_after)
            self._narrow(now)
            return True
        if isinstance(error, Blocked) and self._blocked in ("", account):
            self._blocked = account
            self._narrow(now)
        else:
            self.stop(error.code)
        return False


@dataclass(slots=True)
class HostGate(Gate):
    """The gate of a host, which failures in a row close."""

    failures: int = 0
    _failing: str = ""  # the only account among the failures in a row; empty if there are several
    _served: bool = False

    def served(self, started: float) -> None:
        """Note a success: the host works."""
        self._served, self.failures = True, 0
        self._widen(started)

    def rejected(self, started: float) -> None:
        """Note that Binance rejected one account: the host is reachable, but may still not work."""
        if not self.failures:
            self._widen(started)

    def failed(
        self, account: str, attempts: int, started: float, now: float, at_risk: bool, others_at_risk: bool
    ) -> float | None:
        """Note a failure. Return when to try the account again, or None if it has used up its attempts.

        An account gets MAX_ATTEMPTS on a host that has served others. A host that serves nobody is down after
        DOWN_AFTER failures in a row. Neither limit applies while a key may die before the next run.
        """
        if started >= self.alone_since:  # requests in flight when it narrowed do not count
            if not self.failures:
                self._failing = account
            elif self._failing != account:
                self._failing = ""
            self.failures += 1
        if not self.alone and self.failures >= SUSPECT_AFTER:
            self._narrow(now)
            if not self._failing:
                self._served = False  # several accounts in a row: earlier successes prove nothing now
        if self._served and attempts >= MAX_ATTEMPTS and not at_risk:
            return None
        if not self.alone:
            return now + _spread(attempts, BACKOFF_CAP, 0.0)
        if self.failures >= DOWN_AFTER and not (at_risk or others_at_risk):
            self.stop(ErrorCode.EXCHANGE_DOWN)
        # Wait between half and all of the interval: a run's probes should be few and well apart.
        self.opens_at = max(self.opens_at, now + _spread(self.failures, PROBE_CAP, 0.5))
        return now


def _spread(failures: int, cap: float, least: float) -> float:
    """Return seconds to wait: a random share, from `least` to 1, of an interval that doubles up to `cap`."""
    interval = min(cap, BACKOFF_BASE * 2.0 ** min(failures, 30))
    return interval * random.uniform(least, 1.0)  # nosec B311 # noqa: S311 - not for secrets
