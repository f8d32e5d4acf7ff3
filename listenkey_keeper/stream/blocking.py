"""UserDataStream for code without asyncio."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from datetime import datetime
from typing import Self

from .changes import ListenKeyChanges
from .clock import Clock
from .gaps import State
from .keys import ListenKeys
from .outbox import Item
from .user_data import UserDataStream


class SyncUserDataStream:
    """UserDataStream as an iterator, inside `with`; the same arguments, items and errors.

        with SyncUserDataStream("alice") as stream:
            for item in stream:
                print(item)

    The websocket has its own thread, so that pings are answered while the bot is busy. For hundreds of
    accounts use UserDataStream, which does not need a thread for each.
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
        self._stream = UserDataStream(account, table, since=since, changes=changes, ask=ask, clock=clock)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._open: Future[None] = Future()

    def __repr__(self) -> str:
        return repr(self._stream).replace("<", "<Sync", 1)

    @property
    def account(self) -> str:
        """The account whose events the stream yields."""
        return self._stream.account

    @property
    def state(self) -> State:
        """The current state. Safe to read from any thread."""
        return self._stream.state

    @property
    def alive(self) -> bool:
        """The same as `state.listening`: whether events arrive, as far as the stream knows."""
        return self._stream.alive

    @property
    def expires_at(self) -> datetime | None:
        """When the key expires (aware UTC), as last read from the table. None before the first read."""
        return self._stream.expires_at

    def wake(self) -> None:
        """Make the stream read the table now instead of at its next turn. Safe to call from any thread."""
        self._stream.wake()

    def close(self) -> None:
        """Close the stream and wait until its sockets are closed. Safe to call twice and from any thread."""
        if self._thread.ident is None:
            return
        self._stream.close()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def get(self, timeout: float | None = None) -> Item:
        """Return the next item: an event (dict), an Interrupted or a Gap.

        Waits up to `timeout` seconds: without limit if it is None, not at all if it is 0. Raises TimeoutError
        if no item arrives in time, StopAsyncIteration once the stream is closed and every item has been read,
        ListenKeyUnavailable as UserDataStream does, and RuntimeError before the stream is entered.
        """
        if self._thread.ident is None:
            raise RuntimeError("a stream is open inside of `with` only")
        return self._stream.outbox.wait(timeout)

    def __enter__(self) -> Self:
        if self._thread.ident is not None:
            raise RuntimeError("a stream can be entered once: make another")
        self._thread.start()
        self._open.result()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        try:
            return self.get()
        except StopAsyncIteration:
            raise StopIteration from None

    def _serve(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001 - raised in the bot's thread: this one has no caller
            if not self._open.done():
                self._open.set_exception(error)
            self._stream.outbox.end(error)

    async def _live(self) -> None:
        async with self._stream:
            self._open.set_result(None)
            await self._stream.closed()
