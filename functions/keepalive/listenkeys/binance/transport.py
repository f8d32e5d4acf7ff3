"""An HTTP session that always ends: for a request, `requests` bounds only the wait for the next byte.

A server that sends one byte a second satisfies a read timeout for ever. Here the whole answer, its
status line and headers too, has a deadline. It is real time: sockets know no other.
"""

import http.client
import io
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

_sending = threading.local()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect (an address), for the next byte, and for the whole answer."""

    connect: float = 3.0
    read: float = 5.0
    total: float = 10.0


class _TimedReader(io.RawIOBase):
    def __init__(self, raw: Any, sock: socket.socket, timeouts: Timeouts) -> None:
        self._raw = raw
        self._sock = sock
        self._read = timeouts.read
        self._deadline = time.monotonic() + timeouts.total

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long as a whole")
        if left < self._read:  # until then the connection's own timeout is the nearer one
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class BoundedAdapter(HTTPAdapter):
    """A transport adapter whose answers have a deadline, and which knows a used connection from a new one."""

    def __init__(self, timeouts: Timeouts, pool_size: int) -> None:
        class Response(http.client.HTTPResponse):
            def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
                super().__init__(sock, *args, **kwargs)
                self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock, timeouts))

        class Marked:
            response_class = Response
            used = False

            def request(self, *args: Any, **kwargs: Any) -> None:
                _sending.reused = self.used
                self.used = True
                super().request(*args, **kwargs)  # type: ignore[misc]

        class Http(Marked, urllib3.connection.HTTPConnection):  # type: ignore[misc]
            pass

        class Https(Marked, urllib3.connection.HTTPSConnection):  # type: ignore[misc]
            pass

        class HttpPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Http

        class HttpsPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Https

        self._pools: dict[str, Any] = {}
        self._pool_classes = {"http": HttpPool, "https": HttpsPool}
        super().__init__(pool_connections=4, pool_maxsize=pool_size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pool_classes
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        _sending.reused = False
        return super().send(request, *args, **kwargs)

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> Any:
        # Finding the host's pool anew is a tenth of a request's work.
        pool = self._pools.get(str(request.url))
        if pool is None:
            pool = super().get_connection_with_tls_context(request, *args, **kwargs)
            self._pools[str(request.url)] = pool
        return pool

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        # What is read of an answer; requests would parse its cookies and guess its encoding as well.
        response = requests.Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        return response

    def forget_idle_connections(self) -> None:
        """Close every idle connection; those in use end as they would."""
        self._pools.clear()
        self.poolmanager.clear()
        for manager in self.proxy_manager.values():
            manager.clear()


def last_socket_was_reused() -> bool:
    """Say whether this thread's last request went out on a connection that had served another."""
    return bool(getattr(_sending, "reused", False))
