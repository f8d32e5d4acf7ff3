"""A server between the handler and AWS or Binance. Each process has its own port, to identify the sender.

`respond` decides what happens to a request. It returns the bytes of the answer, or None to break the
connection. Requests to AWS are forwarded to DynamoDB Local or moto, those to Binance to the stand-in.
"""

from __future__ import annotations

import http.client
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from chaos.timekeeper import Timekeeper

_RST_ON_CLOSE = struct.pack("ii", 1, 0)
_NOT_PASSED_ON = {"connection", "transfer-encoding", "content-length", "server", "date"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it was received."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def operation(self) -> str:
        """AWS's operation, such as "DynamoDB.Scan" (without the version). "" for a request to Binance."""
        service, _, operation = self.headers.get("x-amz-target", "").partition(".")
        return f"{service.split('_')[0]}.{operation}" if operation else ""

    @property
    def key(self) -> str:
        """A text that identifies the request among those that wait."""
        key = self.headers.get("x-mbx-apikey", "")
        return f"{self.operation} {self.method} {self.path} {key} {self.body.decode(errors='replace')}"

    @property
    def document(self) -> Any:
        """The body, parsed as JSON."""
        return json.loads(self.body)


class Last(bytes):
    """An answer after which the connection is closed."""


Respond = Callable[[Request], bytes | None]


def answer(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the bytes of an HTTP answer."""
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


def aws_error(code: str, status: int = 400, **more: object) -> bytes:
    """Return the bytes of an error answer of AWS's JSON services."""
    document = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "chaos", **more}
    return answer(status, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(document).encode())


class Upstream:
    """A server to which requests are forwarded, with one connection per thread."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._thread = threading.local()

    def ask(self, request: Request, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """Forward a request, with another body if one is given. Return status, headers and body."""
        body = request.body if body is None else body
        headers = {name: value for name, value in request.headers.items() if name not in _NOT_PASSED_ON}
        for last in (False, True):
            connection = getattr(self._thread, "connection", None)
            if connection is None:
                connection = self._thread.connection = http.client.HTTPConnection(self._host, timeout=60)
            try:
                connection.request(request.method, request.path, body, {**headers, "host": self._host})
                response = connection.getresponse()
                found = {n.lower(): v for n, v in response.getheaders() if n.lower() not in _NOT_PASSED_ON}
                # The checksum is that of the original answer, which may be changed on the way.
                found.pop("x-amz-crc32", None)
                return response.status, found, response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self._thread.connection = None
                if last:
                    raise
        raise AssertionError


class _Connection(socketserver.StreamRequestHandler):
    server: Wire
    disable_nagle_algorithm = True

    def handle(self) -> None:
        own = threading.get_native_id()
        self.server.threads[own] = None
        self.server.timekeeper.arriving(-1)
        try:
            self._serve()
        finally:
            del self.server.threads[own]

    def _serve(self) -> None:
        with suppress(OSError):
            while request := self._request():
                with self.server.timekeeper.turn((self.server.number, request.key)):
                    found = self.server.respond(request)
                    if found is None:
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
                        self.rfile.close()
                        self.connection.close()
                        return
                    self.connection.sendall(found)
                    if isinstance(found, Last):
                        return

    def _request(self) -> Request | None:
        words = self.rfile.readline().decode("latin-1").split()
        headers: dict[str, str] = {}
        while len(words) == 3 and (line := self.rfile.readline().decode("latin-1")).endswith("\n"):
            if not line.strip():
                body = self.rfile.read(int(headers.get("content-length", 0)))
                return Request(words[0], words[1], headers, body)
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return None


class Wire(socketserver.ThreadingTCPServer):
    """Serves a free port of 127.0.0.1 until `stop`. `threads` has the native ids of its threads."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, number: int, timekeeper: Timekeeper, respond: Respond) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.number, self.timekeeper = number, timekeeper
        self.respond = respond
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.threads: dict[int, None] = {}
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        assert self._thread.native_id
        self.threads[self._thread.native_id] = None

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection."""
        self.timekeeper.arriving(1)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: clients that are killed cause errors here."""

    def stop(self) -> None:
        """Stop accepting connections."""
        self.shutdown()
        self.server_close()
        self._thread.join()
