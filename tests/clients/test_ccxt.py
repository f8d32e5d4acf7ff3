"""ccxt, unchanged but for the URL, on the stand-in."""

import pytest

from tests.clients.conftest import ALICE, wait_for_listeners

pytestmark = pytest.mark.clients
CLIENT = "ccxt"
# What ccxt calls the listenKey methods of each product, and how its user asks for its orders.
CALLS = {
    "usdm": ("fapiPrivate{}ListenKey", {"type": "swap", "subType": "linear"}),
    "coinm": ("dapiPrivate{}ListenKey", {"type": "swap", "subType": "inverse"}),
    "portfolio": ("papi{}ListenKey", {"type": "swap", "subType": "linear", "portfolioMargin": True}),
    "options": ("eapiPrivate{}ListenKey", {"type": "option"}),
}
SYMBOLS = {
    "usdm": "BTC/USDT:USDT",
    "coinm": "BTC/USD:BTC",
    "portfolio": "BTC/USDT:USDT",
    "options": "BTC/USDT:USDT-261225-100000-C",
}


@pytest.mark.parametrize("product", CALLS)
def test_a_stream_is_started_kept_alive_and_closed(client, exchange, clock, product):
    method, _ = CALLS[product]
    listen_key = client.call(method.format("Post"))["listenKey"]
    assert listen_key == exchange.live_key(ALICE, product)
    clock.advance(minutes=59)
    client.call(method.format("Put"))
    clock.advance(minutes=59)
    assert exchange.live_key(ALICE, product) == listen_key
    client.call(method.format("Delete"))
    assert exchange.live_key(ALICE, product) is None


@pytest.mark.parametrize("secret", [None, "s" * 64], ids=["without a secret", "with a secret"])
@pytest.mark.parametrize("product", CALLS)
def test_watch_orders_hears_them_as_unified_orders(client, exchange, product, secret):
    _, params = CALLS[product]
    client.forget(secret)  # ccxt keeps one listenKey for portfolio and usdm
    client.send("watch_orders", params)
    wait_for_listeners(exchange, product)
    number = exchange.emit_order(ALICE, product)
    assert client.answer() == [{"id": str(number), "symbol": SYMBOLS[product], "status": "open"}]
    assert [request.path for request in exchange.requests if request.status >= 400] == []


@pytest.mark.parametrize("secret", [None, "s" * 64], ids=["without a secret", "with a secret"])
def test_it_reads_the_time_and_loads_the_markets(client, clock, secret):
    client.forget(secret)
    assert client.time() == int(clock.timestamp() * 1000)
    assert client.load_markets() == ["BTC/USD:BTC", "BTC/USDT:USDT"]


def test_a_key_change_ends_every_watch_of_the_account_and_no_other(client, exchange):
    before = client.call("fapiPrivatePostListenKey")["listenKey"]
    client.call("fapiPrivateDeleteListenKey")
    after = client.call("fapiPrivatePostListenKey")["listenKey"]
    client.send("change_the_key", before, after)
    wait_for_listeners(exchange, "usdm")
    exchange.emit_order(ALICE)
    assert client.answer() == dict.fromkeys(["orders", "balance", "positions"], "NetworkError")


def test_stand_in_moves_every_url_of_every_binance_class(client, place):
    assert client.hosts() == place.hosts
