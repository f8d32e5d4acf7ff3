"""One virtual clock for several processes. It moves forward only when all of them wait for it.

The harness keeps the time. A process that runs the handler reads it from shared memory, and reports until
when it sleeps. If all threads of a process sleep and none of its requests is being answered, it waits only
for the harness. When all processes wait, the next request is answered, one at a time. When there is no
request, the time moves to the next moment for which somebody waits. So a request takes only the time by which
it is delayed on purpose, however busy the machine is; a day without troubles takes seconds; and the same seed
gives the same story.

A thread that waits for a processor is not asleep. The only way to tell them apart is Linux's /proc.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_NOW = struct.Struct("d")
_QUIET_CHECKS = 3  # in a row: a thread that was just woken may not be visible at once
_BETWEEN_CHECKS = 0.0004  # real seconds
_STUCK = 120.0  # real seconds without becoming quiet, after which it must be a bug of the harness


Key = tuple[int, str]  # identifies a request: the number of its process, and its content


class SharedTime:
    """The time in epoch seconds, in a file that several processes map."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _NOW.size)

    @classmethod
    def create(cls, path: Path, now: float) -> SharedTime:
        """Create the file with this time."""
        path.write_bytes(_NOW.pack(now))
        return cls(path)

    def get(self) -> float:
        """Return the time in epoch seconds."""
        now: float = _NOW.unpack_from(self._memory)[0]
        return now

    def set(self, now: float) -> None:
        """Set the time."""
        _NOW.pack_into(self._memory, 0, now)


class _Turn:
    def __init__(self, key: Key) -> None:
        self.key = key
        self.begins = threading.Event()


class Timekeeper:
    """Keeps the time, and lets one request proceed at a time.

    Server threads call `arriving`, `turn` and `hold`; the harness's own thread calls everything else.
    Requests that wait at the same time get their turns in the order of their keys, not of their arrival,
    because it depends on the machine which thread of a process is quicker.
    """

    def __init__(self, time: SharedTime) -> None:
        self._time = time
        self._lock = threading.Lock()
        self._busy = 0
        self._events = 0  # incremented whenever something happens
        self._waiting: list[_Turn] = []
        self._held: list[tuple[float, _Turn]] = []
        self._own = threading.local()

    def now(self) -> float:
        """Return the time in epoch seconds."""
        return self._time.get()

    def arriving(self, more: int) -> None:
        """Count a new connection (1), and stop counting it when its thread is known (-1)."""
        with self._lock:
            self._busy += more
            self._events += 1

    @contextmanager
    def turn(self, key: Key) -> Iterator[None]:
        """Wait for the request's turn. During the turn, no time passes and no other request proceeds."""
        turn = self._own.turn = _Turn(key)
        with self._lock:
            self._waiting.append(turn)
            self._events += 1
        turn.begins.wait()
        try:
            yield
        finally:
            self.arriving(-1)

    def hold(self, seconds: float) -> None:
        """End the turn, wait this many seconds of the virtual time, and wait for another turn.

        Call it only during a turn.
        """
        if seconds <= 0:
            return
        turn = self._own.turn = _Turn(self._own.turn.key)
        with self._lock:
            self._busy -= 1
            self._events += 1
            self._held.append((self.now() + seconds, turn))
        turn.begins.wait()

    def next_turn(self) -> bool:
        """Start the turn of the next request. Return False if none waits."""
        with self._lock:
            if not self._waiting:
                return False
            turn = min(self._waiting, key=lambda waiting: waiting.key)
            self._waiting.remove(turn)
            self._busy += 1
        turn.begins.set()
        return True

    def next_release(self) -> float:
        """Return the earliest time at which a request is no longer held, infinity if none is."""
        with self._lock:
            return min((until for until, _ in self._held), default=float("inf"))

    def advance(self, now: float) -> None:
        """Move the time forward. Requests that were held until then wait for a turn."""
        self._time.set(max(now, self.now()))
        with self._lock:
            self._waiting += [turn for until, turn in self._held if until <= self.now()]
            self._held = [held for held in self._held if held[0] > self.now()]

    def release_all(self) -> None:
        """Release all requests, at the end of the day."""
        with self._lock:
            self._waiting += [turn for _, turn in self._held]
            self._held = []
        while self.next_turn():
            pass

    def quiet(self, asleep: Callable[[], bool], heard: Callable[[], bool]) -> bool:
        """Wait until nothing more happens unless the time moves. Return False once `heard` returns True.

        Raises RuntimeError if that takes longer than 120 real seconds.
        """
        began, checks, events = time.monotonic(), 0, -1
        while checks < _QUIET_CHECKS:
            if heard():
                return False
            with self._lock:
                still = self._busy == 0 and self._events == events
                events = self._events
            checks = checks + 1 if still and asleep() else 0
            if time.monotonic() - began > _STUCK:
                raise RuntimeError(f"nothing moves: {self._busy} requests are being answered")
            time.sleep(_BETWEEN_CHECKS)
        return not heard()


def asleep(pid: int, tasks: Iterable[int] | None = None) -> bool:
    """Whether all threads of a process (or only `tasks`) sleep. The calling thread is left out.

    True if the process has ended.
    """
    own = threading.get_native_id()
    try:
        for task in map(int, os.listdir(f"/proc/{pid}/task")) if tasks is None else tasks:
            if task != own and not _sleeps(pid, task):
                return False
    except (FileNotFoundError, ProcessLookupError):
        pass
    return True


def _sleeps(pid: int, task: int) -> bool:
    try:
        with open(f"/proc/{pid}/task/{task}/stat", "rb") as stat:
            # Field 3 is the state. It comes after a name in parentheses, which may contain any character.
            return stat.read().rpartition(b")")[2].split(None, 1)[0] in (b"S", b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True
