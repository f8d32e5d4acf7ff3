"""Waiting, in real time, for what another thread or another process brings about."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# Only what hangs takes so long, however busy the machine is.
SECONDS = 60.0


def eventually(happened: Callable[[], T], never: Callable[[], str] = lambda: "it never happened") -> T:
    """Wait until this is true, and return what it was; `never` says what to fail with."""
    deadline = time.monotonic() + SECONDS
    while not (found := happened()):
        assert time.monotonic() < deadline, never()
        time.sleep(0.005)
    return found
