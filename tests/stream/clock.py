"""A stream's time in a test: it moves when it is told to."""

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime

from listenkey_keeper.stream import pacing
from local.clock import VirtualClock


class Timer:
    """What a stream has put off."""

    def __init__(self, clock: "StreamClock", at: float, callback: Callable[[], object]) -> None:
        self.at, self._callback = at, callback
        self._clock, self._loop = clock, asyncio.get_running_loop()

    def cancel(self) -> None:
        self._clock.forget(self)

    def ring(self) -> None:
        self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        if self._clock.forget(self):
            self._callback()


class StreamClock:
    """A stream's time: the virtual clock's. What was put off is done when the time is moved on."""

    def __init__(self, clock: VirtualClock) -> None:
        # A test's server may get the port of an earlier one's, whose openings were noted in another time.
        pacing._gates.clear()
        self._clock = clock
        self._lock = threading.Lock()
        self._timers: list[Timer] = []

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(self, self._clock.monotonic() + seconds, callback)
        with self._lock:
            self._timers.append(timer)
        if seconds <= 0:
            timer.ring()
        return timer

    def forget(self, timer: Timer) -> bool:
        """Do it not any more; tell whether it was still to be done."""
        with self._lock:
            known = timer in self._timers
            if known:
                self._timers.remove(timer)
            return known

    def left(self) -> list[float]:
        """Return how many seconds are left to each timer."""
        with self._lock:
            return sorted(timer.at - self._clock.monotonic() for timer in self._timers)

    def advance(self, seconds: float) -> None:
        """Move the time on; from any thread."""
        self._clock.advance(seconds)
        with self._lock:
            due = [timer for timer in self._timers if timer.at <= self._clock.monotonic()]
        for timer in due:
            timer.ring()
