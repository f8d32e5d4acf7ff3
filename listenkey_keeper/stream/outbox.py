"""What waits for the bot to take it."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime
from typing import Any

from .gaps import Gap, around

Event = dict[str, Any]
MOST = 10_000


class Outbox:
    """Events and gaps in their order. Full, it drops events, and keeps a gap that they lie in."""

    def __init__(self) -> None:
        self._items: deque[Event | Gap] = deque()
        self._arrived = asyncio.Event()
        self._end: BaseException | None = None

    def put(self, item: Event | Gap, at: datetime, now: datetime) -> None:
        """Add an item; an event is of the time `at`, and now it is `now`."""
        if len(self._items) < MOST:
            self._items.append(item)
        else:
            lost = item if isinstance(item, Gap) else around(at, now, "read too slowly")
            last = self._items[-1]
            if isinstance(last, Gap):
                lost = Gap(min(last.since, lost.since), max(last.until, lost.until), "read too slowly")
                self._items.pop()
            self._items.append(lost)
        self._arrived.set()

    def end(self, error: BaseException) -> None:
        """Raise this, once everything before it has been taken."""
        self._end = self._end or error
        self._arrived.set()

    async def ready(self) -> None:
        """Return when there is something to take."""
        while not self._items and not self._end:
            self._arrived.clear()
            await self._arrived.wait()

    def take(self) -> Event | Gap:
        """Return the next item; raise what `end` was given when there is none. Only after `ready`."""
        if self._end and not self._items:
            raise self._end
        return self._items.popleft()
