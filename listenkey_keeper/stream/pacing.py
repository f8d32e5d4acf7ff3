"""Limits how often a process opens websockets, because many streams may lose theirs at the same moment."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left, insort
from collections import deque
from enum import IntEnum

from .clock import Clock, sleep

# Binance bans addresses that reconnect too often. It documents a limit of 300 attempts in 5 minutes for the
# streams of spot, and none for these.
A_SECOND = 5
LONGEST_HOLD = 3 * 86400.0  # Binance's longest ban


class Urgency(IntEnum):
    """Which stream opens its socket first: lower numbers go first. A deaf stream receives no events."""

    DEAF = 0
    DEAF_AFTER_FAILURES = 1
    REPLACING = 2


class Gate:
    """Allows at most five attempts a second to connect to a host, the most urgent first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: list[tuple[Urgency, int]] = []
        self._passed: deque[float] = deque([float("-inf")] * A_SECOND, maxlen=A_SECOND)
        self._held_until = float("-inf")

    def hold(self, clock: Clock, seconds: float) -> None:
        """Allow no attempt for this many seconds (at most 3 days), because the host has asked for that."""
        with self._lock:
            until = clock.monotonic() + min(seconds, LONGEST_HOLD)
            self._held_until = max(self._held_until, until)

    async def turn(self, clock: Clock, urgency: Urgency) -> None:
        """Return when the caller may connect."""
        me = (urgency, next(self._numbers))
        with self._lock:
            insort(self._waiting, me)
        try:
            while (seconds := self._wait(me, clock.monotonic())) > 0:
                # At most 1 s: callers ahead in the queue may have given up by then.
                await sleep(clock, min(seconds, 1.0))
        finally:
            with self._lock:
                self._waiting.remove(me)

    def _wait(self, me: tuple[Urgency, int], now: float) -> float:
        with self._lock:
            rounds, place = divmod(bisect_left(self._waiting, me), A_SECOND)
            at = max(self._passed[place] + 1, self._held_until, now) + rounds
            if at <= now:
                self._passed.append(now)
            return at - now


_gates: dict[str, Gate] = {}


def gate_of(host: str) -> Gate:
    """Return the gate for a host, the same one for all streams of the process."""
    return _gates.setdefault(host, Gate())
