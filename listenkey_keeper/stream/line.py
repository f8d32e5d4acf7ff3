"""One socket in use: it is heard, pinged, and knows until when it has proved itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .clock import Clock
from .gaps import Proof, event_time
from .keys import EXPIRED, ListenKey
from .outbox import Event

if TYPE_CHECKING:
    from .connection import Connection

PING_SECONDS = 20.0
# Binance ends a connection after 24 hours. The spread keeps apart what was started together.
OLDEST = timedelta(hours=23)
SPREAD = timedelta(hours=1)


class Line:
    """A connection, the key it was opened with, and until when both are known to have worked.

    `task` is the one that is in `run`; cancelling it closes the connection. `worked` says whether an event
    or an answer to a ping has come. `expired_at` is when Binance said that the key is dead.
    """

    task: asyncio.Task[None]

    def __init__(self, connection: Connection, key: ListenKey, clock: Clock) -> None:
        self.key = key
        self.opened_at = clock.now()
        self.renew_at = self.opened_at + OLDEST - random.random() * SPREAD  # nosec B311 # noqa: S311 - not for secrets
        self.proof = Proof(self.opened_at, key.renewed_at)
        self.worked = False
        self.expired_at: datetime | None = None
        self._connection, self._clock = connection, clock

    async def run(
        self, hear: Callable[[Event, datetime], None], expired: Callable[[Line, datetime | None], None]
    ) -> None:
        """Hear the socket, and ping it, until it ends; close it when this is cancelled.

        `hear` gets each event with its time, `expired` the time of listenKeyExpired (None where it has none).
        """
        await asyncio.sleep(0)  # some loops begin a task while it is being made
        try:
            async with asyncio.TaskGroup() as group:
                pinging = group.create_task(self._keep_pinging())
                async for event in self._connection:
                    now = self._clock.now()
                    at = event_time(event, now)
                    if event["e"] == EXPIRED:
                        expired(self, at)
                        continue
                    self.worked = True
                    if at:
                        self.proof.heard(at)
                    hear(event, at or now)
                pinging.cancel()
        finally:
            await self._connection.close()

    async def ping(self) -> bool:
        """Tell whether a ping is answered."""
        sent_at = await self._connection.ping()
        if sent_at is None:
            return False
        self.worked = True
        self.proof.answered(sent_at)
        return True

    async def _keep_pinging(self) -> None:
        while True:
            await self._clock.sleep(PING_SECONDS)
            if not await self.ping():
                self._connection.abort()
                return
