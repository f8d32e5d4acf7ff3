"""The behaviour of Binance's listenKey API: accounts, listenKeys, listeners, weights, bans, injected faults.

Decides what is answered and what is sent to streams. It opens no sockets and never sleeps: server.py and
stream.py do. The clock and the seed are passed in, so that the same requests get the same answers.
"""

import json
import random
import re
import string
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import parse_qsl

from local.binance import orders
from local.binance.limits import WEIGHT_LIMITS, Refusal, Usage, group_of
from local.binance.markets import exchange_info
from local.binance.user_data import Audience, Event, Hear, algo_update, listen_key_expired, order_update

PATHS = {
    "usdm": "/fapi/v1/listenKey",
    "coinm": "/dapi/v1/listenKey",
    "portfolio": "/papi/v1/listenKey",
    "options": "/eapi/v1/listenKey",
}
PRODUCTS = {path: product for product, path in PATHS.items()}
# A Portfolio Margin Pro account uses USDⓈ-M's listenKey, on another route.
_KEY_OF = {"portfolio-pro": "usdm"}
_HOSTS = {path.split("/")[1]: product for product, path in PATHS.items()}

Transport = Literal["plain", "hang", "drip", "reset", "truncate"]
Kind = Literal["answer", "after", "redirect", "hang", "drip", "reset", "truncate"]
_TRANSPORTS: dict[Kind, Transport] = {
    "hang": "hang",
    "drip": "drip",
    "reset": "reset",
    "truncate": "truncate",
}

# "api" is spot. Clients such as python-binance ping it when they start, whatever product they are used for.
_PUBLIC = re.compile(r"/(api|fapi|dapi|papi|eapi)/v\d/(ping|time|exchangeInfo)")
# Requests that ccxt makes by itself once it has a secret: spot's coins and pairs when it loads the markets,
# its positions when it watches orders. The answers are empty. Signatures are not checked, because the
# stand-in knows no secrets.
_EMPTY = re.compile(
    r"/sapi/v1/(capital/config/getall|margin/(isolated/)?allPairs)"
    r"|/(fapi|dapi|papi)/v\d/((um|cm)/)?(leverageBracket|positionRisk)"
)
_API_KEY = re.compile(r"[A-Za-z0-9]{10,128}")
_ALPHABET = string.ascii_letters + string.digits


class Answer(NamedTuple):
    """An HTTP answer. Status 0: nothing is sent (hang, reset). `delay` is in seconds, per byte for drip."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    transport: Transport = "plain"
    delay: float = 0.0


class Request(NamedTuple):
    """A received request with the status of its answer. `at` is the exchange's time in epoch seconds."""

    at: float
    method: str
    path: str
    api_key: str | None
    status: int


def _json(status: int, document: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, json.dumps(document, separators=(",", ":")).encode())


def _error(status: int, code: int, msg: str, headers: Mapping[str, str] | None = None) -> Answer:
    return _json(status, {"code": code, "msg": msg}, headers)


def _too_many(limit: int, retry_after: Mapping[str, str] | None = None) -> Answer:
    msg = f"Too many requests; current limit is {limit} requests per minute. "
    return _error(
        429, -1003, msg + "Please use the websocket for live updates to avoid polling the API.", retry_after
    )


def _banned(until_ms: int, retry_after: Mapping[str, str] | None = None) -> Answer:
    msg = f"Way too much request weight used; IP banned until {until_ms}. "
    return _error(418, -1003, msg + "Please use the websocket for live updates to avoid bans.", retry_after)


def _refused(refusal: Refusal, limit: int) -> Answer:
    retry_after = {"Retry-After": str(refusal.retry_after)}
    if refusal.banned_until is None:
        return _too_many(limit, retry_after)
    return _banned(int(refusal.banned_until * 1000), retry_after)


