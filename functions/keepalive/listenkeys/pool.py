"""A run's threads. One thread decides: it starts work here and handles the outcomes, one at a time."""

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
        """Do `work` in a thread. `land` calls `then` with its return value, or raises its exception."""
        self._busy += 1
        self._work.put((work, then))
        if self._busy > self._threads:
            self._threads += 1
            # A daemon thread: if it hangs in name resolution, the process can still end.
            threading.Thread(target=self._serve, daemon=True).start()

    def land(self, seconds: float) -> None:
        """Handle the outcomes of all finished work. If there are none, wait up to `seconds` for one."""
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
        """End each thread as soon as it has finished its work."""
        for _ in range(self._threads):
            self._work.put(None)

    def _serve(self) -> None:
        while job := self._work.get():
            work, then = job
            try:
                self._done.put((then, work(), None))
            except BaseException as bug:  # noqa: BLE001 - raised by `land`
                self._done.put((then, None, bug))
