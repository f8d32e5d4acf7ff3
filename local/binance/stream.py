"""The websocket side of the Binance stand-in: a listenKey opens a stream of its account's events.

Owns sockets and routes. exchange.py decides which listener receives which event. As at Binance, a connection
opens with any key: with a dead one, or on the route of another product, it receives nothing.
"""

from __future__ import annotations

import contextlib
import http
import json
import logging
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Self, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from local.binance.exchange import Exchange
from local.binance.user_data import Event

# The stand-in is all hosts at once, so a route has the products of every host with this route. USDⓈ-M left
# /ws on 2026-04-23: a connection there receives nothing. COIN-M's documentation names both.
_ROUTES: dict[str, set[str]] = {
    "": {"coinm"},
    "/private": {"usdm", "coinm", "options"},
    "/pm": {"portfolio"},
    "/pm-classic": {"usdm"},
    # Routes for market data, which Binance's SDK opens too. The stand-in has no market data.
    "/public": set(),
    "/market": set(),
}
# Portfolio Margin Pro's events arrive on its own route only, and no others but listenKeyExpired arrive there.
_PRO_EVENTS = {"RISK_LEVEL_CHANGE", "PM_PRO_ACCOUNT_UPDATE"}
_PATH = re.compile(rf"({'|'.join(_ROUTES)})/(ws|stream)(?:/([^/]+))?")
_LONGEST_CONNECTION = 86400.0  # "a single connection is only valid for 24 hours"
_PING_INTERVAL = 180.0
_PING_TIMEOUT = 600.0
_TICK = 0.02
# Disabled: a client that leaves without a close frame is normal, and DEBUG lines contain the listenKey.
_logger = logging.getLogger("local.binance.stream")
_logger.disabled = True


