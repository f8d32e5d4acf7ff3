"""One websocket. Its URL holds the listenKey: neither the library's log nor its exceptions get out."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import ssl
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from .clock import Clock, within

try:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import InvalidStatus
except ImportError as missing:
    raise ImportError(
        "the stream needs websockets: pip install '.[stream]' in listenkey-keeper's folder", name=missing.name
    ) from None

log = logging.getLogger("listenkey_keeper.stream")
# The library writes URLs and frames at DEBUG, and tracebacks at ERROR. Not one of logging.getLogger's: those
# can be switched on from outside.
_SILENT = logging.Logger("silent", level=logging.CRITICAL + 1)
_OPEN_SECONDS = 10.0
_ANSWER_SECONDS = 20.0
_CLOSE_SECONDS = 1  # real ones: at the end, for the other side's goodbye


class ConnectionFailed(Exception):
    """A websocket could not be opened; the text is the kind of error and never the URL."""


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        """Follow no redirect: the key goes to the host that it is meant for."""
        return exc


@functools.cache
def _tls() -> ssl.SSLContext:
    # Loading the certificates takes tens of ms and a megabyte, which each connection would do again.
    return ssl.create_default_context()


class Connection:
    """An open websocket: an async iterator of its events, which ends when the connection does."""

    def __init__(self, socket: ClientConnection, clock: Clock) -> None:
        self._socket = socket
        self._clock = clock

    @classmethod
    async def open(cls, url: str, clock: Clock) -> Connection:
        """Open a websocket, through the environment's proxy if there is one. Raises ConnectionFailed."""
        opening = asyncio.ensure_future(_open(url))
        try:
            return cls(await within(clock, _OPEN_SECONDS, opening), clock)
        except asyncio.CancelledError:
            opening.add_done_callback(_abort)
            raise
        except InvalidStatus as error:
            why = f"HTTP {error.response.status_code}"
        except Exception as error:  # noqa: BLE001 - of the network, TLS, a proxy, the protocol
            why = type(error).__name__
        # Out of the `except`: the library's error, which may quote the URL, would come along.
        raise ConnectionFailed(why)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        try:
            async for message in self._socket:
                if (event := _event(message)) is not None:
                    yield event
        except Exception as error:  # noqa: BLE001 - closed, or broken: the end of it either way
            log.debug("a connection ended: %s", type(error).__name__)

    async def ping(self) -> datetime | None:
        """Return when a ping was sent that has been answered, or None when no answer comes."""
        sent_at = self._clock.now()
        try:
            await within(self._clock, _ANSWER_SECONDS, self._ping())
        except Exception as error:  # noqa: BLE001 - as above
            log.debug("a ping was not answered: %s", type(error).__name__)
            return None
        return sent_at

    async def _ping(self) -> None:
        await (await self._socket.ping())

    def abort(self) -> None:
        """End the connection at once, without a word."""
        self._socket.transport.abort()

    async def close(self) -> None:
        """End the connection."""
        await self._socket.close()


async def _open(url: str) -> ClientConnection:
    return await _Connect(
        url,
        ssl=_tls() if url.startswith("wss:") else None,
        compression=None,  # events are small, and its buffers are not
        open_timeout=None,
        ping_interval=None,  # `ping` says when it was sent, which is what a gap begins with
        close_timeout=_CLOSE_SECONDS,
        logger=_SILENT,
    )


def _abort(opening: asyncio.Future[ClientConnection]) -> None:
    """Close what was opened in the moment in which nobody wanted it any more."""
    if not opening.cancelled() and not opening.exception():
        opening.result().transport.abort()


def _event(message: str | bytes) -> dict[str, Any] | None:
    """Return the event in a message, out of its envelope; None for what is no event."""
    try:
        event: Any = json.loads(message)
    except ValueError:
        log.warning("a message was not JSON")
        return None
    if isinstance(event, dict) and "data" in event and "e" not in event:
        event = event["data"]
    return event if isinstance(event, dict) and "e" in event else None
