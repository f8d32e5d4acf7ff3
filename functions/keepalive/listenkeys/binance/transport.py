"""HTTP with a deadline for the whole answer: `requests` limits only the wait for the next byte.

A server that sends one byte a second never causes a read timeout. Here the whole answer, with its
status line and headers, has a deadline, in real time as a socket's timeouts are.
"""

import http.client
import io
import os
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import default_headers, get_environ_proxies
from urllib3.exceptions import HTTPError, ProtocolError

from ..errors import AccountError, ErrorCode, Transient
from ..timing import Timeouts
from .answers import MAX_BODY


class Transport:
    """Sends PUT and POST to these URLs, with the proxies and the CA bundle that the environment names."""

    def __init__(self, urls: Iterable[str], pool_size: int, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        # No Session: it would look for cookies in each answer, and send a netrc's Authorization header.
        # Only the TLS context has the CA bundle: if urllib3 had it too, it would read it for each connection.
        self._adapter = BoundedAdapter(timeouts, pool_size, tls_context())
        self.close_idle = self._adapter.close
        self._proxies = {url: get_environ_proxies(url) for url in urls}
        self._prepared = {
            (method, url): requests.Request(method, url, default_headers()).prepare()
            for method in ("PUT", "POST")
            for url in self._proxies
        }

    def exchange(self, method: str, url: str, api_key: str) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request; return status, headers and body (at most MAX_BODY + 1 bytes). Raises Transient."""
        request = self._prepared[method, url].copy()
        request.headers["X-MBX-APIKEY"] = api_key
        try:
            with self._adapter.send(
                request,
                stream=True,
                timeout=(self._timeouts.connect, self._timeouts.read),
                proxies=self._proxies[url],
            ) as response:
                body: bytes = response.raw.read(MAX_BODY + 1, decode_content=True)
                return response.status_code, response.headers, body
        except (OSError, HTTPError) as error:  # all of requests' errors are OSErrors
            trouble = _connection_trouble(error)
        # Raised outside the except block: its context would be an exception that holds the request's headers.
        raise trouble


def _connection_trouble(error: Exception) -> AccountError:
    name = type(error).__name__
    if "Timeout" in name:
        return Transient(ErrorCode.TIMEOUT, f"Binance did not answer in time ({name})")
    if isinstance(error, HTTPError) and not isinstance(error, ProtocolError):
        return Transient(ErrorCode.BAD_RESPONSE, f"Binance's answer could not be read ({name})")
    return Transient(ErrorCode.CONNECTION, f"no connection to Binance ({name})")


def tls_context() -> ssl.SSLContext:
    """Return a TLS context with the CA bundle of `requests`, to be shared: it is expensive to parse."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where()
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
        if left < self._read:  # until then the connection's own timeout comes first
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
        super().__init__(max_retries=0)
        self.init_poolmanager(4, pool_size, ssl_context=context)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(
            *args, ssl_context=self._context, proxy_ssl_context=self._context, **kwargs
        )
        manager.pool_classes_by_scheme = self._pool_classes
        return manager

    def cert_verify(self, *_: Any) -> None:
        """Change nothing: the TLS context verifies certificates, and already has the CA bundle."""
