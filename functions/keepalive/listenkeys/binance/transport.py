"""An HTTP transport that always ends: for a request, `requests` bounds only the wait for the next byte.

A server that sends one byte a second never runs into a read timeout. Here the whole answer, its
status line and headers too, has a deadline, in real time as a socket's timeouts are.
"""

import http.client
import io
import os
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any

import certifi
import urllib3
from requests.adapters import HTTPAdapter

from ..timing import CONNECT, READ, WHOLE_ANSWER


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect (an address), for the next byte, and for the whole answer."""

    connect: float = CONNECT
    read: float = READ
    total: float = WHOLE_ANSWER


def tls_context(verify: bool | str | None) -> ssl.SSLContext:
    """Return the TLS settings for all connections: parsing the CA bundle costs as much as many requests."""
    bundle = verify if isinstance(verify, str) else certifi.where()
    if os.path.isdir(bundle):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)


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
    """A transport adapter whose answers have a deadline, and whose connections share one TLS context."""

    def __init__(self, timeouts: Timeouts, pool_size: int, context: ssl.SSLContext) -> None:
        class Response(http.client.HTTPResponse):
            def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
                super().__init__(sock, *args, **kwargs)
                self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock, timeouts))

        def timed(pool: type[urllib3.HTTPConnectionPool]) -> type[urllib3.HTTPConnectionPool]:
            connection = type("Connection", (pool.ConnectionCls,), {"response_class": Response})
            return type("Pool", (pool,), {"ConnectionCls": connection})

        pools = {"http": urllib3.HTTPConnectionPool, "https": urllib3.HTTPSConnectionPool}
        self._pool_classes = {scheme: timed(pool) for scheme, pool in pools.items()}
        self._context = context
        super().__init__(pool_connections=4, pool_maxsize=pool_size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(
            *args, ssl_context=self._context, proxy_ssl_context=self._context, **kwargs
        )
        manager.pool_classes_by_scheme = self._pool_classes
        return manager

    def cert_verify(self, *_: Any) -> None:
        """Leave the pool as it is: the context verifies, and has its CA bundle already."""
