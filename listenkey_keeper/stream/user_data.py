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

    Yields Binance's events as dicts, without the envelope of some URLs, each once. An Interrupted says that
    events may be missing from now on. The Gap that follows it says that events arrive again, and for which
    time to ask Binance. The first Gap is for the opening. listenKeyExpired is not yielded: it becomes an
    Interrupted.

    `table` is ListenKeysTable's name, or a ListenKeys, which many streams may share; by default the
    environment's LISTEN_KEYS_TABLE. `since` (aware) is where the first Gap begins: for a bot that restarts,
    the time of the last event it has handled; by default now. `changes` wakes the stream when the keeper
    announces another key; without it the stream notices within a minute. With `ask` the stream reports a dead
    key (`report_expired`), and the keeper creates another within seconds. It needs dynamodb:GetItem on the
    table and events:PutEvents for that one event. To Binance it opens websockets, and sends nothing else.
    Raises ValueError for a `since` without a timezone, and what ListenKeys raises.

    The iterator does not end by itself. It raises ListenKeyUnavailable if the table has never been read and
    retrying cannot help (its name, a permission, credentials). Later errors are logged, and the stream tries
    again. An account that is not in the table raises nothing: it yields an Interrupted ("no key") and waits.
    Reading the next item may be cancelled, as by asyncio.wait_for, and loses nothing. Up to 10,000 items or
    16 MB of JSON wait to be read; events beyond them are dropped and lie in a Gap.
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
        """The state now. Safe to read from any thread."""
        return self._follower.state

    @property
    def alive(self) -> bool:
        """Whether events arrive, as far as is known: `state.listening`."""
        return self.state.listening

    @property
    def expires_at(self) -> datetime | None:
        """When the key expires, as last read from the table: aware UTC, None before the first reading."""
        return self.state.expires_at

    def wake(self) -> None:
        """Read the table now. Safe to call from any thread."""
        self._call(self._follower.look.ring)

    def close(self) -> None:
        """Begin to close the stream: waiting for an item ends with StopAsyncIteration.

        Safe to call twice, and from any thread. `aclose` also waits until the sockets are closed.
        """
        if self._task:
            self._call(self._task.cancel)

    async def aclose(self) -> None:
        """Close the stream and wait until its sockets are closed. Safe to call twice, and in another loop."""
        self.close()
        if self._loop is asyncio.get_running_loop():
            await self.closed()
        elif self._task:
            while not self.outbox.ended:
                await asyncio.sleep(0.01)

    async def closed(self) -> None:
        """Return when the stream has ended, for any reason; call it in the stream's loop."""
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
        error: BaseException = StopAsyncIteration()  # closed: who still waits for an item is told so
        try:
            await self._follower.run()
        except Exception as failed:  # noqa: BLE001 - raised to who takes the next item
            error = failed
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
        finally:
            if self._changes:
                self._changes.unsubscribe(self.account, self.wake)
            self.outbox.end(error)
