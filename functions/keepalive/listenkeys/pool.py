"""A run's threads. One thread decides: it starts work here and takes in what came of it, one by one."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from .clock import Clock


class Pool:
    """Runs requests and AWS calls. Only the deciding thread calls `start` and `land`: no lock is needed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._work: SimpleQueue[Any] = SimpleQueue()
        self._done: SimpleQueue[Any] = SimpleQueue()
        self._threads = 0
        self._busy = 0

    def start(self, work: Callable[[], Any], then: Callable[[Any], object]) -> None:
        """Do the work in a thread; `land` calls `then` with what it returns, or raises what it raises."""
        self._busy += 1
        self._work.put((work, then))
        if self._busy > self._threads:
            self._threads += 1
            # A daemon: one that hangs in name resolution must not outlive the process.
            threading.Thread(target=self._serve, daemon=True).start()

    def land(self, seconds: float) -> None:
        """Take in what is done by now; where nothing is, wait for something, at most for so long."""
        if not self._busy:
            self._clock.sleep(seconds)
            return
        done = self._clock.get(self._done, seconds)
        while done:
            self._busy -= 1
            then, outcome, bug = done
            if bug:
                raise bug
            then(outcome)
            done = None if self._done.empty() else self._done.get()

    def close(self) -> None:
        """Let the threads end once they have done what they are at."""
        for _ in range(self._threads):
            self._work.put(None)

    def _serve(self) -> None:
        while job := self._work.get():
            work, then = job
            try:
                self._done.put((then, work(), None))
            except BaseException as bug:  # noqa: BLE001 - raised by `land`
                self._done.put((then, None, bug))
