"""The wire: PUT and POST of a listenKey. No AWS, no pacing, no retries.

https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import requests
import urllib3

from ..errors import AccountError, ErrorCode, Transient
from ..products import ENDPOINTS
from .answers import MAX_BODY, Answer, read_answer
from .transport import BoundedAdapter, Timeouts, tls_context

_WireError = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class BinanceClient:
    """Start and keep alive listenKeys. Shared by all workers of all runs."""

    def __init__(
        self,
        now: Callable[[], datetime],
        base_url: str = "",
        timeouts: Timeouts | None = None,
        pool_size: int = 16,
        stream_url: str = "",
    ) -> None:
        self._now = now
        self._base_url = base_url
        self._stream_url = stream_url
        self._timeouts = timeouts or Timeouts()
        self._session = requests.Session()
        self._proxies: dict[str, Any] = {}
        verify: bool | str | None = True
        for name in ENDPOINTS:
            merged = self._session.merge_environment_settings(self.host_of(name), {}, True, None, None)
            self._proxies[name], verify = merged["proxies"], merged["verify"]
        # Only the context gets to know the CA bundle: told of it, urllib3 reads it for each connection.
        adapter = BoundedAdapter(self._timeouts, pool_size, tls_context(verify))
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._session.trust_env = False  # nor a netrc's Authorization header
        self._prepared = {
            (method, name): self._session.prepare_request(
                requests.Request(method, self.host_of(name) + endpoint.path)
            )
            for method in ("PUT", "POST")
            for name, endpoint in ENDPOINTS.items()
        }

    def host_of(self, endpoint: str) -> str:
        """Return the scheme and host that serve an endpoint, by its name in ENDPOINTS."""
        return self._base_url or ENDPOINTS[endpoint].host

    def stream_of(self, endpoint: str) -> str:
        """Return the scheme and host of its streams; empty if they are not Binance's and not known."""
        return self._stream_url or ("" if self._base_url else ENDPOINTS[endpoint].stream)

    def forget_idle_connections(self) -> None:
        """Close idle connections: after the minutes between two runs they are dead, or about to be."""
        self._session.close()

    def keepalive(self, endpoint: str, api_key: str) -> Answer:
        """PUT: extend the account's listenKey by 60 minutes. Weight 1.

        `listen_key` is the key that was extended; None for the products that answer {}.
        Raises an AccountError: ListenKeyNotFound, Rejected, Transient, Refused, Blocked or RateLimited.
        """
        return self._request("PUT", endpoint, api_key)

    def start(self, endpoint: str, api_key: str) -> Answer:
        """POST: return the live listenKey, extended by 60 minutes, or a new one. Weight 1. As `keepalive`."""
        answer = self._request("POST", endpoint, api_key)
        if answer.listen_key is None:
            raise Transient(ErrorCode.BAD_RESPONSE, "Binance answered POST without a listenKey", 200)
        return answer

    def _request(self, method: str, endpoint: str, api_key: str) -> Answer:
        sent_at = self._now()
        try:
            status, headers, body = self._exchange(method, endpoint, api_key)
        except _WireError as error:
            trouble = _connection_trouble(error)
        else:
            return read_answer(status, headers, body, sent_at)
        # Raised outside the except block: the client's own exception holds the request and its headers, and
        # would come along as the context.
        raise trouble

    def _exchange(self, method: str, endpoint: str, api_key: str) -> tuple[int, Mapping[str, str], bytes]:
        request = self._prepared[method, endpoint].copy()
        request.headers["X-MBX-APIKEY"] = api_key
        with self._session.send(
            request,
            timeout=(self._timeouts.connect, self._timeouts.read),
            allow_redirects=False,
            stream=True,
            proxies=self._proxies[endpoint],
        ) as response:
            body: bytes = response.raw.read(MAX_BODY + 1, decode_content=True)
            return response.status_code, response.headers, body


def _connection_trouble(error: Exception) -> AccountError:
    name = type(error).__name__
    if isinstance(error, requests.Timeout | TimeoutError) or "Timeout" in name:
        return Transient(ErrorCode.TIMEOUT, f"Binance did not answer in time ({name})")
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError | OSError) and not (
        isinstance(error, requests.exceptions.ContentDecodingError)
    ):
        return Transient(ErrorCode.CONNECTION, f"no connection to Binance ({name})")
    return Transient(ErrorCode.BAD_RESPONSE, f"Binance's answer could not be read ({name})")
