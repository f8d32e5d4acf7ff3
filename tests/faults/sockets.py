"""Servers that misbehave as no HTTP server would: bare sockets on 127.0.0.1, one thread a connection."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, Self

from tests.waiting import SECONDS

RST_ON_CLOSE = struct.pack("ii", 1, 0)
Talk = Callable[[socket.socket], None]


def read_request(connection: socket.socket) -> bytes:
    """Return a request's head, which is all of it here; empty when the client has gone."""
    head = b""
    while b"\r\n\r\n" not in head:
        if not (piece := connection.recv(65536)):
            return b""
        head += piece
    return head


def reset(connection: socket.socket) -> None:
    """Close with a reset instead of a goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    connection.close()


class BareServer:
    """Accepts, and lets `talk` do the rest; from construction until the end of the `with` block."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.ended = threading.Event()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return len(self._connections)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the client left, or the test is over
            self._talk(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join(SECONDS)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SECONDS)


class BlackHole:
    """A port that answers no connection attempt, neither yes nor no: its queue is full and stays so."""

    def __init__(self) -> None:
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(0)
        self._address = self._listening.getsockname()
        self.url = f"http://127.0.0.1:{self._address[1]}"
        self._filling: list[socket.socket] = []

    def __enter__(self) -> Self:
        # The kernel lets a few in beyond the queue's length.
        for _ in range(16):
            filler = socket.socket()
            filler.settimeout(0.1)
            self._filling.append(filler)
            try:
                filler.connect(self._address)
            except TimeoutError:
                return self
        raise AssertionError("the port goes on accepting")

    def __exit__(self, *_: object) -> None:
        for filler in self._filling:
            filler.close()
        self._listening.close()


def read_whole(connection: socket.socket) -> tuple[dict[str, str], bytes, bytes]:
    """Return a request's fields in lower case, its head and its body; no fields if the client has gone."""
    head, _, body = read_request(connection).partition(b"\r\n\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    while len(body) < int(fields.get("content-length", 0)):
        body += connection.recv(65536)
    return fields, head, body


def passed_on(port: int, head: bytes, body: bytes) -> bytes:
    """Return what a server on this port answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as server:
        server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
        answer = b""
        while piece := server.recv(65536):
            answer += piece
    return answer


class Forwarder(BareServer):
    """A small TCP proxy: passes each request on to a port, and leaves the answer to `deliver`.

    It gets the number of the request, from 0, the client's connection and the answer.
    """

    def __init__(self, port: int, deliver: Callable[[int, socket.socket, bytes], None]) -> None:
        self._port = port
        self._deliver = deliver
        self._lock = threading.Lock()
        self.forwarded = 0
        super().__init__(self._pass_on)

    def _pass_on(self, client: socket.socket) -> None:
        while (request := read_whole(client))[0]:
            with self._lock:
                number, self.forwarded = self.forwarded, self.forwarded + 1
            self._deliver(number, client, passed_on(self._port, *request[1:]))


class Loser(BareServer):
    """A proxy of AWS that loses the answers to `times` requests that `match` by operation and body.

    Where it `hangs`, the client's connection stays open.
    """

    def __init__(
        self, url: str, match: Callable[[str, Any], bool], times: int = 1, hangs: bool = False
    ) -> None:
        self._port = int(url.rpartition(":")[2])
        self._match, self._hangs = match, hangs
        self.left = times
        super().__init__(self._pass_on)

    def _pass_on(self, client: socket.socket) -> None:
        fields, head, body = read_whole(client)
        if not fields:
            return
        answer = passed_on(self._port, head, body)
        if not self.left or not self._match(fields["x-amz-target"].partition(".")[2], json.loads(body)):
            client.sendall(answer)
            return
        self.left -= 1
        if self._hangs:
            self.ended.wait(120)
