"""Clocks: one that moves only when it is told to or slept on, and one that runs faster."""

import threading
import time
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, Self

from listenkeys.clock import Clock, get

_LOOK_AGAIN = 0.02  # real seconds: a request may move the clock and then hang


class VirtualClock:
    """Time for tests and the simulation; thread-safe. Starts at `start` (aware UTC).

    `sleep` returns at once and moves the time on. `get` waits for what is under way and does not move it, so
    that a request takes no time, however long its answer really takes.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._epoch = (start or datetime(2026, 1, 1, tzinfo=UTC)).timestamp()
        self._elapsed = 0.0
        self._skew = 0.0
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def timestamp(self) -> float:
        """Return the true epoch seconds, without the skew; the Binance stand-in uses them."""
        return self._epoch + self._elapsed

    def now(self) -> datetime:
        """Return the wall clock's time, aware UTC: the true one plus the skew."""
        return datetime.fromtimestamp(self.timestamp() + self._skew, UTC)

    def monotonic(self) -> float:
        """Return seconds since the clock was made."""
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Move the time on."""
        with self._lock:
            self._elapsed += max(0.0, seconds)
            self.slept.append(seconds)

    def get(self, queue: SimpleQueue[Any], seconds: float) -> Any:
        """Wait for an item; time does not pass, unless another thread moves it on."""
        ends = self._elapsed + seconds
        while True:
            item = get(queue, _LOOK_AGAIN)
            if item is not None or (seconds and self._elapsed >= ends):
                return item

    def advance(self, seconds: float = 0.0, minutes: float = 0.0) -> None:
        """Move the time on; nothing has slept."""
        with self._lock:
            self._elapsed += seconds + 60 * minutes

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as a time server may; the monotonic clock does not move."""
        self._skew += seconds

    @property
    def clock(self) -> Clock:
        """The clock as the program takes it."""
        return Clock(self.now, self.monotonic, self.sleep, self.get)


class ScaledClock:
    """The real time, but `speed` times as fast from its start on: a world in which an hour takes a minute."""

    def __init__(self, speed: float = 1.0, start: float | None = None) -> None:
        self.speed = speed
        self._start = time.time() if start is None else start

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the clock that another process gave as `text`."""
        start, _, speed = text.split(",")
        return cls(float(speed), float(start))

    @property
    def text(self) -> str:
        """The clock for another process: epoch seconds when it started, what it showed then, its speed."""
        return f"{self._start},{self._start},{self.speed:g}"

    def timestamp(self) -> float:
        """Return epoch seconds."""
        return self._start + (time.time() - self._start) * self.speed

    def now(self) -> datetime:
        """Return the wall clock's time, aware UTC."""
        return datetime.fromtimestamp(self.timestamp(), UTC)

    def monotonic(self) -> float:
        """Return seconds of this time from some moment on."""
        return time.monotonic() * self.speed

    def sleep(self, seconds: float) -> None:
        """Sleep for seconds of this time."""
        time.sleep(max(0.0, seconds) / self.speed)

    def get(self, queue: SimpleQueue[Any], seconds: float) -> Any:
        """Wait for an item, at most for seconds of this time."""
        return get(queue, seconds / self.speed)

    @property
    def clock(self) -> Clock:
        """The clock as the program takes it."""
        return Clock(self.now, self.monotonic, self.sleep, self.get)
