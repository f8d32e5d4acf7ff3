"""The Binance client over real sockets: where it sends, what it sends, and through what."""

from __future__ import annotations

import gzip
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listenkeys.binance.client import BinanceClient
from listenkeys.errors import AccountError
from listenkeys.products import ENDPOINTS
from listenkeys.timing import Timeouts
from local.binance.exchange import PATHS, Exchange
from local.binance.server import BinanceServer
from local.clock import VirtualClock
from tests.certificates import self_signed

KEY = "CANARYapikeyCANARYapikeyCANARYapikey"


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


def test_a_compressed_answer_is_read(server: BinanceServer, client: BinanceClient) -> None:
    body = gzip.compress(b'{"listenKey":"compressed"}')
    server.exchange.fault(status=200, body=body, headers={"Content-Encoding": "gzip"})

    assert client.keepalive("usdm", KEY).listen_key == "compressed"


@pytest.mark.parametrize("fault", [{"kind": "hang"}, {"kind": "drip", "delay": 1000.0}], ids=["hang", "drip"])
def test_the_whole_answers_deadline_does_not_wait_for_the_next_byte(
    server: BinanceServer, clock: VirtualClock, fault: dict[str, Any]
) -> None:
    server.exchange.fault(**fault)

    hasty = BinanceClient(clock.now, server.url, timeouts=Timeouts(connect=60.0, read=300.0, total=0.2))
    assert trouble(hasty).code == "TIMEOUT"
    hasty.forget_idle_connections()


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
