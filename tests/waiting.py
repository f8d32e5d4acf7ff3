"""Waits, in real time, for something that another thread or process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# Long enough for a busy machine: whatever takes longer hangs.
SECONDS = 60.0


def eventually(happened: Callable[[], T], never: Callable[[], str] = lambda: "it never happened") -> T:
    """Wait until `happened` returns something true, and return it. Fail with `never()` after SECONDS."""
    deadline = time.monotonic() + SECONDS
    while not (found := happened()):
        assert time.monotonic() < deadline, never()
        time.sleep(0.005)
    return found
