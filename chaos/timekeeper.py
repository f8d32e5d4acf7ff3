"""One virtual clock for several processes: it moves on only when none of them can do anything before it does.

The harness keeps the time; a process that runs the handler reads it from shared memory and says until when
it sleeps. A process that sleeps in all its threads, while no request of its is being answered, waits for
the harness alone. When all do, the next request is answered, one at a time; when there is none, the time goes
on to the next moment that anybody waits for. So a request takes no time, however busy the machine, but what
it is held up for on purpose, a day without troubles takes seconds, and the same seed tells the same story.

A thread that waits for a processor is not asleep: Linux tells them apart in /proc, the only place this
relies on.
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
_QUIET_CHECKS = 3  # in a row: a thread that has just been woken may not be seen at once
_BETWEEN_CHECKS = 0.0004  # real seconds
_STUCK = 120.0  # real seconds in which nothing moves: a bug of the harness


Key = tuple[int, str]  # of a request: its process, and what it is


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


class _Turn:
    def __init__(self, key: Key) -> None:
        self.key = key
        self.begins = threading.Event()


class Timekeeper:
    """Keeps the time, and lets one request at a time go on.

    Server threads call `arriving`, `turn` and `hold`, the harness's own thread all the rest. Requests that
    wait together get their turns in the order of their keys, not of their arrival: which of a process's
    threads is quicker depends on the machine.
    """

    def __init__(self, time: SharedTime) -> None:
        self._time = time
        self._lock = threading.Lock()
        self._busy = 0
        self._events = 0  # goes up with everything that happens
        self._waiting: list[_Turn] = []
        self._held: list[tuple[float, _Turn]] = []
        self._own = threading.local()

    def now(self) -> float:
        """Return epoch seconds."""
        return self._time.get()

    def arriving(self, more: int) -> None:
        """Count a connection (1) whose thread is not seen yet, and that it is (-1)."""
        with self._lock:
            self._busy += more
            self._events += 1

    @contextmanager
    def turn(self, key: Key) -> Iterator[None]:
        """Wait for one's turn; within it no time passes, and no other request goes on."""
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
        """Let so much time pass; only within a turn, which goes on as another one."""
        if seconds <= 0:
            return
        turn = self._own.turn = _Turn(self._own.turn.key)
        with self._lock:
            self._busy -= 1
            self._events += 1
            self._held.append((self.now() + seconds, turn))
        turn.begins.wait()

    def next_turn(self) -> bool:
        """Let the next request go on; False if none waits."""
        with self._lock:
            if not self._waiting:
                return False
            turn = min(self._waiting, key=lambda waiting: waiting.key)
            self._waiting.remove(turn)
            self._busy += 1
        turn.begins.set()
        return True

    def next_release(self) -> float:
        """Return the first moment at which something is no longer held."""
        with self._lock:
            return min((until for until, _ in self._held), default=float("inf"))

    def advance(self, now: float) -> None:
        """Move the time on; what was held until then waits for its turn."""
        self._time.set(max(now, self.now()))
        with self._lock:
            self._waiting += [turn for until, turn in self._held if until <= self.now()]
            self._held = [held for held in self._held if held[0] > self.now()]

    def release_all(self) -> None:
        """Let everything go, at the end."""
        with self._lock:
            self._waiting += [turn for _, turn in self._held]
            self._held = []
        while self.next_turn():
            pass

    def quiet(self, asleep: Callable[[], bool], heard: Callable[[], bool]) -> bool:
        """Wait until nothing happens without the time; False once `heard` says that something did."""
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
    """Whether all threads of a process sleep, or these, but the one that asks; also of one that has ended."""
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
            # Field 3, after a name in parentheses that may hold anything.
            return stat.read().rpartition(b")")[2].split(None, 1)[0] in (b"S", b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True
