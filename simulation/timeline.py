"""One virtual time for several actors: runs that overlap, as in Lambda, and are the same every time.

An actor is a function in its own thread. Only one actor runs at a time. When it sleeps, the actor that wakes
up first runs next.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from itertools import count

from local.clock import VirtualClock


class Timeline(VirtualClock):
    """A clock for the actors of one timeline. `at` and `start` add an actor, and `play` runs them all."""

    def __init__(self) -> None:
        super().__init__()
        # The time, the order in which turns were added, and what to call: it starts or resumes an actor.
        self._turns: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._until = float("inf")
        self._acting = 0
        self._over = threading.Event()
        self._failure: BaseException | None = None

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Add an actor that begins at `when` (seconds since the beginning), unless that is after the end."""
        if when < self._until:
            self._add(when, act)

    def start(self, act: Callable[[], None]) -> None:
        """Add an actor that begins now."""
        self._add(self._elapsed, act)

    def play(self, until: float) -> None:
        """Run all actors that begin before `until`, each to its end. Raise what the first to fail raised."""
        self._until = until
        self._turns = [turn for turn in self._turns if turn[0] < until]
        heapq.heapify(self._turns)
        self._over.clear()
        self._next()
        self._over.wait()
        if self._failure:
            raise self._failure

    def sleep(self, seconds: float) -> None:
        wakes = self._elapsed + max(0.0, seconds)
        if not self._acting or not self._turns or wakes <= self._turns[0][0]:
            self._elapsed = wakes
            return
        go_on = threading.Event()
        heapq.heappush(self._turns, (wakes, next(self._numbers), go_on.set))
        self._next()
        go_on.wait()

    def go_to(self, elapsed: float) -> None:
        """Set the time, in seconds since the beginning. It may go back."""
        self._elapsed = elapsed

    def _add(self, when: float, act: Callable[[], None]) -> None:
        def begin() -> None:
            self._acting += 1
            threading.Thread(target=self._act, args=(act,), daemon=True).start()

        heapq.heappush(self._turns, (when, next(self._numbers), begin))

    def _act(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised by `play`
            self._failure = self._failure or error
        self._acting -= 1
        self._next()

    def _next(self) -> None:
        """Start or resume the actor whose turn is first. End the play if there is none or one has failed."""
        if not self._turns or self._failure:
            self._over.set()
            return
        self._elapsed, _, go_on = heapq.heappop(self._turns)
        go_on()
