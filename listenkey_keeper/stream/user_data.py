"""UserDataStream: an account's events as an async iterator."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Self

from .changes import ListenKeyChanges
from .clock import Clock, SystemClock
from .follower import Follower
from .gaps import Gap
from .keys import ListenKeys
from .outbox import Event, Outbox


class UserDataStream:
    """The user data events of an account: an async iterator, inside `async with`.

        async with UserDataStream("alice") as stream:
            async for event in stream:
                print(event)

    Yields Binance's events as dicts, out of their envelope and each once, and a Gap wherever events may have
    been missed. The first item is the Gap of the opening. listenKeyExpired is not yielded: it becomes a Gap.

    `table` is ListenKeysTable's name, or a ListenKeys, which many streams may share; by default the
    environment's LISTEN_KEYS_TABLE. `since` (aware) is where the first Gap begins: for a bot that restarts,
    the time of the last event it has handled; by default now. `changes` wakes the stream when the keeper
    announces another key; without it the stream finds out within a minute. It needs GetItem on the table,
    and Binance gets no request from it but the opening of websockets. Raises ValueError for a `since` without
    a timezone, and what ListenKeys raises.

    The iterator does not end. It raises ListenKeyUnavailable if the table has never been read and asking
    again does not help (its name, a permission, credentials); all later trouble is logged and tried again.
    Taking the next item may be cancelled, as by asyncio.wait_for, and loses nothing. Up to 10,000 items wait
    to be taken; events beyond them are dropped and lie in a Gap.
    """

    def __init__(
        self,
        account: str,
        table: str | ListenKeys | None = None,
        *,
        since: datetime | None = None,
        changes: ListenKeyChanges | None = None,
        clock: Clock | None = None,
    ) -> None:
        if since and not since.tzinfo:
            raise ValueError("`since` has no timezone")
        self.account = account
        self._keys = table if isinstance(table, ListenKeys) else ListenKeys(table)
        self._clock = clock or SystemClock()
        self.outbox = Outbox()
        self._follower = Follower(account, self._keys, self._clock, since or self._clock.now(), self.outbox)
        self._changes = changes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<UserDataStream {self.account}: {'alive' if self.alive else 'not alive'}>"

    @property
    def alive(self) -> bool:
        """Whether events are heard, as far as is known: a socket is open, on a key whose hour is not over."""
        return self._follower.alive

    @property
    def expires_at(self) -> datetime | None:
        """Until when the key lives, as last read from the table: aware UTC, None before the first reading."""
        return self._follower.key.expires_at if self._follower.key else None

    def wake(self) -> None:
        """Look at the table now. Safe to call from any thread."""
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._follower.woken.set)

    async def __aenter__(self) -> Self:
        if self._task:
            raise RuntimeError("a stream can be entered once: make another")
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())
        if self._changes:
            self._changes.subscribe(self.account, self.wake)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._changes:
            self._changes.unsubscribe(self.account, self.wake)
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Gap:
        if not self._task:
            raise RuntimeError("a stream is open inside of `async with` only")
        await self.outbox.ready()
        return self.outbox.take()

    async def _run(self) -> None:
        error: BaseException = StopAsyncIteration()  # closed: who still waits for an item is told so
        try:
            await self._follower.run()
        except ExceptionGroup as group:
            error = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
        finally:
            self.outbox.end(error)
