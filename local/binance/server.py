"""The REST side of the Binance stand-in: HTTP/1.1 around an Exchange.

Owns sockets, threads and bad deliveries (hang, drip, reset, truncate). exchange.py decides what is answered.
Not built on http.server: its header parser alone costs more time than everything here, and it looks up the
host's name when it binds.
"""

import contextlib
import socket
import socketserver
import ssl
import struct
import threading
from http import HTTPStatus
from typing import Any, Self

from local.binance.exchange import Answer, Exchange

_RST_ON_CLOSE = struct.pack("ii", 1, 0)
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_LONGEST_LINE = 65536


class _Handler(socketserver.StreamRequestHandler):
    server: "_Server"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()  # in this thread, so that other clients can connect meanwhile
        while self._one_request():
            pass

    def _one_request(self) -> bool:
        """Read and answer one request. Return whether the connection stays open."""
        words = self.rfile.readline(_LONGEST_LINE).decode("latin-1").split()
        if len(words) != 3:
            return False
        method, path, version = words
        headers: dict[str, str] = {}
        while True:
            line = self.rfile.readline(_LONGEST_LINE).decode("latin-1")
            if not line.endswith("\n"):
                return False  # the client went away in the middle of the request
            if not line.strip():
                break
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self.rfile.read(int(headers.get("content-length", 0)))
        answer = self.server.exchange.handle(method, path, headers, self.client_address[0])
        # A chunked body is not read, so no request after it can be read either.
        last = headers.get("connection", "").lower() == "close" or "transfer-encoding" in headers
        return self._send(answer, head=method == "HEAD") and version == "HTTP/1.1" and not last

    def _send(self, answer: Answer, head: bool) -> bool:
        stopping = self.server.stopping
        if answer.transport == "hang":
            stopping.wait()
            return False
        if answer.transport == "drip":
            for byte in _wire(answer, head):
                self.connection.sendall(bytes((byte,)))
                if stopping.wait(answer.delay):
                    return False
            return True
        if answer.delay and stopping.wait(answer.delay):
            return False
        if answer.transport == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            # Close before socketserver does, which would send a FIN first.
            self.rfile.close()
            self.connection.close()
            return False
        self.connection.sendall(_wire(answer, head))
        return answer.transport == "plain"


def _wire(answer: Answer, head: bool) -> bytes:
    body, length = answer.body, len(answer.body)
    if answer.transport == "truncate":
        body, length = body[: length // 2], max(length, 1)
    lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, '')}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines += [f"Content-Length: {length}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + (b"" if head else body)


class _Server(socketserver.TCPServer):
    request_queue_size = 256

    def __init__(self, exchange: Exchange, ssl_context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.exchange = exchange
        self.ssl_context = ssl_context
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.connections: dict[socket.socket, threading.Thread] = {}

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = self.socket.accept()
        if self.ssl_context:
            connection = self.ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    # Not ThreadingMixIn: it keeps no list of its daemon threads, and `stop` has to wait for them.
    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self._serve, args=(request, client_address), daemon=True)
        with self.lock:
            self.connections[request] = thread
        thread.start()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client left, or stop() ended the connection
        finally:
            with self.lock:
                # In the lock: otherwise stop() could shut down another connection with the same descriptor.
                self.shutdown_request(request)
                del self.connections[request]

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.stopping.set()
        with self.lock:
            threads = list(self.connections.values())
            for connection in self.connections:
                with contextlib.suppress(OSError):  # the client has already left
                    # The plain socket's method: after an SSLSocket's, its thread would go on reading, but
                    # without TLS.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in threads:
            thread.join(timeout=60)


class BinanceServer:
    """Serves an exchange at a free port of 127.0.0.1, from construction until `stop`.

    `url` is its base URL: https with an `ssl_context`. Delays are in real seconds, whatever the clock of the
    exchange.
    """

    def __init__(
        self, exchange: Exchange | None = None, *, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self.exchange = exchange if exchange is not None else Exchange()
        self._server = _Server(self.exchange, ssl_context)
        self.port = int(self._server.server_address[1])
        self.url = f"{'https' if ssl_context else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new connections, end the open ones, and wait for both. Safe to call twice."""
        if self._thread.is_alive():
            self._server.stop()
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
