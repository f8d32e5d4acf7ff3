"""Turns Binance's answers (status, headers and body) into an Answer or an AccountError."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ..errors import Blocked, ErrorCode, ListenKeyNotFound, RateLimited, Refused, Rejected, Transient

MAX_BODY = 64 * 1024  # bytes, after decompression; a real answer has under 200
MAX_RETRY_AFTER = 3600.0  # seconds; a longer one is ignored

# The outcome is lost or unknown: PUT and POST may be repeated.
_TRANSIENT_CODES = {-1000, -1001, -1006, -1007, -1008, -1016}
_KEY_CODES = {-2014, -2015, -1002, -2008, -2017, -4109, -1011, -1099}
_LISTEN_KEY = re.compile(r"[\x21-\x7e]{1,256}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_-]{24,}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200. `listen_key` is None if it has none; `used_weight` is that of the IP address in this minute."""

    sent_at: datetime
    listen_key: str | None = field(repr=False)
    used_weight: int | None = None


def read_answer(status: int, headers: Mapping[str, str], body: bytes, sent_at: datetime) -> Answer:
    """Return a 200 as an Answer; raise the AccountError that any other answer means.

    Only the status and Binance's code decide: the text differs from the documentation and changes.
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
        raise Refused(ErrorCode.IP_BANNED, f"Binance banned this IP address for a while ({said})", status)
    if status == 403:
        firewall = f"Binance's firewall blocks this request or this IP address ({said})"
        raise Blocked(ErrorCode.WAF_BLOCKED, firewall, status)
    if status == 451:
        location = f"Binance does not serve this location ({said})"
        raise Refused(ErrorCode.RESTRICTED_LOCATION, location, status)
    if status == 429 or code == -1003:
        limit = f"Binance's rate limit for this IP address is reached ({said})"
        raise RateLimited(limit, _retry_after(headers), status)
    if code == -1125:
        none = f"Binance has no live listenKey for this account ({said})"
        raise ListenKeyNotFound(ErrorCode.LISTEN_KEY_NOT_FOUND, none, status)
    if status == 408 or status >= 500 or code in _TRANSIENT_CODES:
        unable = f"Binance could not process the request ({said}{_text(content)})"
        raise Transient(ErrorCode.SERVER_ERROR, unable, status)
    if status == 401 or code in _KEY_CODES:
        none = "says it is no API key: copy it again, not the secret"
        what = none if code == -2014 else "refused the API key"
        refused = f"Binance {what} ({said}{_text(content)})"
        raise Rejected(ErrorCode.INVALID_API_KEY, refused, status)
    if 400 <= status < 500:
        bad = f"Binance refused the request ({said}{_text(content)})"
        raise Rejected(ErrorCode.BAD_REQUEST, bad, status)
    raise Transient(ErrorCode.BAD_RESPONSE, f"Binance's answer makes no sense ({said})", status)


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
    raise Transient(ErrorCode.BAD_RESPONSE, "Binance's answer makes no sense (HTTP 200)", 200)


def _text(content: object) -> str:
    """Return Binance's message, shortened and without credentials. It can name the IP address it saw."""
    text = content.get("msg") if isinstance(content, dict) else None
    if not isinstance(text, str):
        return ""
    return ": " + _CREDENTIAL.sub("***", "".join(c for c in text if c.isprintable()))[:160]


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,9}", text) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    seconds = _number(headers.get("Retry-After"))
    return max(1.0, seconds) if seconds is not None and seconds <= MAX_RETRY_AFTER else None
