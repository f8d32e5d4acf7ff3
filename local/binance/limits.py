"""Binance's limits for an IP address: weight per clock minute, 429s, and bans for clients that ignore them.

A limit applies to a group of hosts: fapi and dapi share one since 2026-06-30.
"""

import math
from collections import Counter
from typing import NamedTuple

_GROUPS = {"fapi": "futures", "dapi": "futures", "papi": "portfolio", "eapi": "options"}
WEIGHT_LIMITS = {"futures": 2400, "portfolio": 6000, "options": 400, "spot": 6000}  # per minute

_REFUSALS_BEFORE_A_BAN = 5  # Binance does not say how many; "a few" is what people report
_FIRST_BAN = 120.0
_LONGEST_BAN = 3 * 86400.0


def group_of(host: str) -> str:
    """Return the group of a host (fapi, dapi, ...). It is "spot" for any host that is not in _GROUPS."""
    return _GROUPS.get(host, "spot")


class Refusal(NamedTuple):
    """A 429, or a 418 if `banned_until` (epoch seconds) is not None. `retry_after` is in seconds."""

    retry_after: int
    banned_until: float | None = None


class Usage:
    """The weight used at a group of hosts by one IP address, from which all requests here come."""

    def __init__(self) -> None:
        self.weight: Counter[int] = Counter()  # by clock minute: epoch seconds // 60
        self._minute = -1
        self._refused = 0
        self._banned_until = 0.0
        self._bans = 0

    def spend(self, now: float) -> int:
        """Count a request of weight 1. Return the weight of this minute, including it."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._refused = minute, 0
        self.weight[minute] += 1
        return self.weight[minute]

    def refusal(self, now: float, limit: int) -> Refusal | None:
        """Return how to refuse the request that was just counted, or None if it is allowed."""
        if now >= self._banned_until:
            if self.weight[self._minute] <= limit:
                return None
            self._refused += 1
            if self._refused <= _REFUSALS_BEFORE_A_BAN:
                return Refusal(math.ceil(60 - now % 60))
            self._banned_until = now + min(_FIRST_BAN * 2**self._bans, _LONGEST_BAN)
            self._bans += 1
        return Refusal(math.ceil(self._banned_until - now), self._banned_until)
