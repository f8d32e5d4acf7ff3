"""UserDataStream: an account's events as an async iterator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Self

from .changes import ListenKeyChanges
from .clock import Clock, SystemClock
from .follower import Follower
from .gaps import State
from .keys import ListenKeys
from .outbox import Item


class UserDataStream:
    """The user data events of an account: an async iterator, inside `async with`.

        async with UserDataStream("alice") as stream:
            async for item in stream:
                print(item)

    An item is one of three:

    dict          an event as Binance sends it (`{"e": "ORDER_TRADE_UPDATE", "E": 1700000000000, ...}`), once.
                  The envelope that some URLs put around it is removed. listenKeyExpired is not yielded: it
                  becomes an Interrupted.
    Interrupted   events may be missing from now on
    Gap           events arrive again. Ask Binance what happened between its two times. The first Gap covers
                  the time until the stream was open.

    The arguments:

    account   the account's name, as `listenkeys accounts list` shows it
    table     the name of ListenKeysTable, or a ListenKeys, which many streams may share; by default the
              environment variable LISTEN_KEYS_TABLE
    since     when the first Gap begins (an aware datetime), by default now. A bot that restarts passes the
              time of the last event that it has handled.
    changes   wakes the stream when the keeper announces another key. Without it, the stream notices within a
              minute.
    ask       whether to report a dead key (`report_expired`): the keeper then creates another within seconds
    clock     the source of time, for tests

    Needs dynamodb:GetItem on the table and, to report, events:PutEvents for that one event. To Binance it
    opens websockets, and sends nothing else. Raises ValueError if `since` has no timezone, and as ListenKeys
    does.

    The iterator ends only when the stream is closed. It raises ListenKeyUnavailable if the table has never
    been read and retrying cannot help (wrong name, missing permission, no credentials). Later errors are
    logged, and the stream tries again. If the table has no key of the account, it yields an Interrupted
    ("no key") and waits. Cancelling a wait for the next item, as asyncio.wait_for does, loses no item. Up to
    10,000 items or 16 MB of JSON wait to be read; further events are dropped, and a Gap covers them.
    """

    def __init__(
        self,
        account: str,
        table: str | ListenKeys | None = None,
        *,
        since: datetime | None = None,
        changes: ListenKeyChanges | None = None,
        ask: bool = True,
        clock: Clock | None = None,
    ) -> None:
        if since and not since.tzinfo:
            raise ValueError("`since` has no timezone")
        self.account = account
        self._clock = clock or SystemClock()
        keys = table if isinstance(table, ListenKeys) else ListenKeys(table)
        self._follower = Follower(account, keys, self._clock, since, ask)
        self.outbox = self._follower.outbox
        self._changes = changes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<UserDataStream {self.account}: {self.state.why or 'listening'}>"

    @property
    def state(self) -> State:
        """The current state. Safe to read from any thread."""
        return self._follower.state

    @property
    def alive(self) -> bool:
        """The same as `state.listening`: whether events arrive, as far as the stream knows."""
        return self.state.listening

    @property
    def expires_at(self) -> datetime | None:
        """When the key expires (aware UTC), as last read from the table. None before the first read."""
        return self.state.expires_at

    def wake(self) -> None:
        """Make the stream read the table now instead of at its next turn. Safe to call from any thread."""
        self._call(self._follower.look.ring)

    def close(self) -> None:
        """Start closing the stream, and return at once. After the items that are left, iteration stops.

        Safe to call twice and from any thread. `aclose` also waits until the sockets are closed.
        """
        if self._task:
            self._call(self._task.cancel)

    async def aclose(self) -> None:
        """Close the stream and wait until its sockets are closed. Safe to call twice and in another loop."""
        self.close()
        if self._loop is asyncio.get_running_loop():
            await self.closed()
        elif self._task:
            while not self.outbox.ended:
                await asyncio.sleep(0.01)

    async def closed(self) -> None:
        """Wait until the stream has ended, for any reason. Call it in the stream's loop."""
        if self._task:
            await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        if self._task:
            raise RuntimeError("a stream can be entered once: make another")
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())
        if self._changes:
            self._changes.subscribe(self.account, self.wake)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        if not self._task:
            raise RuntimeError("a stream is open inside of `async with` only")
        while (item := self.outbox.take()) is None:
            await self.outbox.ready()
        return item

    def _call(self, what: Callable[[], object]) -> None:
        if self._loop:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(what)

    async def _run(self) -> None:
        error: BaseException = StopAsyncIteration()  # if closed: ends a wait for the next item
        try:
            await self._follower.run()
        except Exception as failed:  # noqa: BLE001 - raised when the bot takes the next item
            error = failed
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
        finally:
            if self._changes:
                self._changes.unsubscribe(self.account, self.wake)
            self.outbox.end(error)
