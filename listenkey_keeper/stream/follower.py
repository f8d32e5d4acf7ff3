"""Follows an account's listenKey from socket to socket, and notes where events may have been missed."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from datetime import datetime

from .clock import Clock, within
from .connection import Connection, ConnectionFailed
from .gaps import Missing, Seen, around
from .keys import ListenKey, ListenKeys, ListenKeyUnavailable
from .line import Line
from .outbox import Event, Outbox

log = logging.getLogger("listenkey_keeper.stream")
LOOK_SECONDS = 60.0  # between two looks at the table while all is well
RETRY_SECONDS = 5.0  # the same while the key is dead, or there is none
LINGER_SECONDS = 5.0  # for so long a replaced socket is still heard: an event may be on its way there
MOST_BACKOFF = 60.0


class Follower:
    """Keeps a socket open on the account's live key; what it hears goes into the outbox.

    The stream answers for what happens from `start` on. `key` is the key as last read from the table, `line`
    the socket that is listened to, None while there is none. Setting `woken` makes it look at the table at
    once.
    """

    def __init__(self, account: str, keys: ListenKeys, clock: Clock, start: datetime, outbox: Outbox) -> None:
        self.key: ListenKey | None = None
        self.line: Line | None = None
        self.woken = asyncio.Event()
        self._account, self._keys, self._clock, self._outbox = account, keys, clock, outbox
        self._last: Line | None = None  # the same as `line`, or what was listened to last
        self._missing = Missing(start)
        self._seen = Seen()
        self._failures = 0  # to open a socket that works, in a row
        self._refused = False  # the last attempt to open one
        self._unreadable = ""

    @property
    def alive(self) -> bool:
        """Whether a socket is open on a key whose hour is not over."""
        return self.line is not None and self._clock.now() < self.line.key.expires_at

    async def run(self) -> None:
        """Look at the table, open what it says, wait; until cancelled, and then close what is open.

        Raises, in an ExceptionGroup, ListenKeyUnavailable if the table has never been read and asking again
        does not help.
        """
        try:
            async with asyncio.TaskGroup() as self._tasks:
                while True:
                    await self._back_off()
                    self.woken.clear()
                    key = await self._look()
                    if key is None or not self._wants(key) or await self._listen_with(key):
                        await self._pause()
        finally:
            self.line = None

    async def _pause(self) -> None:
        seconds = LOOK_SECONDS * _about(1, 0.1) if self.alive else RETRY_SECONDS * _about(1, 0.5)
        with suppress(TimeoutError):
            await within(self._clock, seconds, self.woken.wait())

    async def _back_off(self) -> None:
        if self.line and self.line.worked and not self._refused:
            self._failures = 0
        if self._failures:
            # Full jitter: many streams lose their sockets at the same moment.
            half = min(MOST_BACKOFF, 2.0 ** (self._failures - 1)) / 2
            await self._clock.sleep(_about(half, half))

    async def _look(self) -> ListenKey | None:
        """Return the key to listen with: what was known before when the table cannot be read."""
        try:
            self.key = await asyncio.to_thread(self._keys.read, self._account)
        except ListenKeyUnavailable as error:
            if self.key is None and not error.retryable:
                raise
            if error.code != self._unreadable:  # once, not every few seconds
                log.warning("%s", error)
            self._unreadable = error.code
            return self.key
        self._unreadable = ""
        if self._last and self._last.key.url == self.key.url:
            self._last.key = self.key
            self._last.proof.extended(self.key.renewed_at)
        return self.key

    def _wants(self, key: ListenKey) -> bool:
        """Tell whether to open a socket with this key."""
        if self.line:
            return key.url != self.line.key.url or self._clock.now() >= self.line.renew_at
        expired_at = self._last.expired_at if self._last and self._last.key.url == key.url else None
        return expired_at is None or key.renewed_at > expired_at

    async def _listen_with(self, key: ListenKey) -> bool:
        """Open a socket, then leave the one before it. Tell whether it could be opened."""
        try:
            connection = await Connection.open(key.url, self._clock)
        except ConnectionFailed as error:
            self._failures += 1
            self._refused = True
            log.warning("%s: cannot connect (%s)", self._account, error)
            return False
        self._refused = False
        before, line = self.line, Line(connection, key, self._clock)
        line.task = self._tasks.create_task(self._hear(line))
        line.task.add_done_callback(lambda _: connection.abort())  # even if it was cancelled before it began
        if self._last and self._last.key.url == key.url:
            line.proof.extended(self._last.proof.key_alive)
        elif self._last and not self._last.expired_at:
            # When the old key died is not known: at any time since it was last known to live.
            self._missing.begin(self._last.proof.complete_until, "key changed")
        if gap := self._missing.end(line.opened_at):
            self._outbox.put(gap, line.opened_at, line.opened_at)
        log.info("%s: listening (%s)", self._account, key.product)
        self.line = self._last = line
        if before:
            self._tasks.create_task(self._leave(before, line))
        return True

    async def _leave(self, old: Line, new: Line) -> None:
        """Hear the old socket out, and make sure that it was heard until the new one was."""
        await self._clock.sleep(LINGER_SECONDS)
        await old.ping()
        if old.key.url == new.key.url and old.proof.delivered < new.opened_at:
            gap = around(old.proof.delivered, new.opened_at, "connection lost")
            self._outbox.put(gap, gap.since, self._clock.now())
        old.task.cancel()

    async def _hear(self, line: Line) -> None:
        await line.run(self._heard, self._expired)
        if line is self.line:
            self._missing.begin(line.proof.delivered, "connection lost")
            log.warning("%s: connection lost", self._account)
            self._failures = (0 if line.worked else self._failures) + 1
            self._lost(line)

    def _heard(self, event: Event, at: datetime) -> None:
        if self._seen.is_new(event):
            self._outbox.put(event, at, self._clock.now())

    def _expired(self, line: Line, at: datetime | None) -> None:
        """Binance says that a key is dead: every socket with this key is silent from now on."""
        if self.line is None or self.line.key.url != line.key.url:
            return
        line = self.line
        alive = line.proof.key_alive
        # The event may come late: past the hour that the table knows of, only another event proves a life.
        died_at = max(alive, min(at, line.key.expires_at)) if at else alive
        line.expired_at = at or self._clock.now()
        self._missing.begin(died_at, "key expired")
        log.warning("%s: the listenKey has expired", self._account)
        self._lost(line)

    def _lost(self, line: Line) -> None:
        self.line = None
        line.task.cancel()
        self.woken.set()


def _about(middle: float, spread: float) -> float:
    return middle + random.uniform(-spread, spread)  # nosec B311 # noqa: S311 - not for secrets
