"""Binance's API: PUT and POST of a listenKey. No AWS, no pacing, no retries.

https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from ..errors import ErrorCode, Transient
from ..products import ENDPOINTS
from ..timing import Timeouts
from .answers import Answer, read_answer


class BinanceClient:
    """Starts listenKeys and keeps them alive. All threads of all runs share it."""

    def __init__(
        self,
        now: Callable[[], datetime],
        base_url: str = "",
        timeouts: Timeouts | None = None,
        pool_size: int = 16,
        stream_url: str = "",
    ) -> None:
        # Imported here: a sweep that finds nothing to do needs neither requests nor the CA bundle.
        from .transport import Transport

        self._now, self._base_url, self._stream_url = now, base_url, stream_url
        self._urls = {name: self.host_of(name) + endpoint.path for name, endpoint in ENDPOINTS.items()}
        self._transport = Transport(self._urls.values(), pool_size, timeouts or Timeouts())

    def host_of(self, endpoint: str) -> str:
        """Return the scheme and host that serve an endpoint, by its name in ENDPOINTS."""
        return self._base_url or ENDPOINTS[endpoint].host

    def stream_of(self, endpoint: str) -> str:
        """Return the scheme and host of an endpoint's streams; empty if only the REST host was replaced."""
        return self._stream_url or ("" if self._base_url else ENDPOINTS[endpoint].stream)

    def forget_idle_connections(self) -> None:
        """Close idle connections: after the minutes between two runs they are dead or soon will be."""
        self._transport.close_idle()

    def keepalive(self, endpoint: str, api_key: str) -> Answer:
        """PUT: extend the account's listenKey by 60 minutes. Weight 1.

        `listen_key` is the key that was extended; None for the products that answer {}.
        Raises an AccountError: ListenKeyNotFound, Rejected, Transient, Refused, Blocked or RateLimited.
        """
        return self._request("PUT", endpoint, api_key)

    def start(self, endpoint: str, api_key: str) -> Answer:
        """POST: extend and return the live listenKey, or create one. Weight 1. Raises as `keepalive` does."""
        answer = self._request("POST", endpoint, api_key)
        if answer.listen_key is None:
            raise Transient(ErrorCode.BAD_RESPONSE, "Binance answered POST without a listenKey", 200)
        return answer

    def _request(self, method: str, endpoint: str, api_key: str) -> Answer:
        sent_at = self._now()
        return read_answer(*self._exchange(method, endpoint, api_key), sent_at)

    def _exchange(self, method: str, endpoint: str, api_key: str) -> tuple[int, Mapping[str, str], bytes]:
        return self._transport.exchange(method, self._urls[endpoint], api_key)
