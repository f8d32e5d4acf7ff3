"""UserDataStream for code without asyncio."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from datetime import datetime
from typing import Self

from .changes import ListenKeyChanges
from .clock import Clock
from .gaps import Gap
from .keys import ListenKeys
from .outbox import Event
from .user_data import UserDataStream


class SyncUserDataStream:
    """UserDataStream as an iterator, inside `with`; the same arguments, items and errors.

        with SyncUserDataStream("alice") as stream:
            for event in stream:
                print(event)

    The sockets live in a thread of their own, so that they are read and answered while the bot is busy. For
    hundreds of accounts take UserDataStream, which needs no thread each.
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
        self._stream = UserDataStream(account, table, since=since, changes=changes, clock=clock)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._open: Future[asyncio.AbstractEventLoop] = Future()
        self._closing = asyncio.Event()

    def __repr__(self) -> str:
        return repr(self._stream).replace("<", "<Sync", 1)

    @property
    def account(self) -> str:
        """The account whose events these are."""
        return self._stream.account

    @property
    def alive(self) -> bool:
        """Whether events are heard, as far as is known: a socket is open, on a key whose hour is not over."""
        return self._stream.alive

    @property
    def expires_at(self) -> datetime | None:
        """Until when the key lives, as last read from the table: aware UTC, None before the first reading."""
        return self._stream.expires_at

    def wake(self) -> None:
        """Look at the table now. Safe to call from any thread."""
        self._stream.wake()

    def get(self, timeout: float | None = None) -> Event | Gap:
        """Return the next item. Raises TimeoutError when none comes within `timeout` seconds."""
        if not self._open.done():
            raise RuntimeError("a stream is open inside of `with` only")
        loop, outbox = self._open.result(), self._stream.outbox
        if not self._thread.is_alive():
            return outbox.take()
        ready = asyncio.run_coroutine_threadsafe(outbox.ready(), loop)
        try:
            ready.result(timeout)
        finally:
            ready.cancel()
        # Taken here and not in the loop: a timeout or Ctrl-C cannot come between an item and its taker.
        return outbox.take()

    def __enter__(self) -> Self:
        self._thread.start()
        self._open.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.result().call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event | Gap:
        try:
            return self.get()
        except StopAsyncIteration:
            raise StopIteration from None

    def _serve(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        async with self._stream:
            self._open.set_result(asyncio.get_running_loop())
            await self._closing.wait()
