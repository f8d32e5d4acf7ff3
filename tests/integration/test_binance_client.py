"""The Binance client over real sockets: what it sends, what it makes of answers, what it never waits for."""

from __future__ import annotations

import gzip
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listenkeys.binance.client import BinanceClient
from listenkeys.binance.transport import Timeouts
from listenkeys.errors import AccountError, ListenKeyNotFound, Rejected, Transient
from listenkeys.products import ENDPOINTS
from local.binance.exchange import PATHS, Answer, Exchange
from local.binance.server import BinanceServer
from local.clock import VirtualClock
from tests.certificates import self_signed

KEY = "CANARYapikeyCANARYapikeyCANARYapikey"
SHORT = Timeouts(connect=1.0, read=0.15, total=0.4)


@pytest.fixture
def server(clock: VirtualClock) -> Iterator[BinanceServer]:
    with BinanceServer(Exchange(now=clock.timestamp)) as made:
        made.exchange.add_account(KEY)
        yield made


@pytest.fixture
def client(server: BinanceServer, clock: VirtualClock) -> Iterator[BinanceClient]:
    made = BinanceClient(clock.now, server.url)
    yield made
    made.forget_idle_connections()


@pytest.fixture
def hasty(server: BinanceServer, clock: VirtualClock) -> Iterator[BinanceClient]:
    """A client that gives up soon."""
    made = BinanceClient(clock.now, server.url, SHORT)
    yield made
    made.forget_idle_connections()


def trouble(client: BinanceClient, product: str = "usdm") -> AccountError:
    """Send a PUT that fails; whatever comes of it must not hold the key."""
    with pytest.raises(AccountError) as raised:
        client.keepalive(product, KEY)
    error = raised.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert KEY not in "".join(traceback.format_exception(error)) + repr(vars(error))
    return error


def test_every_endpoint_has_the_hosts_and_the_path_that_binance_documents() -> None:
    found = {name: f"{e.host}{e.path} {e.stream} {e.group}" for name, e in ENDPOINTS.items()}
    demo, testnet = "https://demo-fapi.binance.com", "https://testnet.binancefuture.com"
    assert found == {
        "usdm": "https://fapi.binance.com/fapi/v1/listenKey wss://fstream.binance.com futures",
        "coinm": "https://dapi.binance.com/dapi/v1/listenKey wss://dstream.binance.com futures",
        "portfolio": "https://papi.binance.com/papi/v1/listenKey wss://fstream.binance.com portfolio",
        "portfolio-pro": "https://fapi.binance.com/fapi/v1/listenKey wss://fstream.binance.com futures",
        "options": "https://eapi.binance.com/eapi/v1/listenKey wss://fstream.binance.com options",
        "demo-usdm": f"{demo}/fapi/v1/listenKey wss://demo-fstream.binance.com demo-futures",
        "demo-coinm": "https://demo-dapi.binance.com/dapi/v1/listenKey wss://demo-dstream.binance.com "
        "demo-futures",
        "demo-options": f"{demo}/eapi/v1/listenKey wss://demo-fstream.binance.com demo-options",
        "testnet-usdm": f"{testnet}/fapi/v1/listenKey wss://fstream.binancefuture.com testnet-futures",
        "testnet-coinm": f"{testnet}/dapi/v1/listenKey wss://dstream.binancefuture.com testnet-futures",
        "testnet-options": f"{testnet}/eapi/v1/listenKey wss://fstream.binancefuture.com testnet-options",
    }
    assert PATHS.items() <= {name: endpoint.path for name, endpoint in ENDPOINTS.items()}.items()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_base_url_replaces_every_host_and_leaves_no_stream_to_guess(
    endpoint: str, clock: VirtualClock
) -> None:
    elsewhere = BinanceClient(clock.now, "https://proxy")
    assert (elsewhere.host_of(endpoint), elsewhere.stream_of(endpoint)) == ("https://proxy", "")
    both = BinanceClient(clock.now, "https://proxy", stream_url="wss://streams")
    assert both.stream_of(endpoint) == "wss://streams"
    binance = BinanceClient(clock.now)
    assert binance.host_of(endpoint) == ENDPOINTS[endpoint].host
    assert binance.stream_of(endpoint) == ENDPOINTS[endpoint].stream


