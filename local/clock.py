"""Two clocks: one that moves only by `sleep` and `advance`, and one that runs faster than real time."""

import threading
import time
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, Self

from listenkeys.clock import Clock, get

_LOOK_AGAIN = 0.02  # real seconds between looks at the clock: a request may move it and then hang


class VirtualClock:
    """The clock of tests and the simulation. Thread-safe. Starts at `start` (aware UTC).

    `sleep` moves the time forward and returns at once. `get` really waits, but does not move the time: a
    request takes no virtual time, however long its answer really takes.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._epoch = (start or datetime(2026, 1, 1, tzinfo=UTC)).timestamp()
        self._elapsed = 0.0
        self._skew = 0.0
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def timestamp(self) -> float:
        """Return the true time in epoch seconds, without the skew. The Binance stand-in uses it."""
        return self._epoch + self._elapsed

    def now(self) -> datetime:
        """Return the time of the wall clock, aware UTC: the true time plus the skew."""
        return datetime.fromtimestamp(self.timestamp() + self._skew, UTC)

    def monotonic(self) -> float:
        """Return the seconds since the clock was made."""
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Move the time forward, and record the call in `slept`."""
        with self._lock:
            self._elapsed += max(0.0, seconds)
            self.slept.append(seconds)

    def get(self, queue: SimpleQueue[Any], seconds: float) -> Any:
        """Return the next item, or None if another thread moves the time forward by `seconds` first.

        If `seconds` is 0, it waits without limit.
        """
        ends = self._elapsed + seconds
        while True:
            item = get(queue, _LOOK_AGAIN)
            if item is not None or (seconds and self._elapsed >= ends):
                return item

    def advance(self, seconds: float = 0.0, minutes: float = 0.0) -> None:
        """Move the time forward without recording a sleep."""
        with self._lock:
            self._elapsed += seconds + 60 * minutes

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as a time server may. The monotonic clock does not move."""
        self._skew += seconds

    @property
    def clock(self) -> Clock:
        """The clock as the program takes it."""
        return Clock(self.now, self.monotonic, self.sleep, self.get)


class ScaledClock:
    """The real time, which runs `speed` times as fast from `start` on: at 60, an hour takes a minute."""

    def __init__(self, speed: float = 1.0, start: float | None = None) -> None:
        self.speed = speed
        self._start = time.time() if start is None else start

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the clock that another process has described with `text`."""
        start, _, speed = text.split(",")
        return cls(float(speed), float(start))

    @property
    def text(self) -> str:
        """The clock for another process: its start (epoch seconds), the time shown then, and its speed."""
        return f"{self._start},{self._start},{self.speed:g}"

    def timestamp(self) -> float:
        """Return the time in epoch seconds."""
        return self._start + (time.time() - self._start) * self.speed

    def now(self) -> datetime:
        """Return the time, aware UTC."""
        return datetime.fromtimestamp(self.timestamp(), UTC)

    def monotonic(self) -> float:
        """Return the seconds of this clock since a fixed moment in the past."""
        return time.monotonic() * self.speed

    def sleep(self, seconds: float) -> None:
        """Sleep for this many seconds of this clock."""
        time.sleep(max(0.0, seconds) / self.speed)

    def get(self, queue: SimpleQueue[Any], seconds: float) -> Any:
        """Return the next item, or None if none comes within this many seconds of this clock."""
        return get(queue, seconds / self.speed)

    @property
    def clock(self) -> Clock:
        """The clock as the program takes it."""
        return Clock(self.now, self.monotonic, self.sleep, self.get)
