"""The stand-in's websockets: what a client hears on every product's documented URL, and when it stops."""

import json
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from local.binance.exchange import PATHS, Exchange
from local.binance.stream import StreamServer
from local.clock import VirtualClock
from tests.waiting import SECONDS

ALICE = "alice" * 12
BOB = "bobby" * 12
URLS = {
    "usdm": "/private/ws?listenKey={}",
    "coinm": "/ws/{}",
    "portfolio": "/pm/ws/{}",
    "options": "/private/ws/{}",
}
HOUR = 3600


@pytest.fixture
def exchange(clock: VirtualClock) -> Exchange:
    exchange = Exchange(now=clock.timestamp)
    exchange.add_account(ALICE)
    exchange.add_account(BOB)
    return exchange


@pytest.fixture
def server(exchange: Exchange) -> Iterator[StreamServer]:
    with StreamServer(exchange) as server:
        yield server


def start(exchange: Exchange, product: str = "usdm", api_key: str = ALICE) -> str:
    answer = exchange.handle("POST", PATHS[product], {"X-MBX-APIKEY": api_key})
    return str(json.loads(answer.body)["listenKey"])


def opened(server: StreamServer, path: str) -> AbstractContextManager[ClientConnection]:
    return connect(server.url + path, proxy=None, close_timeout=0.5)


def heard(socket: ClientConnection) -> dict:
    return json.loads(socket.recv(timeout=SECONDS))


def is_silent(socket: ClientConnection) -> bool:
    """Tell whether nothing was sent before the answer to a question asked now."""
    socket.send('{"method": "LIST_SUBSCRIPTIONS", "id": "silent?"}')
    return heard(socket).get("id") == "silent?"


def test_a_dead_key_opens_and_stays_silent(server, exchange, clock):
    listen_key = start(exchange)
    clock.advance(HOUR)
    for key in (listen_key, "never-known"):
        with opened(server, URLS["usdm"].format(key)) as socket:
            exchange.emit_order(ALICE)
            assert is_silent(socket)


@pytest.mark.parametrize(
    ("product", "path"),
    [
        ("usdm", "/ws/{}"),
        ("usdm", "/market/ws/{}"),
        ("portfolio", "/private/ws/{}"),
        ("options", "/public/ws/{}"),
    ],
    ids=["usdm as before the split", "usdm on market", "portfolio on private", "options on public"],
)
def test_another_products_route_opens_and_stays_silent(server, exchange, product, path):
    with opened(server, path.format(start(exchange, product))) as socket:
        exchange.emit_order(ALICE, product)
        assert is_silent(socket)


def test_only_the_events_named_in_the_url_are_heard(server, exchange):
    """listenKeyExpired included, where it is not named: nothing documents that it comes all the same."""
    url = URLS["usdm"].format(start(exchange)) + "&events=ACCOUNT_UPDATE"
    with opened(server, url) as socket, opened(server, url + "/ORDER_TRADE_UPDATE") as other:
        number = exchange.emit_order(ALICE)
        assert heard(other)["o"]["i"] == number
        exchange.expire(ALICE, "usdm")
        assert is_silent(socket)
        assert is_silent(other)


@pytest.mark.parametrize("path", ["/private/ws?listenKey={}", "/private/ws/{}", "/private/stream?streams={}"])
def test_a_url_without_events_stays_silent_where_they_are_required(server, exchange, path):
    path = path.format(start(exchange))
    with opened(server, path) as before:
        server.events_required = True
        named = URLS["usdm"].format(exchange.live_key(ALICE, "usdm")) + "&events=ORDER_TRADE_UPDATE"
        with opened(server, path) as socket, opened(server, named) as other:
            number = exchange.emit_order(ALICE)
            event = heard(before)
            assert event.get("data", event)["o"]["i"] == number
            assert heard(other)["o"]["i"] == number
            assert is_silent(socket)


def test_a_restricted_key_opens_and_stays_silent_from_another_address(server, exchange):
    exchange.restrict(ALICE, ["127.0.0.1"])
    url = server.url + URLS["usdm"].format(start(exchange))
    with connect(url, proxy=None) as here, connect(url, proxy=None, source_address=("127.0.0.2", 0)) as there:
        exchange.emit_order(ALICE)
        assert heard(here)["e"] == "ORDER_TRADE_UPDATE"
        assert is_silent(there)


@pytest.mark.parametrize("path", ["listenKey={}&events=ORDER_TRADE_UPDATE&listenKey={}", "streams={}/{}"])
def test_stream_mode_hears_several_keys_each_under_its_name(server, exchange, path):
    keys = [start(exchange), start(exchange, "usdm", BOB)]
    with opened(server, f"/private/stream?{path}".format(*keys)) as socket:
        numbers = [exchange.emit_order(ALICE), exchange.emit_order(BOB)]
        events = [heard(socket) for _ in numbers]
        assert [event["stream"] for event in events] == keys
        assert [event["data"]["o"]["i"] for event in events] == numbers


def test_keys_can_be_subscribed_to_and_left_on_an_open_socket(server, exchange):
    listen_key = start(exchange)
    with opened(server, "/private/stream") as socket:
        socket.send(json.dumps({"method": "SUBSCRIBE", "params": [listen_key], "id": 7}))
        assert heard(socket) == {"result": None, "id": 7}
        exchange.emit_order(ALICE)
        assert heard(socket)["stream"] == listen_key
        socket.send(json.dumps({"method": "UNSUBSCRIBE", "params": [listen_key], "id": 8}))
        assert heard(socket) == {"result": None, "id": 8}
        exchange.emit_order(ALICE)
        assert is_silent(socket)
        socket.send(json.dumps({"method": "DANCE", "id": 9}))
        assert heard(socket)["error"]["code"] == 2


def test_an_order_event_has_the_shape_of_its_product(exchange):
    events = {}
    for product in PATHS:
        exchange.listen(start(exchange, product), {product}, events.__setitem__)
        exchange.emit_order(ALICE, product, X="FILLED", z="0.001")
    assert all(event["o"]["X"] == "FILLED" and event["o"]["z"] == "0.001" for event in events.values())
    assert events["portfolio"]["fs"] == "UM"
    assert events["coinm"]["o"]["ma"] == "BTC"
    assert "ps" in events["usdm"]["o"]
    assert "ps" not in events["options"]["o"]


@pytest.mark.parametrize("path", ["/", "/nowhere/ws", "/private", "/private/ws/key/more"])
def test_an_unknown_path_is_not_found(server, path):
    with pytest.raises(InvalidStatus) as refused, connect(server.url + path, proxy=None):
        pass
    assert refused.value.response.status_code == 404


def test_a_client_that_does_not_read_holds_up_nobody(server, exchange):
    url = URLS["usdm"].format(start(exchange))
    with opened(server, url), opened(server, url) as reader:
        for _ in range(2000):
            exchange.emit_order(ALICE, c="x" * 5000)
        assert [heard(reader)["o"]["i"] for _ in range(2000)] == list(range(1, 2001))


def test_it_listens_on_the_loopback_only_and_logs_no_listen_key(server, exchange, caplog):
    caplog.set_level(logging.DEBUG, "local.binance.stream")
    listen_key = start(exchange)
    with opened(server, URLS["usdm"].format(listen_key)):
        pass
    assert server.url.startswith("ws://127.0.0.1:")
    assert listen_key not in caplog.text
