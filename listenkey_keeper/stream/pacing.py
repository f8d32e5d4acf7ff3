"""How often a process may open websockets: many streams lose theirs at the same moment."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left, insort
from collections import deque
from enum import IntEnum

from .clock import Clock, sleep

# Binance documents 300 attempts in 5 minutes for spot's streams and nothing for these, and bans addresses
# that reconnect too often.
A_SECOND = 5
LONGEST_HOLD = 3 * 86400.0  # Binance's longest ban


class Urgency(IntEnum):
    """Who opens first."""

    DEAF = 0
    DEAF_AFTER_FAILURES = 1
    REPLACING = 2


class Gate:
    """Lets at most five openings a second pass to a host, the most urgent first. For all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: list[tuple[Urgency, int]] = []
        self._passed: deque[float] = deque([float("-inf")] * A_SECOND, maxlen=A_SECOND)
        self._held_until = float("-inf")

    def hold(self, clock: Clock, seconds: float) -> None:
        """Let nothing pass for this long: the host has said so."""
        with self._lock:
            until = clock.monotonic() + min(seconds, LONGEST_HOLD)
            self._held_until = max(self._held_until, until)

    async def turn(self, clock: Clock, urgency: Urgency) -> None:
        """Return when it is one's turn to open."""
        me = (urgency, next(self._numbers))
        with self._lock:
            insort(self._waiting, me)
        try:
            while (seconds := self._wait(me, clock.monotonic())) > 0:
                # Not longer: those before it may have left by then.
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
    """Return the process's gate to a host."""
    return _gates.setdefault(host, Gate())