# Word for word as Binance sends them, including "occured". The first answer with a status is its default.
REAL_ANSWERS: dict[str, Answer] = {
    "extended": _json(200, {"listenKey": "3HBntNTepshgEdjIwSUIBgB9keLyOCg5qv3n6bYAtktG8ejcaW5HXz9Vx1JgIieg"}),
    "empty": _json(200, {}),
    "listen_key_not_found": _error(400, -1125, "This listenKey does not exist."),
    "invalid_api_key": _error(
        401, -2015, "Invalid API-key, IP, or permissions for action, request ip: 203.0.113.7"
    ),
    "api_key_format": _error(401, -2014, "API-key format invalid."),
    "rate_limited": _too_many(2400),
    "ip_banned": _banned(1660090423228),
    "unknown_error": _error(500, -1000, "An unknown error occured while processing the request."),
    "throttled": _error(
        503,
        -1008,
        "Request throttled by system-level protection. "
        "Reduce-only/close-position orders are exempt. Please try again.",
    ),
    "internal_error": _error(503, -1001, "Internal error; unable to process your request. Please try again."),
    "service_unavailable": Answer(503, {"Content-Type": "text/plain"}, b"Service Unavailable."),
    "restricted_location": _error(
        451,
        0,
        "Service unavailable from a restricted location according to 'b. Eligibility' in "
        "https://www.binance.com/en/terms. Please contact customer service if you believe you received this "
        "message in error.",
    ),
    "waf_blocked": Answer(
        403,
        {"Content-Type": "text/html"},
        b"<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD><BODY>"
        b"<H1>403 ERROR</H1><H2>The request could not be satisfied.</H2>Request blocked."
        b"<PRE>Generated by cloudfront (CloudFront)</PRE></BODY></HTML>",
    ),
}
# Only this machine reaches the stand-in, so requests come from this address unless a test gives another.
_NO_SUCH_ORDER = _error(400, -2013, "Order does not exist.")
_HERE = "127.0.0.1"
_NOT_FOUND = Answer(404, {}, b"<html><body><h2>404 Not found</h2></body></html>\n")


@dataclass(eq=False)
class Fault:
    """A fault, as made by `Exchange.fault`. `hits` counts the requests that it has affected."""

    content: Answer | None  # None: the real answer, but badly delivered
    transport: Transport
    delay: float
    effect: bool
    product: str | None
    api_key: str | None
    method: str | None
    times: int | None
    until: float | None
    hits: int = 0

    def clear(self) -> None:
        """End this fault."""
        self.times = 0

    def active(self, now: float) -> bool:
        return (self.times is None or self.hits < self.times) and (self.until is None or now < self.until)

    def meets(self, product: str | None, method: str, api_key: str | None) -> bool:
        return (
            self.product in (None, product)
            and self.method in (None, method)
            and self.api_key in (None, api_key)
        )


class _Lease(NamedTuple):
    listen_key: str
    expires_at: float


