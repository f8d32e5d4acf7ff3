"""python-binance, unchanged but for the URL, on the stand-in."""

import pytest

from tests.clients.conftest import ALICE, wait_for_listeners

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


def test_it_reads_the_symbols(client):
    assert [symbol["symbol"] for symbol in client.exchange_info()["symbols"]] == ["BTCUSDT"]


def test_stand_in_moves_every_url_whatever_the_domain(client, place):
    assert client.hosts() == place.hosts
