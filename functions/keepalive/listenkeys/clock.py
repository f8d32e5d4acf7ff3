"""The clock, which is passed in, so that tests can use another."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` returns an aware time in UTC, the others use seconds. `get` returns None if it times out."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    get: Callable[[SimpleQueue[Any], float], Any]


def get(queue: SimpleQueue[Any], seconds: float) -> Any:
    """Wait for the queue's next item in real time, at least 4 ms, so that one wake-up serves several."""
    time.sleep(max(0.0, min(seconds, 0.004)))
    try:
        return queue.get(timeout=max(0.0, seconds))
    except Empty:
        return None


SYSTEM_CLOCK = Clock(lambda: datetime.now(UTC), time.monotonic, time.sleep, get)
