"""Time, as the stream takes it: passed in, so that a test or a world that runs faster has its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


class Timer(Protocol):
    """What has been put off."""

    def cancel(self) -> object:
        """Do it not at all; nothing happens if it has been done."""


class Clock(Protocol):
    """What the stream asks of time."""

    def now(self) -> datetime:
        """Return the time, aware UTC."""

    def monotonic(self) -> float:
        """Return seconds since some moment in the past, the same one for all streams of a process."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back in the running loop after this many seconds."""


class SystemClock:
    """The time of this machine."""

    def now(self) -> datetime:
        """Return the time, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since some moment in the past."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back in the running loop after this many seconds."""
        return asyncio.get_running_loop().call_later(seconds, callback)


class Bell:
    """Wakes the one who waits for it, at once if it was rung before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake who waits, or the next one who will."""
        self._rung = True
        self._wake()

    async def wait(self, seconds: float | None = None) -> None:
        """Return when it is rung, or after this many seconds."""
        timer = None
        if not self._rung:
            self._waiter = asyncio.get_running_loop().create_future()
            if seconds is not None:
                timer = self._clock.call_later(max(0.0, seconds), self._wake)
            try:
                await self._waiter
            finally:
                if timer:
                    timer.cancel()
        self._rung = False

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


async def sleep(clock: Clock, seconds: float) -> None:
    """Return after this many seconds by the clock."""
    await Bell(clock).wait(seconds)


async def within(clock: Clock, seconds: float, work: asyncio.Future[T]) -> T:
    """Return what the work returns; after this many seconds by the clock end it and raise TimeoutError."""
    late: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, late.cancel)
    try:
        await asyncio.wait((work, late), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
    finally:
        timer.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))
    raise TimeoutError
