"""What waits for the bot to take it. Put in by the stream's loop, taken there or in a thread of the bot's."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .gaps import Gap, Interrupted

Event = dict[str, Any]
Item = Event | Interrupted | Gap
MOST = 10_000
MOST_BYTES = 16_000_000  # of Binance's JSON; as Python's objects it takes several times as much
HIGH = 1_000  # so many wait: let the network wait for the bot
LOW = 500


class Outbox:
    """Items in their order. Once it has been full, it takes no event until `emptied` has been called back.

    `emptied` and `low` are called, from whichever thread takes, when everything was taken after it has been
    full, and when as few as LOW wait again.
    """

    def __init__(self, emptied: Callable[[], None], low: Callable[[], None]) -> None:
        self.full = False
        self.ended = False
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._arrived = threading.Condition()
        self._waiters: set[asyncio.Future[None]] = set()
        self._end: BaseException | None = None
        self._emptied, self._low = emptied, low

    def __len__(self) -> int:
        return len(self._items)

    def put(self, event: Event, size: int) -> bool:
        """Add an event of so many bytes. Tell whether there was room; if not it is dropped."""
        if self.full or len(self._items) >= MOST or self._bytes + size > MOST_BYTES:
            self.full = True
            return False
        self._add(event, size)
        return True

    def tell(self, item: Interrupted | Gap) -> None:
        """Add what the bot has to know, whether there is room or not."""
        self._add(item, 0)

    def end(self, error: BaseException) -> None:
        """Raise this, once everything before it has been taken."""
        self._end = self._end or error
        self.ended = True
        with self._arrived:
            self._arrived.notify_all()
        self._wake()

    async def ready(self) -> None:
        """Return when there is something to take; in the loop in which it is put."""
        while not self._items and not self._end:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def wait(self, seconds: float | None) -> Item:
        """Return the next item, in another thread. Raises TimeoutError, and what `end` was given."""
        with self._arrived:  # to the end: another thread may take, too
            self._arrived.wait_for(lambda: self._items or self._end, seconds)
            if (taken := self.take()) is None:
                raise TimeoutError
            return taken

    def take(self) -> Item | None:
        """Return the next item, None when there is none; then raise what `end` was given."""
        with self._arrived:
            if not self._items:
                if self._end:
                    raise self._end
                return None
            item, size = self._items.popleft()
            self._bytes -= size
            left = len(self._items)
        if left == LOW:
            self._low()
        if not left and self.full:
            self._emptied()
        return item

    def _add(self, item: Item, size: int) -> None:
        with self._arrived:
            self._items.append((item, size))
            self._bytes += size
            self._arrived.notify()
        if self._waiters:
            self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
