"""Binance's own SDK for USDⓈ-M, unchanged but for the URL, on the stand-in."""

import pytest

from tests.clients.conftest import ALICE, Raised, wait_for_listeners

pytestmark = pytest.mark.clients
CLIENT = "binance-sdk"


def test_a_stream_is_started_kept_alive_and_closed(client, exchange, clock):
    started = client.start()
    assert started == {"listen_key": exchange.live_key(ALICE, "usdm"), "weights": [1]}
    clock.advance(minutes=59)
    assert client.keep_alive() == started["listen_key"]
    clock.advance(minutes=59)
    assert exchange.live_key(ALICE, "usdm")
    client.close()
    assert exchange.live_key(ALICE, "usdm") is None


def test_its_stream_hears_orders_as_its_own_models_until_the_key_dies(client, exchange, clock):
    listen_key = client.start()["listen_key"]
    client.listen(listen_key)
    wait_for_listeners(exchange, "usdm")
    number = exchange.emit_order(ALICE, X="FILLED")
    name, event = client.hear()
    assert (name, event["o"]["i"], event["o"]["X"]) == ("OrderTradeUpdate", number, "FILLED")
    clock.advance(minutes=60)
    name, event = client.hear()
    assert (name, event["listenKey"]) == ("ListenKeyExpired", listen_key)


def test_going_over_the_limit_is_its_429_and_then_its_418(client, exchange):
    exchange.weight_limits["futures"] = 0
    seen = []
    for _ in range(6):
        with pytest.raises(Raised) as raised:
            client.keep_alive()
        seen.append((raised.value.type, raised.value.retry_after))
    assert seen == [("TooManyRequestsError", 60)] * 5 + [("RateLimitBanError", 120)]


def test_it_reads_the_time_and_the_symbols(client, clock):
    assert client.time() == int(clock.timestamp() * 1000)
    assert client.exchange_info() == ["BTCUSDT"]


def test_stand_in_moves_every_url_of_every_product(client, place):
    assert client.hosts() == place.hosts