@pytest.mark.parametrize(
    ("product", "coinm_tells", "put_tells"),
    [
        ("usdm", True, True),
        ("coinm", True, True),
        ("coinm", False, False),
        ("portfolio", True, False),
        ("options", True, False),
    ],
    ids=["usdm", "coinm 2026", "coinm 2025", "portfolio", "options"],
)
def test_a_listen_key_is_started_and_kept_alive(
    server: BinanceServer,
    client: BinanceClient,
    clock: VirtualClock,
    product: str,
    coinm_tells: bool,
    put_tells: bool,
) -> None:
    server.exchange.coinm_put_answers_key = coinm_tells

    started = client.start(product, KEY)
    clock.advance(minutes=30)
    kept = client.keepalive(product, KEY)

    listen_key = server.exchange.live_key(KEY, product)
    assert started.listen_key == listen_key
    assert kept.listen_key == (listen_key if put_tells else None)
    assert (kept.sent_at - started.sent_at).total_seconds() == 1800
    assert kept.used_weight == 1  # another minute
    assert server.exchange.expires_at(KEY, product) == clock.timestamp() + 3600
    assert [(r.method, r.path, r.api_key) for r in server.exchange.requests] == [
        ("POST", PATHS[product], KEY),
        ("PUT", PATHS[product], KEY),
    ]


