"""The wire: PUT and POST of a listenKey, and what the answers mean. No AWS, no pace, no retry of a fault.

https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from ..errors import AccountError, HostRefused, ListenKeyNotFound, RateLimited, Rejected, Transient
from ..products import PRODUCTS
from .transport import BoundedAdapter, Timeouts, last_socket_was_reused

MAX_BODY = 64 * 1024  # bytes, after decompression; a real answer has under 200
IP_WEIGHT_LIMIT = 2400  # a minute and an IP address, all API keys together
MAX_RETRY_AFTER = 3600.0  # seconds; a longer one is taken for nonsense

# Lost or unknown outcomes: PUT and POST may be repeated.
_TRANSIENT_CODES = {-1000, -1001, -1006, -1007, -1008, -1016}
_KEY_CODES = {-2014, -2015, -1002, -2008, -2017, -4109, -1011, -1099}
_LISTEN_KEY = re.compile(r"[\x21-\x7e]{1,256}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_-]{24,}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200. `listen_key` is None where the answer held none; `used_weight` is the IP's in this minute."""

    sent_at: datetime
    listen_key: str | None = field(repr=False)
    used_weight: int | None = None


class BinanceClient:
    """Start and keep alive listenKeys. Shared by all workers of all runs.

    Proxies and the CA bundle are read from the environment here, once: `requests` would on every request.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        base_url: str = "",
        timeouts: Timeouts | None = None,
        pool_size: int = 16,
    ) -> None:
        self._now = now
        self._base_url = base_url
        self._timeouts = timeouts or Timeouts()
        self._adapter = BoundedAdapter(self._timeouts, pool_size)
        session = requests.Session()
        self._environment: dict[str, Any] = {
            product: session.merge_environment_settings(self.host_of(product), {}, True, None, None)
            for product in PRODUCTS
        }
        session.trust_env = False  # nor a netrc's Authorization header
        self._prepared = {
            (method, product): session.prepare_request(
                requests.Request(method, self.host_of(product) + PRODUCTS[product].path)
            )
            for method in ("PUT", "POST")
            for product in PRODUCTS
        }

    def host_of(self, product: str) -> str:
        """Return the scheme and host that serve a product."""
        return self._base_url or PRODUCTS[product].host

    def forget_idle_connections(self) -> None:
        """Close idle connections: after the minutes between two runs they are dead, or about to be."""
        self._adapter.forget_idle_connections()

    def keepalive(self, product: str, api_key: str) -> Answer:
        """PUT: extend the account's listenKey by 60 minutes. Weight 1.

        `listen_key` is the key that was extended; None for the products that answer {}.
        Raises an AccountError: ListenKeyNotFound, Rejected, Transient, HostRefused or RateLimited.
        """
        return self._request("PUT", product, api_key)

    def start(self, product: str, api_key: str) -> Answer:
        """POST: return the account's live listenKey and extend it by 60 minutes, or create one. Weight 1.

        Raises an AccountError, as `keepalive` does; an answer without a key is Transient.
        """
        answer = self._request("POST", product, api_key)
        if answer.listen_key is None:
            raise Transient("BAD_RESPONSE", "Binance answered POST without a listenKey", 200)
        return answer

    def _request(self, method: str, product: str, api_key: str) -> Answer:
        sent_at = self._now()
        answered = self._exchange(method, product, api_key)
        if isinstance(answered, requests.ConnectionError) and last_socket_was_reused():
            # The server had closed a kept-alive connection: not a fault of this request, and the other
            # idle ones are as old. Once more, on a new connection.
            self._adapter.forget_idle_connections()
            sent_at = self._now()
            answered = self._exchange(method, product, api_key)
        if not isinstance(answered, tuple):
            # Raised outside the except block: the client's own exception holds the request and its
            # headers, and would come along as the context.
            raise _connection_trouble(answered)
        status, headers, body = answered
        return read_answer(status, headers, body, sent_at, urlsplit(self.host_of(product)).hostname or "")

    def _exchange(
        self, method: str, product: str, api_key: str
    ) -> tuple[int, Mapping[str, str], bytes] | Exception:
        request = self._prepared[method, product].copy()
        request.headers["X-MBX-APIKEY"] = api_key
        try:
            # By the adapter itself: a session would add cookies, hooks and redirects, none wanted here.
            response = self._adapter.send(
                request,
                timeout=(self._timeouts.connect, self._timeouts.read),
                **self._environment[product],
            )
            body = b""
            while chunk := response.raw.read1(MAX_BODY + 1, decode_content=True):
                body += chunk
                if len(body) > MAX_BODY:
                    break
            if len(body) > MAX_BODY:
                response.raw.close()
        except Exception as error:  # noqa: BLE001 - urllib3's and zlib's come through unwrapped while reading
            return error
        return response.status_code, response.headers, body


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, sent_at: datetime, host: str = ""
) -> Answer:
    """Return a 200 as an Answer; raise what any other answer means.

    By status and Binance's code alone: the text differs from the documentation and changes.
    https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code
    """
    content = _json(body)
    code = content.get("code") if isinstance(content, dict) else None
    if not isinstance(code, int) or isinstance(code, bool):
        code = None
    said = f"HTTP {status}" + (f", code {code}" if code is not None else "")
    if status == 200 and code in (None, 0, 200):
        return Answer(sent_at, _listen_key(content), _number(headers.get("X-MBX-USED-WEIGHT-1M")))
    if status == 418:
        raise HostRefused("IP_BANNED", f"Binance banned this IP address for a while ({said})", status)
    if status == 429:
        raise RateLimited(
            f"Binance's rate limit for this IP address is reached ({said})", _retry_after(headers)
        )
    if status == 403:
        raise HostRefused("WAF_BLOCKED", "Binance's firewall blocks this IP address (HTTP 403)", status)
    if status == 451:
        raise HostRefused(
            "RESTRICTED_LOCATION",
            "Binance does not serve this location (HTTP 451): deploy to another region",
            status,
        )
    if code == -1125:
        raise ListenKeyNotFound(
            "LISTEN_KEY_NOT_FOUND", f"Binance has no live listenKey for this account ({said})", status
        )
    if code == -1003:
        raise RateLimited(
            f"Binance's rate limit for this IP address is reached ({said})", _retry_after(headers), status
        )
    if status == 408 or status >= 500 or code in _TRANSIENT_CODES:
        raise Transient(
            "SERVER_ERROR", f"Binance could not process the request ({said}{_text(content)})", status
        )
    if status == 401 or code in _KEY_CODES:
        raise Rejected(
            "INVALID_API_KEY",
            "Binance refused the API key: check that it is right, may use futures, and that its "
            f"IP restriction lets this function in ({said}{_text(content)})",
            status,
        )
    if 400 <= status < 500:
        hint = f": does {host} serve this product?" if status == 404 else ""
        raise Rejected("BAD_REQUEST", f"Binance refused the request{hint} ({said}{_text(content)})", status)
    raise Transient("BAD_RESPONSE", f"Binance's answer makes no sense ({said})", status)


def _connection_trouble(error: Exception) -> AccountError:
    name = type(error).__name__
    if isinstance(error, requests.Timeout | TimeoutError) or "Timeout" in name:
        return Transient("TIMEOUT", f"Binance did not answer in time ({name})")
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError | OSError):
        return Transient("CONNECTION", f"no connection to Binance ({name})")
    return Transient("BAD_RESPONSE", f"Binance's answer could not be read ({name})")


def _json(body: bytes) -> object:
    try:
        return json.loads(body) if len(body) <= MAX_BODY else None
    except (ValueError, RecursionError):
        return None


def _listen_key(content: object) -> str | None:
    if isinstance(content, dict):
        key = content.get("listenKey")
        if key is None and "listenKey" not in content:
            return None
        if isinstance(key, str) and _LISTEN_KEY.fullmatch(key):
            return key
    raise Transient("BAD_RESPONSE", "Binance's answer makes no sense (HTTP 200)", 200)


def _text(content: object) -> str:
    """Return Binance's own words, shortened and without credentials: they name the IP address it saw."""
    text = content.get("msg") if isinstance(content, dict) else None
    if not isinstance(text, str):
        return ""
    return ": " + _CREDENTIAL.sub("***", "".join(c for c in text if c.isprintable()))[:160]


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,9}", text) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    seconds = _number(headers.get("Retry-After"))
    return float(seconds) if seconds is not None and 0 < seconds <= MAX_RETRY_AFTER else None
