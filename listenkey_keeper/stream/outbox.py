"""The queue between a stream and its bot. The stream's loop adds items; the bot takes them in any thread."""

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
MOST_BYTES = 16_000_000  # of Binance's JSON; the Python objects take several times as much memory
HIGH = 1_000  # from this many items on, the stream pauses its sockets
LOW = 500  # down to this many, it reads again


class Outbox:
    """A first-in, first-out queue of items. Once it is full, it drops events until `full` is set to False.

    Both callbacks are called in the thread that takes the item: `emptied` when the last item is taken from a
    queue that was full, `low` when LOW items are left.
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
        """Add an event of `size` bytes. Return whether there was room; if not, the event is dropped."""
        if self.full or len(self._items) >= MOST or self._bytes + size > MOST_BYTES:
            self.full = True
            return False
        self._add(event, size)
        return True

    def tell(self, item: Interrupted | Gap) -> None:
        """Add an item that the bot must receive, even if there is no room."""
        self._add(item, 0)

    def end(self, error: BaseException) -> None:
        """End the queue: once every item has been taken, taking another raises `error`."""
        self._end = self._end or error
        self.ended = True
        with self._arrived:
            self._arrived.notify_all()
        self._wake()

    async def ready(self) -> None:
        """Return when there is an item to take, or the end. Call it in the stream's loop."""
        while not self._items and not self._end:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def wait(self, seconds: float | None) -> Item:
        """Return the next item; call it in another thread than the stream's.

        Waits up to `seconds`, without limit if it is None. Raises TimeoutError if there is no item by then,
        and the error passed to `end` after the last item.
        """
        with self._arrived:  # until the item is taken: another thread may take one too
            self._arrived.wait_for(lambda: self._items or self._end, seconds)
            if (taken := self.take()) is None:
                raise TimeoutError
            return taken

    def take(self) -> Item | None:
        """Return the next item, None if there is none yet. After the last, raise the error given to `end`."""
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
