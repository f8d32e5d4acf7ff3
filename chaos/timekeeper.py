"""One virtual clock for several processes: it moves on only when none of them can do anything before it does.

The harness keeps the time; a process that runs the handler reads it from shared memory and says until when
it sleeps. A process that sleeps in all its threads, while no request of its is being answered, waits for the
time alone. When all do, the time goes on to the next moment that anybody waits for. So a request takes no
time, however busy the machine is, but what it is held up for on purpose, and a day without troubles takes
seconds.

A thread that waits for a processor is not asleep: Linux tells them apart in /proc, the only place this
relies on.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_NOW = struct.Struct("d")
_QUIET_CHECKS = 3  # in a row: a thread that has just been woken may not be seen at once
_BETWEEN_CHECKS = 0.0007  # real seconds
_STUCK = 120.0  # real seconds in which nothing moves: a bug of the harness


class SharedTime:
    """The time in epoch seconds, in a file that other processes map, too."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _NOW.size)

    @classmethod
    def create(cls, path: Path, now: float) -> SharedTime:
        """Make the file."""
        path.write_bytes(_NOW.pack(now))
        return cls(path)

    def get(self) -> float:
        """Return the time."""
        now: float = _NOW.unpack_from(self._memory)[0]
        return now

    def set(self, now: float) -> None:
        """Move the time on."""
        _NOW.pack_into(self._memory, 0, now)


class Timekeeper:
    """Keeps the time. Server threads call `busy` and `hold`, the harness's own thread all the rest."""

    def __init__(self, time: SharedTime) -> None:
        self._time = time
        self._lock = threading.Lock()
        self._busy = 0
        self._events = 0  # goes up with everything that happens
        self._held: list[tuple[float, threading.Event]] = []

    def now(self) -> float:
        """Return epoch seconds."""
        return self._time.get()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Let no time pass while this thread does something for a process."""
        with self._lock:
            self._busy += 1
            self._events += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._events += 1

    def hold(self, seconds: float) -> None:
        """Let so much time pass; only within `busy`."""
        if seconds <= 0:
            return
        released = threading.Event()
        with self._lock:
            self._busy -= 1
            self._events += 1
            self._held.append((self.now() + seconds, released))
        released.wait()

    def next_release(self) -> float:
        """Return the first moment at which something is no longer held."""
        with self._lock:
            return min((until for until, _ in self._held), default=float("inf"))

    def advance(self, now: float) -> None:
        """Move the time on, and let go what was held until then."""
        self._time.set(max(now, self.now()))
        with self._lock:
            due = [held for held in self._held if held[0] <= self.now()]
            self._held = [held for held in self._held if held[0] > self.now()]
            self._busy += len(due)
            self._events += len(due)
        for _, released in sorted(due, key=lambda held: held[0]):
            released.set()

    def release_all(self) -> None:
        """Let everything go, at the end."""
        with self._lock:
            due, self._held = self._held, []
            self._busy += len(due)
        for _, released in due:
            released.set()

    def quiet(self, pids: list[int], heard: Callable[[], bool]) -> bool:
        """Wait until nothing happens without the time; False once `heard` says that something did."""
        began, checks, events = time.monotonic(), 0, -1
        while checks < _QUIET_CHECKS:
            if heard():
                return False
            with self._lock:
                still = self._busy == 0 and self._events == events
                events = self._events
            checks = checks + 1 if still and all(map(asleep, [*pids, os.getpid()])) else 0
            if time.monotonic() - began > _STUCK:
                raise RuntimeError(f"nothing moves: {self._busy} requests are being answered")
            time.sleep(_BETWEEN_CHECKS)
        return not heard()


def asleep(pid: int) -> bool:
    """Whether all threads of a process sleep, but the one that asks; also of one that has ended."""
    own = str(threading.get_native_id())
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/stat", "rb") as stat:
                # Field 3, after a name in parentheses that may hold anything.
                state = stat.read().rpartition(b")")[2].split(None, 1)[0]
            if state not in (b"S", b"Z", b"X") and task != own:
                return False
    except (FileNotFoundError, ProcessLookupError):
        pass
    return True