def _wanted(target: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each listenKey in a URL with the events that it asks for. An empty set means all events."""
    url = urlsplit(target)
    found = _PATH.fullmatch(url.path)
    if found and found[3]:
        yield unquote(found[3]), frozenset()
    listen_key, events = "", frozenset[str]()
    # `events` applies to the `listenKey` before it.
    for name, value in parse_qsl(url.query):
        if name == "streams":
            yield from ((key, frozenset[str]()) for key in value.split("/"))
        elif name == "events":
            events = frozenset(value.split("/"))
        elif name == "listenKey":
            if listen_key:
                yield listen_key, events
            listen_key, events = value, frozenset()
    if listen_key:
        yield listen_key, events


class _Connection:
    """One websocket: the listenKeys it has joined, and the messages that wait to be sent."""

    def __init__(
        self, socket: ServerConnection, server: StreamServer, target: str, route: str, mode: str
    ) -> None:
        self.socket = socket
        self.opened_at = server.exchange.now()
        self._exchange = server.exchange
        self._address = str(socket.remote_address[0])
        self._products = _ROUTES[route]
        self._pro = route == "/pm-classic"
        self._combined = mode == "stream"
        self._outbox: SimpleQueue[str | None] = SimpleQueue()
        self._leave: dict[str, Callable[[], None]] = {}
        for listen_key, events in _wanted(target):
            unheard = {"usdm"} if server.events_required and not events else set()
            self._join(listen_key, events, self._products - unheard)

    def run(self) -> None:
        """Send events and answer requests until the client leaves."""
        sender = threading.Thread(target=self._send, daemon=True)
        sender.start()
        try:
            for message in self.socket:
                self._answer(json.loads(message))
        except (ConnectionClosed, ValueError):
            pass  # a client that does not send JSON is disconnected
        finally:
            self.leave()
            self._outbox.put(None)
            sender.join()

    def leave(self) -> None:
        """Leave all listenKeys. Safe to call twice, also from two threads at once."""
        with contextlib.suppress(KeyError):  # popitem raises it when nothing is left
            while True:
                self._leave.popitem()[1]()

    def _join(self, listen_key: str, events: frozenset[str], products: set[str]) -> None:
        def hear(product: str, event: Event) -> None:
            if events and event["e"] not in events:
                return
            if event["e"] != "listenKeyExpired" and (event["e"] in _PRO_EVENTS) != self._pro:
                return
            # According to the documentation of options, their events are in the envelope on every route.
            enveloped = self._combined or product == "options"
            self._put({"stream": listen_key, "data": event} if enveloped else event)

        if listen_key not in self._leave:
            self._leave[listen_key] = self._exchange.listen(listen_key, products, hear, self._address)

    def _answer(self, request: dict[str, Any]) -> None:
        method, params = request.get("method"), request.get("params") or []
        result: list[str] | None = None
        if method == "SUBSCRIBE":
            for listen_key in params:
                self._join(listen_key, frozenset(), self._products)
        elif method == "UNSUBSCRIBE":
            for listen_key in params:
                self._leave.pop(listen_key, lambda: None)()
        elif method == "LIST_SUBSCRIPTIONS":
            result = list(self._leave)
        else:
            error = {"code": 2, "msg": f"Invalid request: unknown variant {method}"}
            self._put({"error": error, "id": request.get("id")})
            return
        self._put({"result": result, "id": request.get("id")})

    def _put(self, message: Event) -> None:
        self._outbox.put(json.dumps(message, separators=(",", ":")))

    def _send(self) -> None:
        # In its own thread: a client that does not read must not block the exchange.
        with contextlib.suppress(ConnectionClosed):
            while (text := self._outbox.get()) is not None:
                self.socket.send(text)


class _Socket(ServerConnection):
    """Calls `gone` when it is closed: the handler never runs for a client that leaves in the handshake."""

    gone: Callable[[], None] = staticmethod(lambda: None)

    def close_socket(self) -> None:
        super().close_socket()
        self.gone()


class StreamServer:
    """Serves an exchange's user data streams at a free port of 127.0.0.1, from construction until `stop`.

    `url` is the base URL, to which a route is added: `url + "/private/ws?listenKey=..."`. With `ssl_context`
    it uses TLS.

    While `events_required` is True, a USDⓈ-M listenKey in a URL without `events` receives nothing. Some users
    of Binance report that, and others do not (unicorn-binance-websocket-api #446, go-binance #812). While
    `down` is True, a new connection is answered with 503. Both may be set at any time.
    """

    def __init__(
        self,
        exchange: Exchange,
        events_required: bool = False,
        *,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.exchange = exchange
        self.events_required = events_required
        self.down = False
        self._connections: dict[ServerConnection, _Connection] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = serve(
            self._serve, "127.0.0.1", 0, ssl=ssl_context, process_request=self._look, compression=None,
            server_header=None, create_connection=_Socket,
            ping_interval=_PING_INTERVAL, ping_timeout=_PING_TIMEOUT, close_timeout=1, logger=_logger,
        )  # fmt: skip
        self.port = int(self._server.socket.getsockname()[1])
        self.url = f"{'wss' if ssl_context else 'ws'}://127.0.0.1:{self.port}"
        self._threads = [
            threading.Thread(target=self._server.serve_forever, daemon=True),
            threading.Thread(target=self._tick, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def connections(self) -> int:
        """How many websockets are open."""
        with self._lock:
            return len(self._connections)

    def drop_connections(self) -> None:
        """End all connections without a close frame, as a broken network does."""
        for socket in self._sockets():
            socket.close_socket()

    def close_connections(self) -> None:
        """Close all connections with a close frame, as Binance does after a day."""
        for socket in self._sockets():
            socket.close()

    def stop(self) -> None:
        """Refuse new connections, close the open ones, and wait for both. Safe to call twice."""
        self._stopping.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()

    def _sockets(self) -> list[ServerConnection]:
        with self._lock:
            return list(self._connections)

    def _look(self, socket: ServerConnection, request: Request) -> Response | None:
        """Refuse a path that is not a stream. Join the listenKeys before the socket is open."""
        found = _PATH.fullmatch(urlsplit(request.path).path)
        if not found:
            return socket.respond(http.HTTPStatus.NOT_FOUND, "404 Not found\n")
        if self.down:
            return socket.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "Service Unavailable.")
        with self._lock:
            self._connections[socket] = _Connection(socket, self, request.path, found[1], found[2])
        cast(_Socket, socket).gone = lambda: self._forget(socket)
        return None

    def _serve(self, socket: ServerConnection) -> None:
        with self._lock:
            connection = self._connections.get(socket)
        if connection:
            connection.run()

    def _forget(self, socket: ServerConnection) -> None:
        with self._lock:
            connection = self._connections.pop(socket, None)
        if connection:
            connection.leave()

    def _tick(self) -> None:
        """Handle what happens only because time passes: listenKeys that expire, connections a day old."""
        while not self._stopping.wait(_TICK):
            self.exchange.notice_expired()
            now = self.exchange.now()
            with self._lock:
                old = [s for s, c in self._connections.items() if now - c.opened_at >= _LONGEST_CONNECTION]
            for socket in old:
                socket.close()
