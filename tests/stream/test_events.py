"""UserDataStream against the stand-in: what it yields, and what it says of itself."""

from datetime import datetime, timedelta

import pytest
from websockets.asyncio.server import ServerConnection, serve

from listenkey_keeper.stream.gaps import MARGIN, Gap
from listenkey_keeper.stream.user_data import UserDataStream
from local.binance.exchange import PATHS

from .conftest import ALICE, HOUR, in_loop, listening, listens, until, without
from .relay import url_of


@pytest.mark.parametrize("product", PATHS)
@in_loop
async def test_orders_of_every_product_are_yielded_unwrapped(world, bot, keeper, streams, product):
    streams.events_required = True
    keeper.product = product
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        numbers = [world.exchange.emit_order(ALICE, product) for _ in range(3)]
        await until(lambda: alice.orders == numbers)
    assert {event["e"] for event in alice.items[1:]} == {"ORDER_TRADE_UPDATE"}


@pytest.mark.parametrize("hours", [0, 3], ids=["new", "restarted"])
@in_loop
async def test_the_first_item_is_the_gap_since_the_bot_last_listened(bot, keeper, clock, hours):
    keeper.renew()
    handled = clock.now() - timedelta(hours=hours)
    async with bot(**({"since": handled} if hours else {})) as alice:
        await until(lambda: alice.items)
    assert alice.items == [Gap(handled - MARGIN, clock.now() + MARGIN, "started")]


def test_since_when_must_have_a_timezone(keys):
    with pytest.raises(ValueError, match="timezone"):
        UserDataStream("alice", keys, since=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused


@in_loop
async def test_it_waits_for_an_account_that_has_no_key_yet(world, bot, keeper, clock, time_):
    refused = {"outcome": "REJECTED", "errorCode": "INVALID_API_KEY", "expiresAt": None}
    world.put_current("alice", None, clock.now(), **refused)
    async with bot() as alice:
        await without(alice)
        assert (alice.stream.state.outcome, alice.stream.state.error_code) == ("REJECTED", "INVALID_API_KEY")
        assert (alice.told, alice.stream.alive, alice.stream.expires_at) == (["-no key"], False, None)
        keeper.renew()
        time_.advance(8)
        await listening(alice)


@listens
async def test_it_says_until_when_the_key_lives(alice, clock, time_):
    assert alice.stream.expires_at == clock.now() + timedelta(hours=1)
    assert repr(alice.stream) == "<UserDataStream alice: listening>"
    time_.advance(HOUR)
    assert not alice.stream.alive
    assert repr(alice.stream) == "<UserDataStream alice: key not renewed>"


@in_loop
async def test_it_sends_nothing_to_the_rest_api(world, bot, keeper, streams, time_):
    keeper.renew()
    before = world.exchange.count
    async with bot() as alice:
        await listening(alice)
        streams.drop_connections()
        await until(lambda: alice.interruptions)
        time_.advance(1)
        await listening(alice)
        world.exchange.expire(ALICE, "usdm")
        await without(alice)
        time_.advance(100)
    assert world.exchange.count == before


@in_loop
async def test_only_events_are_yielded_whatever_else_a_server_says(bot, keeper):
    said = [
        "not JSON", b"\xff\xfe", "7", "null", "[]", '"text"', '{"result":null,"id":1}', '{"data":3}',
        '{"e":"NO_TIME"}', '{"e":"ODD_TIME","E":"soon"}', '{"e":"NULL","E":null}', '{"e":"FAR","E":1e300}',
        '{"e":"FARTHER","E":1e20}', "[" * 100_000, ['{"e":"IN_', "PAR", 'TS","E":1}'],
        '{"e":"x","data":1,"E":1}', '{"stream":"s","data":{"e":"WRAPPED","E":1}}', '{"e":"listenKeyExpired"}',
    ]  # fmt: skip

    async def talk(socket: ServerConnection) -> None:
        for message in said:
            await socket.send(message)
        await socket.wait_closed()

    keeper.renew()
    async with serve(talk, "127.0.0.1", 0) as server, bot(url_of(server)) as alice:
        await until(lambda: alice.interruptions)
    assert alice.told == ["+started", "-key expired"]
    assert [item["e"] for item in alice.items if isinstance(item, dict)] == [
        "NO_TIME",
        "ODD_TIME",
        "NULL",
        "FAR",
        "FARTHER",
        "IN_PARTS",
        "x",
        "WRAPPED",
    ]
