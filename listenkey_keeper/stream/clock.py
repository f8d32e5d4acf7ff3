"""The clock that a stream is given: tests and the local environment pass one that runs faster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


class Timer(Protocol):
    """A callback that is scheduled for later."""

    def cancel(self) -> object:
        """Cancel the callback. Does nothing if it has already been called."""


class Clock(Protocol):
    """The clock that a stream needs."""

    def now(self) -> datetime:
        """Return the time, aware UTC."""

    def monotonic(self) -> float:
        """Return the seconds since a fixed moment in the past, the same one for all streams of a process."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in the running event loop after this many seconds."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the time, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds since a fixed moment in the past."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in the running event loop after this many seconds."""
        return asyncio.get_running_loop().call_later(seconds, callback)


class Bell:
    """An event for a single waiter, which resets itself. If it was rung before, `wait` returns at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the waiter; if there is none, let the next `wait` return at once."""
        self._rung = True
        self._wake()

    async def wait(self, seconds: float | None = None) -> None:
        """Return when the bell is rung, or after this many seconds. None waits without limit."""
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
    """Return the result of `work`. After this many seconds by the clock, cancel it and raise TimeoutError."""
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
