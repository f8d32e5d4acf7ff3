"""python-binance, unchanged but for the URL, on the stand-in."""

import pytest

from local.binance.exchange import REAL_ANSWERS
from tests.clients.conftest import ALICE, Raised, wait_for_listeners

pytestmark = pytest.mark.clients
CLIENT = "python-binance"
PRODUCTS = ["usdm", "coinm", "portfolio"]  # it has no listenKey of options


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_stream_is_started_kept_alive_and_closed(client, exchange, clock, product):
    listen_key = client.start(product)
    assert listen_key == exchange.live_key(ALICE, product)
    clock.advance(minutes=59)
    client.keep_alive(product, listen_key)
    clock.advance(minutes=59)
    assert exchange.live_key(ALICE, product) == listen_key
    client.close(product, listen_key)
    assert exchange.live_key(ALICE, product) is None


@pytest.mark.parametrize("product", PRODUCTS)
def test_its_socket_manager_hears_orders_until_the_key_dies(client, exchange, clock, product):
    assert client.listen(product) == exchange.live_key(ALICE, product)
    wait_for_listeners(exchange, product)
    number = exchange.emit_order(ALICE, product)
    assert client.hear(product)["o"]["i"] == number
    clock.advance(minutes=60)
    assert client.hear(product)["e"] == "listenKeyExpired"


def test_no_listen_key_is_its_api_exception(client):
    with pytest.raises(Raised) as raised:
        client.keep_alive("usdm", "x" * 64)
    assert (raised.value.type, raised.value.status_code, raised.value.code) == (
        "BinanceAPIException",
        400,
        -1125,
    )


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        ("invalid_api_key", 401, -2015),
        ("rate_limited", 429, -1003),
        ("ip_banned", 418, -1003),
        ("unknown_error", 500, -1000),
        ("throttled", 503, -1008),
        ("service_unavailable", 503, 0),
        ("restricted_location", 451, 0),
        ("waf_blocked", 403, 0),
    ],
)
def test_errors_are_its_api_exception(client, exchange, answer, status, code):
    exchange.fault(answer=REAL_ANSWERS[answer], method="PUT")
    with pytest.raises(Raised) as raised:
        client.keep_alive("usdm", "x" * 64)
    assert (raised.value.type, raised.value.status_code, raised.value.code) == (
        "BinanceAPIException",
        status,
        code,
    )


def test_it_reads_the_symbols(client):
    assert [symbol["symbol"] for symbol in client.exchange_info()["symbols"]] == ["BTCUSDT"]
