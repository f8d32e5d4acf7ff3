"""One websocket. Its URL contains the listenKey, so the websockets library's logs and errors stay in here."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from .clock import Clock, within

try:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import InvalidStatus
    from websockets.frames import DATA_OPCODES
except ImportError as missing:
    raise ImportError(
        "the stream needs websockets: pip install '.[stream]' in listenkey-keeper's folder", name=missing.name
    ) from None

log = logging.getLogger("listenkey_keeper.stream")
# The library logs URLs and frames at DEBUG, and tracebacks at ERROR. A logger from logging.getLogger could be
# switched on from outside; this one cannot.
_SILENT = logging.Logger("silent", level=logging.CRITICAL + 1)
_OPEN_SECONDS = 10.0
_ANSWER_SECONDS = 10.0
_CLOSE_SECONDS = 1  # by the machine's clock: how long to wait for the other side's close frame
_BANNED_SECONDS = 120.0  # HTTP 418 without Retry-After: Binance's shortest ban


class ConnectionFailed(Exception):
    """A websocket could not be opened. The text is the kind of error, never the URL.

    `retry_after` is how many seconds the server wants us to wait before the next attempt, or None if it did
    not say.
    """

    def __init__(self, why: str, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class _Socket(ClientConnection):
    """Calls back for each message as it arrives. The library's own interface wakes a task for each."""

    chunks = 0  # how many pieces of data have arrived

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._early: list[bytes] = []
        self._parts: list[bytes] = []
        self._hear: Callable[[bytes], None] = self._early.append
        self._gone: Callable[[], None] = lambda: None
        self._over = False

    def listen(self, hear: Callable[[bytes], None], gone: Callable[[], None]) -> None:
        self._hear, self._gone = hear, gone
        for message in self._early:
            hear(message)
        self._early = []
        if self._over:
            gone()

    def data_received(self, data: bytes) -> None:
        self.chunks += 1
        super().data_received(data)

    def process_event(self, event: Any) -> None:
        if self.response is None or event.opcode not in DATA_OPCODES:
            super().process_event(event)
        elif event.fin and not self._parts:
            self._hear(bytes(event.data))
        else:
            self._parts.append(bytes(event.data))
            if event.fin:
                message, self._parts = b"".join(self._parts), []
                self._hear(message)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._over = True
        self._gone()
        self._hear, self._gone = _nobody, _nobody


def _nobody(*_: object) -> None:
    """Do nothing. Replaces the callbacks after the listener was told that the connection is over."""


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        """Follow no redirect, so that the key is sent only to the host it is meant for."""
        return exc


@functools.cache
def _tls() -> ssl.SSLContext:
    # Loading the certificates takes tens of ms and a megabyte: once for all connections.
    return ssl.create_default_context()


class Connection:
    """An open websocket."""

    def __init__(self, socket: _Socket, clock: Clock) -> None:
        self._socket = socket
        self._clock = clock
        self._paused = False

    @classmethod
    async def open(cls, url: str, clock: Clock) -> Connection:
        """Open a websocket, through the environment's proxy if one is set.

        Raises ConnectionFailed, also if it takes longer than 10 s.
        """
        opening = asyncio.ensure_future(_open(url))
        retry_after = None
        try:
            return cls(await within(clock, _OPEN_SECONDS, opening), clock)
        except asyncio.CancelledError:
            opening.add_done_callback(_abort)
            raise
        except InvalidStatus as error:
            status = error.response.status_code
            why = f"HTTP {status}"
            retry_after = _seconds(error.response.headers.get("Retry-After"))
            if status == 418 and retry_after is None:
                retry_after = _BANNED_SECONDS
        except Exception as error:  # noqa: BLE001 - of the network, TLS, a proxy, the protocol
            why = type(error).__name__
        # Outside the `except`: the library's error, which may quote the URL, must not become its context.
        raise ConnectionFailed(why, retry_after)

    def listen(self, hear: Callable[[bytes], None], gone: Callable[[], None]) -> None:
        """Call `hear` for each message, including those that arrived before this call.

        Call `gone` once, when the connection is over.
        """
        self._socket.listen(hear, gone)

    @property
    def ending(self) -> str:
        """How the connection was closed: the code and at most 100 characters of the reason.

        Long words in the reason are replaced by "...", because one could be a key.
        """
        code, reason = self._socket.close_code, self._socket.close_reason
        reason = re.sub(r"[\w-]{20,}", "...", "".join(c for c in reason or "" if c.isprintable()))
        return f"close code {code}" + (f", {reason[:100]}" if reason else "")

    async def ping(self) -> bool:
        """Send a ping, and return whether it is answered.

        Waits 10 s for the answer, and another 10 s whenever data arrived meanwhile or reading is paused.
        """
        pinging = asyncio.ensure_future(self._ping())
        try:
            while True:
                chunks = self._socket.chunks
                try:
                    await within(self._clock, _ANSWER_SECONDS, asyncio.shield(pinging))
                    return True
                except TimeoutError:
                    # Data that arrives before the answer is a sign of life: there may be a long backlog.
                    if chunks == self._socket.chunks and not self._paused:
                        return False
        except Exception as error:  # noqa: BLE001 - closed, or broken
            log.debug("a ping was not answered: %s", type(error).__name__)
            return False
        finally:
            pinging.cancel()

    async def _ping(self) -> None:
        await (await self._socket.ping())

    def pause(self) -> None:
        """Stop reading, so that the network holds the data back. Allowed on a closed connection too."""
        self._paused = True
        self._socket.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        self._socket.transport.resume_reading()

    def abort(self) -> None:
        """Close the connection at once, without a close frame."""
        self._socket.transport.abort()

    async def close(self) -> None:
        """Close the connection with a close frame, and wait up to a second for the other side's."""
        await self._socket.close()


async def _open(url: str) -> _Socket:
    opened = await _Connect(
        url,
        ssl=_tls() if url.startswith("wss:") else None,
        compression=None,  # events are small, and compression needs large buffers
        open_timeout=None,
        ping_interval=None,  # `Line` pings: it needs the time at which each ping was sent
        close_timeout=_CLOSE_SECONDS,
        logger=_SILENT,
        create_connection=_Socket,
    )
    return cast(_Socket, opened)


def _abort(opening: asyncio.Future[_Socket]) -> None:
    """Close a socket whose opening finished just as it was cancelled."""
    if not opening.cancelled() and not opening.exception():
        opening.result().transport.abort()


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for. It holds seconds or a date; None if neither."""
    try:
        if not retry_after or retry_after.strip().isdecimal():
            return float(retry_after) if retry_after else None
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