class Recording(Exchange):
    """An exchange that keeps each request as it came."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    def handle(self, method, path, headers, *where):  # type: ignore[no-untyped-def]
        self.seen.append((method, path, dict(headers)))
        return super().handle(method, path, headers, *where)


def test_a_request_is_the_key_in_a_header_and_nothing_else(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password CANARYpassword\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    exchange = Recording()
    exchange.add_account(KEY)

    with BinanceServer(exchange) as server:
        client = BinanceClient(clock.now, server.url)
        client.start("usdm", KEY)
        client.forget_idle_connections()

    [(method, path, headers)] = exchange.seen
    assert (method, path, headers["x-mbx-apikey"]) == ("POST", "/fapi/v1/listenKey", KEY)
    assert "authorization" not in headers
    assert headers.get("content-length", "0") == "0"


def test_an_unknown_listen_key_is_told_apart(client: BinanceClient) -> None:
    assert isinstance(trouble(client), ListenKeyNotFound)


def test_a_key_that_binance_does_not_know_is_rejected(server: BinanceServer, client: BinanceClient) -> None:
    server.exchange.revoke(KEY)

    error = trouble(client)

    assert isinstance(error, Rejected)
    assert (error.code, error.http_status) == ("INVALID_API_KEY", 401)


def test_a_post_without_a_key_in_its_answer_is_a_failure(
    server: BinanceServer, client: BinanceClient
) -> None:
    server.exchange.fault(status=200, body="{}")

    with pytest.raises(Transient, match="answered POST without a listenKey") as raised:
        client.start("usdm", KEY)

    assert raised.value.code == "BAD_RESPONSE"


def test_a_compressed_answer_is_read(server: BinanceServer, client: BinanceClient) -> None:
    body = gzip.compress(b'{"listenKey":"compressed"}')
    server.exchange.fault(status=200, body=body, headers={"Content-Encoding": "gzip"})

    assert client.keepalive("usdm", KEY).listen_key == "compressed"


HUGE = b'{"listenKey":"' + b"k" * 200_000 + b'"}'
BOMB = gzip.compress(b"\0" * 50_000_000)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "hang"}, "TIMEOUT"),
        ({"kind": "drip", "delay": 0.02}, "TIMEOUT"),
        ({"kind": "drip", "delay": 0.02, "status": 503}, "TIMEOUT"),
        ({"kind": "reset"}, "CONNECTION"),
        ({"kind": "truncate"}, "CONNECTION"),
        ({"status": 200, "body": "not JSON"}, "BAD_RESPONSE"),
        ({"status": 200, "body": ""}, "BAD_RESPONSE"),
        ({"status": 200, "body": HUGE}, "BAD_RESPONSE"),
        ({"status": 200, "body": BOMB, "headers": {"Content-Encoding": "gzip"}}, "BAD_RESPONSE"),
        ({"status": 200, "body": "{}", "headers": {"Content-Encoding": "gzip"}}, "BAD_RESPONSE"),
        ({"status": 500, "body": HUGE}, "SERVER_ERROR"),
        ({"status": 503, "code": -1008}, "SERVER_ERROR"),
    ],
    ids=[
        "hang", "drip", "drip of an error", "reset", "truncated", "not JSON", "empty", "huge", "bomb",
        "not gzip", "huge error", "busy",
    ],
)  # fmt: skip
def test_a_bad_delivery_is_worth_another_try_and_ends_in_time(
    server: BinanceServer, client: BinanceClient, hasty: BinanceClient, fault: dict[str, Any], code: str
) -> None:
    client.start("usdm", KEY)
    server.exchange.fault(**fault)

    error = trouble(hasty if code == "TIMEOUT" else client)

    assert isinstance(error, Transient)
    assert (error.code, error.retryable) == (code, True)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", [{"kind": "hang"}, {"kind": "drip", "delay": 1000.0}], ids=["hang", "drip"])
def test_the_deadline_of_the_whole_answer_counts_however_long_the_next_byte_may_take(
    server: BinanceServer, clock: VirtualClock, fault: dict[str, Any]
) -> None:
    server.exchange.fault(**fault)

    assert trouble(BinanceClient(clock.now, server.url, Timeouts(1.0, 300.0, 0.2))).code == "TIMEOUT"


def test_an_answer_that_comes_slowly_but_in_time_is_taken(
    server: BinanceServer, client: BinanceClient
) -> None:
    server.exchange.fault("drip", delay=0.0001, times=1)

    assert client.start("usdm", KEY).listen_key == server.exchange.live_key(KEY, "usdm")


def test_a_redirect_is_not_followed(server: BinanceServer, client: BinanceClient) -> None:
    with BinanceServer(Exchange()) as elsewhere:
        headers = {"Location": f"{elsewhere.url}/fapi/v1/listenKey"}
        for status in (301, 302, 307, 308):
            server.exchange.fault("redirect", status=status, headers=headers, times=1)
            assert (trouble(client).code, server.exchange.requests[-1].status) == ("BAD_RESPONSE", status)

        assert elsewhere.exchange.count == 0


def test_no_server_is_a_connection_error(server: BinanceServer, client: BinanceClient) -> None:
    server.stop()

    error = trouble(client)

    assert (error.code, error.http_status, error.retryable) == ("CONNECTION", None, True)


def test_a_kept_alive_connection_that_died_is_a_transient_failure(
    server: BinanceServer, client: BinanceClient
) -> None:
    client.start("usdm", KEY)
    server.exchange.fault("reset", times=1)

    error = trouble(client)

    assert (error.code, error.retryable) == ("CONNECTION", True)
    assert client.keepalive("usdm", KEY).listen_key is not None


def test_a_new_connection_that_breaks_is_the_servers_doing(
    server: BinanceServer, client: BinanceClient
) -> None:
    client.start("usdm", KEY)
    client.forget_idle_connections()
    server.exchange.fault("reset")

    assert trouble(client).code == "CONNECTION"

    assert [request.method for request in server.exchange.requests] == ["POST", "PUT"]


def test_a_connection_is_used_again(server: BinanceServer, client: BinanceClient) -> None:
    client.start("usdm", KEY)
    for _ in range(5):
        client.keepalive("usdm", KEY)

    assert len(server._server.connections) == 1


def test_a_proxy_is_taken_from_the_environment_once(
    server: BinanceServer, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Recording()
    with BinanceServer(exchange) as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        client = BinanceClient(clock.now, "http://fapi.test")
        monkeypatch.delenv("HTTP_PROXY")
        monkeypatch.delenv("http_proxy")

        for _ in range(2):
            assert trouble(client).http_status == 404
        client.forget_idle_connections()

    assert [path for _, path, _ in exchange.seen] == ["http://fapi.test/fapi/v1/listenKey"] * 2


def test_a_certificate_that_nobody_vouches_for_is_refused_before_the_key_is_sent(
    clock: VirtualClock, tmp_path: Path
) -> None:
    with BinanceServer(ssl_context=self_signed(tmp_path)[0]) as server:
        error = trouble(BinanceClient(clock.now, server.url))

        assert (error.code, error.retryable) == ("CONNECTION", True)
        assert server.exchange.count == 0


def test_a_bundle_of_the_environments_is_trusted(
    clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, authority = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    with BinanceServer(ssl_context=context) as server:
        server.exchange.add_account(KEY)
        client = BinanceClient(clock.now, server.url)
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")

        assert client.start("usdm", KEY).listen_key is not None

        client.forget_idle_connections()


def test_the_used_weight_in_an_answer_is_passed_on(server: BinanceServer, client: BinanceClient) -> None:
    server.exchange.fault(answer=Answer(200, {"X-MBX-USED-WEIGHT-1M": "2301"}, b'{"listenKey":"abcdefghij"}'))

    assert client.keepalive("usdm", KEY).used_weight == 2301