class Exchange:
    """Binance's listenKey API. Thread-safe.

    `now` returns epoch seconds, and may run at any speed. `lease_seconds` is how long a listenKey lives.
    `weight_limits` replaces some of Binance's limits (weight per clock minute, by group of hosts); every
    request has weight 1. `coinm_put_answers_key` selects COIN-M's answer to a PUT: with the key, as in the
    SDK of 2026, or {}, as in the documentation of 2025.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.time,
        lease_seconds: float = 3600,
        weight_limits: Mapping[str, int] | None = None,
        seed: int = 0,
        coinm_put_answers_key: bool = True,
    ) -> None:
        self.lease_seconds = lease_seconds
        self.weight_limits = {**WEIGHT_LIMITS, **(weight_limits or {})}
        self.coinm_put_answers_key = coinm_put_answers_key
        self.recent_orders = 500  # how many orders allOrders returns
        self.requests: list[Request] = []
        self.count = 0  # of all requests, even if a test clears `requests`
        self._now = now
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._accounts: dict[str, frozenset[str]] = {}
        self._first_keys: dict[str, str] = {}  # an account's other API keys, each with its first
        self._addresses: dict[str, frozenset[str]] = {}
        self._leases: dict[tuple[str, str], _Lease] = {}
        self._usage = {group: Usage() for group in self.weight_limits}
        self._faults: list[Fault] = []
        self._audiences: dict[str, Audience] = {}
        self._orders: list[tuple[str, str, Event]] = []
        self._numbers = 0  # of orders so far

    def now(self) -> float:
        """Return the exchange's time in epoch seconds."""
        return self._now()

    def add_account(self, api_key: str, products: Iterable[str] = tuple(PATHS)) -> None:
        """Accept an API key for these products, and for no others."""
        with self._lock:
            self._accounts[api_key] = frozenset(products)

    def add_api_key(self, api_key: str, another: str) -> None:
        """Accept an API key as another one of the account: it has the same listenKey and the same orders."""
        with self._lock:
            self._first_keys[api_key] = self._first_key(another)
            self._accounts[api_key] = self._accounts.get(another, frozenset(PATHS))

    def revoke(self, api_key: str) -> None:
        """Answer -2015 to this API key from now on. Its listenKeys live until they expire."""
        with self._lock:
            self._accounts.pop(api_key, None)

    def restrict(self, api_key: str, addresses: Iterable[str]) -> None:
        """Accept this API key and its listenKeys only from these addresses, as an IP restriction does.

        From another address, REST answers -2015, and a websocket receives nothing. Users of one client saw in
        May 2026 that a restriction applies to listenKeys too; Binance does not document that.
        """
        with self._lock:
            self._addresses[api_key] = frozenset(addresses)

    def live_key(self, api_key: str, product: str) -> str | None:
        """Return the listenKey that is live now, or None."""
        with self._lock:
            lease = self._live(api_key, product, self._now())
            return lease.listen_key if lease else None

    def expires_at(self, api_key: str, product: str) -> float | None:
        """Return when the live listenKey expires (epoch seconds), or None if none is live."""
        with self._lock:
            lease = self._live(api_key, product, self._now())
            return lease.expires_at if lease else None

    def is_listening(self, listen_key: str) -> bool:
        """Return whether a websocket that is opened with this listenKey would receive events."""
        with self._lock:
            now = self._now()
            return any(
                lease.listen_key == listen_key and now < lease.expires_at for lease in self._leases.values()
            )

    def weight(self, group: str) -> dict[int, int]:
        """Return the weight used at a group of hosts, by minute (epoch seconds // 60).

        It includes refused requests.
        """
        with self._lock:
            return dict(self._usage[group].weight)

    def expire(self, api_key: str, product: str) -> None:
        """Forget the listenKey now, as if its hour were over."""
        with self._lock:
            self._leases.pop((self._first_key(api_key), _KEY_OF.get(product, product)), None)
            self._notice_expired()

    def rotate(self, api_key: str, product: str) -> str:
        """Close the listenKey and create another, as a second process would. Return the new one."""
        with self._lock:
            self._notice_expired()
            product = _KEY_OF.get(product, product)
            self._close(api_key, product)
            return self._start(api_key, product, self._now()).listen_key

    def emit_order(self, api_key: str, product: str = "usdm", **fields: object) -> int:
        """Create or change an order, and return its number. The live listenKey's listeners get the event.

        `fields` replace those of the event's `o`. With an `i`, the order with this number changes. Orders are
        numbered from 1, whether or not anyone listens.
        """
        with self._lock:
            if "i" not in fields:
                self._numbers += 1
            number = int(str(fields.get("i", self._numbers)))
            self._order(api_key, product, order_update(product, self._now(), number, fields))
            return number

    def emit_algo_order(self, api_key: str, **fields: object) -> int:
        """Do the same as `emit_order` for a take-profit order of USDⓈ-M, whose number is `aid`."""
        with self._lock:
            if "aid" not in fields:
                self._numbers += 1
            number = int(str(fields.get("aid", self._numbers)))
            self._order(api_key, "usdm", algo_update(self._now(), number, fields))
            return number

    def emit(self, api_key: str, product: str, event: Event) -> None:
        """Send any other event to the listeners of the live listenKey."""
        with self._lock:
            self._notice_expired()
            self._emit(api_key, product, event, self._now())

    def orders(self, api_key: str, product: str = "usdm") -> list[int]:
        """Return the numbers of an account's orders, oldest first."""
        with self._lock:
            events = self._events(api_key, product)
            return list(dict.fromkeys(event["o"]["i"] for event in events if "i" in event["o"]))

    def _events(self, api_key: str, product: str) -> list[Mapping[str, Any]]:
        account = self._first_key(api_key), product
        return [event for who, what, event in self._orders if (who, what) == account]

    def listen(
        self, listen_key: str, products: Iterable[str], hear: Hear, address: str = _HERE
    ) -> Callable[[], None]:
        """Call `hear` with each event of a listenKey's account until the key dies.

        Return a function that ends it. `hear` is called in the order of the events and must not block. It is
        never called if the key is dead, belongs to none of `products`, or may not be used from this address.
        """
        with self._lock:
            self._notice_expired()
            now = self._now()
            for (api_key, product), lease in self._leases.items():
                alive = lease.listen_key == listen_key and now < lease.expires_at
                if alive and product in products and self._may_use(api_key, address):
                    hears = self._audiences.setdefault(listen_key, Audience(api_key, product)).hears
                    hears.append(hear)
                    return lambda: self._leave(listen_key, hear)
        return lambda: None

    def listeners(self, listen_key: str) -> int:
        """Return how many listeners a listenKey has. Those of an expired key count until that is noticed."""
        with self._lock:
            audience = self._audiences.get(listen_key)
            return len(audience.hears) if audience else 0

    def notice_expired(self) -> None:
        """Send listenKeyExpired to the listeners of expired listenKeys, once.

        Without this call, it is sent at the next event.
        """
        with self._lock:
            self._notice_expired()

    def fault(
        self,
        kind: Kind = "answer",
        *,
        answer: Answer | None = None,
        status: int | None = None,
        code: int | None = None,
        msg: str | None = None,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        product: str | None = None,
        api_key: str | None = None,
        method: str | None = None,
        times: int | None = None,
        until: float | None = None,
        delay: float = 0.0,
        effect: bool = False,
    ) -> Fault:
        """Make requests that match `product`, `api_key` and `method` fail. The oldest matching fault applies.

        With the `kind` "answer", a failed request changes nothing at Binance; with "after", it takes effect
        and then fails. `effect` makes it take effect with any other kind too (a reset whose PUT counted).
        "drip" and "truncate" deliver the real answer unless another is given.

        `answer` is one of REAL_ANSWERS. If it is None, the parts that are not given (`status`, `code`, `msg`,
        `body`, `headers`) come from the real answer with this status and code.

        The fault ends after `times` requests, at `until` (epoch seconds), or with `Fault.clear`. `delay` is
        in seconds. Every request costs its weight, whatever the fault. Raises ValueError for an unknown kind
        or product.
        """
        if kind not in get_args(Kind) or product not in (None, *PATHS):
            raise ValueError(f"no such fault: {kind!r} for {product!r}")
        given = any(part is not None for part in (answer, status, code, msg, body))
        content: Answer | None = None
        if kind == "redirect":
            content = Answer(status or 307, headers or {}, _bytes(body or b""))
        elif given or kind in ("answer", "after"):
            content = answer or _canned(status, code, msg)
            content = content._replace(
                status=content.status if status is None else status,
                body=content.body if body is None else _bytes(body),
                # the content type of the real answer does not apply to a body that the test gives
                headers={**(content.headers if body is None else {}), **(headers or {})},
            )
        elif kind in ("hang", "reset"):
            content = Answer(0, {}, b"")
        fault = Fault(
            content,
            _TRANSPORTS.get(kind, "plain"),
            delay,
            effect or kind == "after" or content is None,
            product,
            api_key,
            method,
            times,
            until,
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """End all faults. Bans and used weight stay."""
        with self._lock:
            self._faults.clear()

    def handle(self, method: str, path: str, headers: Mapping[str, str], address: str = _HERE) -> Answer:
        """Answer a request from an address. The query is used only for orders, and the body never."""
        path, _, query = path.partition("?")
        api_key = next((value for name, value in headers.items() if name.lower() == "x-mbx-apikey"), None)
        host = path.split("/", 2)[1] if path.startswith("/") else ""
        with self._lock:
            now = self._now()
            used = self._usage[group_of(host)].spend(now)
            fault = self._next_fault(now, _HOSTS.get(host), method, api_key)
            answer = _NOT_FOUND
            if fault is None or fault.effect:
                answer = self._real(method, path, query, api_key, group_of(host), now, address)
            if fault:
                answer = (fault.content or answer)._replace(transport=fault.transport, delay=fault.delay)
            self.count += 1
            self.requests.append(Request(now, method, path, api_key, answer.status))
            return answer._replace(
                headers={
                    "Content-Type": "application/json" if answer.body[:1] in (b"{", b"[") else "text/html",
                    "X-MBX-USED-WEIGHT-1M": str(used),
                    **answer.headers,
                }
            )

    def _next_fault(self, now: float, product: str | None, method: str, api_key: str | None) -> Fault | None:
        if not self._faults:
            return None
        self._faults = [fault for fault in self._faults if fault.active(now)]
        for fault in self._faults:
            if fault.meets(product, method, api_key):
                fault.hits += 1
                return fault
        return None

    def _real(
        self, method: str, path: str, query: str, api_key: str | None, group: str, now: float, address: str
    ) -> Answer:
        refusal = self._usage[group].refusal(now, self.weight_limits[group])
        if refusal:
            return _refused(refusal, self.weight_limits[group])
        product, asked = PRODUCTS.get(path), path in orders.PATHS or _EMPTY.fullmatch(path)
        if product is None and not asked:
            return self._public(method, path, now)
        if method not in (("GET",) if asked else ("POST", "PUT", "DELETE")):
            return _error(404, -5000, f"Path {path}, Method {method} is invalid")
        if api_key is None or not _API_KEY.fullmatch(api_key):
            return REAL_ANSWERS["api_key_format"]
        products = self._accounts.get(api_key, frozenset())
        if not (product in products or (asked and products)) or not self._may_use(api_key, address):
            msg = f"Invalid API-key, IP, or permissions for action, request ip: {address}"
            return _error(401, -2015, msg)
        if product:
            return self._listen_key(method, api_key, product, now)
        if path not in orders.PATHS:
            return Answer(200, {}, b"[]")
        events = self._events(api_key, "usdm")
        found = orders.answer(path, dict(parse_qsl(query)), events, self.recent_orders)
        return _NO_SUCH_ORDER if found is None else Answer(200, {}, json.dumps(found).encode())

    def _public(self, method: str, path: str, now: float) -> Answer:
        found = _PUBLIC.fullmatch(path)
        if not found or method not in ("GET", "HEAD"):
            return _NOT_FOUND
        if found[2] == "ping":
            return _json(200, {})
        now_ms = int(now * 1000)
        if found[2] == "time":
            return _json(200, {"serverTime": now_ms})
        return _json(200, exchange_info(found[1], now_ms, self.weight_limits[group_of(found[1])]))

    def _listen_key(self, method: str, api_key: str, product: str, now: float) -> Answer:
        lease = self._live(api_key, product, now)
        if method == "POST":
            lease = self._start(api_key, product, now, lease)
            answer: dict[str, object] = {"listenKey": lease.listen_key}
            if product == "options":
                answer["expiration"] = int(lease.expires_at * 1000)
            return _json(200, answer)
        if lease is None:
            return REAL_ANSWERS["listen_key_not_found"]
        if method == "DELETE":
            self._close(api_key, product)
            return _json(200, {})
        self._start(api_key, product, now, lease)
        told = product == "usdm" or (product == "coinm" and self.coinm_put_answers_key)
        return _json(200, {"listenKey": lease.listen_key} if told else {})

    def _may_use(self, api_key: str, address: str) -> bool:
        return address in self._addresses.get(api_key, (address,))

    def _close(self, api_key: str, product: str) -> None:
        """End a listenKey before it expires. Its listeners get no listenKeyExpired, which is for expiry."""
        lease = self._leases.pop((self._first_key(api_key), product), None)
        if lease:
            self._audiences.pop(lease.listen_key, None)

    def _leave(self, listen_key: str, hear: Hear) -> None:
        with self._lock:
            audience = self._audiences.get(listen_key)
            if audience and hear in audience.hears:
                audience.hears.remove(hear)
                if not audience.hears:
                    del self._audiences[listen_key]

    def _notice_expired(self) -> None:
        now = self._now()
        for listen_key, audience in list(self._audiences.items()):
            lease = self._live(audience.api_key, audience.product, now)
            if lease is None or lease.listen_key != listen_key:
                del self._audiences[listen_key]
                audience.tell(listen_key_expired(audience.product, now, listen_key))

    def _order(self, api_key: str, product: str, event: Event) -> None:
        self._notice_expired()
        self._orders.append((self._first_key(api_key), product, event))
        self._emit(api_key, product, event, self._now())

    def _emit(self, api_key: str, product: str, event: Event, now: float) -> None:
        lease = self._live(api_key, product, now)
        audience = self._audiences.get(lease.listen_key) if lease else None
        if audience:
            audience.tell(event)

    def _live(self, api_key: str, product: str, now: float) -> _Lease | None:
        lease = self._leases.get((self._first_key(api_key), _KEY_OF.get(product, product)))
        return lease if lease and now < lease.expires_at else None

    def _start(self, api_key: str, product: str, now: float, live: _Lease | None = None) -> _Lease:
        listen_key = live.listen_key if live else "".join(self._random.choices(_ALPHABET, k=64))
        lease = _Lease(listen_key, now + self.lease_seconds)
        self._leases[self._first_key(api_key), product] = lease
        return lease

    def _first_key(self, api_key: str) -> str:
        return self._first_keys.get(api_key, api_key)


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else body


def _canned(status: int | None, code: int | None, msg: str | None) -> Answer:
    """Return the real answer with this status and code, or one made up in the same form."""
    if msg is None:
        if status is None and code is None:
            return REAL_ANSWERS["unknown_error"]
        for real in REAL_ANSWERS.values():
            if status in (None, real.status) and (code is None or f'"code":{code},'.encode() in real.body):
                return real
        if code is None:
            return Answer(status or 500, {}, b"")
    return _error(status or 400, -1000 if code is None else code, msg or "")
