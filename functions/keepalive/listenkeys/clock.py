"""Time, passed in: the program never asks the system for it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` is aware UTC, `monotonic` and `sleep` are in seconds.

    `wait(condition, seconds, idle)` waits until the condition is notified, at most `seconds` (None: without
    limit). `idle` says that nothing is under way, so that only time can change anything: a clock that does
    not follow the real time moves on then, and only then.
    """

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    wait: Callable[[threading.Condition, float | None, bool], None]


def _wait(condition: threading.Condition, seconds: float | None, idle: bool) -> None:
    condition.wait(seconds)


SYSTEM_CLOCK = Clock(lambda: datetime.now(UTC), time.monotonic, time.sleep, _wait)
