"""A socket in use: parses its messages, pings it, and records until when it is known to have worked."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from datetime import datetime, timedelta
from typing import Any, Protocol

from .clock import Clock
from .connection import Connection
from .gaps import Proof
from .keys import EXPIRED, ListenKey
from .outbox import Event

log = logging.getLogger("listenkey_keeper.stream")
PING_SECONDS = 10.0
# Binance closes a connection after 24 hours. The spread keeps streams that were started together from
# reconnecting together.
OLDEST = timedelta(hours=23)
SPREAD = timedelta(hours=1)


class Listener(Protocol):
    """Receives the events of a line. The follower is the only implementation."""

    def now(self) -> datetime:
        """Return the time, aware UTC."""

    def heard(self, line: Line, event: Event, message: bytes) -> None:
        """Handle an event. `message` is its JSON as it was received."""

    def expired(self, line: Line, event: Event) -> None:
        """Handle listenKeyExpired: Binance says that a key is dead."""

    def lost(self, line: Line) -> None:
        """Handle the end of the line's connection."""


class Line:
    """A connection, its key, and the last time at which both are known to have worked.

    `renew_at` is when to replace the connection: 22 to 23 hours after it was opened.
    """

    def __init__(self, connection: Connection, key: ListenKey, clock: Clock, listener: Listener) -> None:
        self.key = key
        self.opened_at = listener.now()
        self.opened = clock.monotonic()
        self.renew_at = self.opened_at + OLDEST - random.random() * SPREAD  # nosec B311 # noqa: S311 - not for secrets
        self.proof = Proof(self.opened_at, key.renewed_at)
        self.in_doubt = False  # the key may have died before this socket was open, which then cannot know
        self._connection, self._clock, self._listener = connection, clock, listener
        self._pinging: asyncio.Task[None] | None = None
        self._timer = clock.call_later(PING_SECONDS, self._ping_in_time)

    def listen(self) -> None:
        """Pass the socket's messages to the listener, including those that have already arrived."""
        self._connection.listen(self._hear, self._gone)

    @property
    def ending(self) -> str:
        """How the connection was closed."""
        return self._connection.ending

    async def ping(self) -> bool:
        """Send a ping, and return whether it is answered."""
        sent_at = self._listener.now()
        answered = await self._connection.ping()
        if answered:
            self.proof.answered(sent_at)
        return answered

    def pause(self) -> None:
        """Stop reading, so that the network holds the data back."""
        self._connection.pause()

    def resume(self) -> None:
        """Read again."""
        self._connection.resume()

    def abort(self) -> None:
        """Close the connection at once, without a close frame."""
        self._stop()
        self._connection.abort()

    async def close(self) -> None:
        """Close the connection with a close frame, then abort it if the other side has not answered."""
        self._stop()
        try:
            await self._connection.close()
        finally:
            self._connection.abort()

    def _hear(self, message: bytes) -> None:
        try:
            event: Any = json.loads(message)
        except (ValueError, RecursionError):
            log.warning("%s: a message was not JSON", self.key.account)
            return
        if isinstance(event, dict) and "data" in event and "e" not in event:
            event = event["data"]
        if not isinstance(event, dict) or "e" not in event:
            return
        try:
            if event["e"] == EXPIRED:
                self._listener.expired(self, event)
            else:
                self._listener.heard(self, event, message)
        except Exception as error:  # noqa: BLE001 - a bug: reconnect, so that the event is in a Gap
            log.error("%s: an event could not be taken (%s)", self.key.account, type(error).__name__)
            self._connection.abort()

    def _gone(self) -> None:
        self._stop()
        self._listener.lost(self)

    def _stop(self) -> None:
        self._timer.cancel()
        if self._pinging:
            self._pinging.cancel()

    def _ping_in_time(self) -> None:
        self._pinging = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        if await self.ping():
            self._timer = self._clock.call_later(PING_SECONDS, self._ping_in_time)
        else:
            self._connection.abort()
