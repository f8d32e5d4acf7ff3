"""A stream's time in a test: it moves when it is told to."""

import asyncio
import threading
from datetime import datetime

from local.clock import VirtualClock


class StreamClock:
    """A stream's time: the virtual clock's. Who sleeps by it wakes when the time is moved on."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        sleeper = asyncio.get_running_loop().create_future()
        entry = (self._clock.monotonic() + seconds, sleeper)
        with self._lock:
            self._sleepers.append(entry)
        try:
            await sleeper
        finally:
            with self._lock:
                self._sleepers.remove(entry)

    def sleeping(self) -> list[float]:
        """Return how many seconds each sleeper has left."""
        with self._lock:
            return sorted(at - self._clock.monotonic() for at, _ in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move the time on; from any thread."""
        self._clock.advance(seconds)
        with self._lock:
            for at, sleeper in self._sleepers:
                if at <= self._clock.monotonic():
                    sleeper.get_loop().call_soon_threadsafe(_wake, sleeper)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
