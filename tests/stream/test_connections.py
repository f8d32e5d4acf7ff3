"""UserDataStream and its websockets: old, lost, dead, and refused."""

import asyncio
from datetime import timedelta

from .conftest import ALICE, HOUR, bounds, hears, in_loop, listening, passes, until, without
from .relay import Relay, url_of


@in_loop
async def test_a_day_old_connection_is_replaced_without_a_gap_and_no_event_comes_twice(
    world, bot, keeper, streams, clock, time_
):
    world.exchange.lease_seconds = 100 * HOUR
    listen_key = keeper.renew()
    async with bot() as alice:
        await listening(alice)
        for _ in range(44):
            keeper.renew()
            await passes(alice, HOUR / 2)
        keeper.renew()
        alice.stream.wake()
        await until(lambda: alice.stream.expires_at == clock.now() + timedelta(hours=1))
        await listening(alice)
        assert streams.connections == 1
        time_.advance(HOUR)
        await until(lambda: world.exchange.listeners(listen_key) == 2)
        numbers = [world.exchange.emit_order(ALICE) for _ in range(20)]
        await until(lambda: len(alice.orders) >= 20)
        time_.advance(5)
        await until(lambda: streams.connections == 1)
        numbers.append(world.exchange.emit_order(ALICE))
        await until(lambda: numbers[-1] in alice.orders)
    assert sorted(alice.orders) == numbers
    assert [gap.why for gap in alice.gaps] == ["started"]


@in_loop
async def test_a_replaced_connection_that_had_died_unnoticed_leaves_a_gap(
    world, bot, streams, keeper, clock, time_
):
    world.exchange.lease_seconds = 100 * HOUR
    keeper.renew()
    async with Relay(streams.port) as relay, bot(relay.url) as alice:
        await listening(alice)
        await passes(alice, 20)
        proved_at = clock.now()
        relay.freeze()
        alice.stream._follower.line.renew_at = clock.now()
        time_.advance(10)  # no ping is due
        lost = world.exchange.emit_order(ALICE)
        alice.stream.wake()
        await until(lambda: relay.accepted == 2)
        await until(lambda: streams.connections == 2)
        opened_at = clock.now()
        await hears(alice, world.exchange)
        time_.advance(5)
        await until(lambda: 20 in time_.sleeping())
        time_.advance(20)
        await until(lambda: len(alice.gaps) == 2)
    assert lost not in alice.orders
    assert alice.gaps[1].why == "connection lost"
    assert bounds(alice.gaps[1]) == (proved_at, opened_at)


@in_loop
async def test_a_lost_connection_is_opened_again_and_leaves_a_gap(world, bot, keeper, streams, clock, time_):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        await passes(alice, 20)
        proved_at = clock.now()
        time_.advance(10)
        streams.drop_connections()
        await without(alice)
        lost = world.exchange.emit_order(ALICE)
        time_.advance(1)
        await listening(alice)
        await hears(alice, world.exchange)
    assert lost not in alice.orders
    assert alice.gaps[1].why == "connection lost"
    assert bounds(alice.gaps[1]) == (proved_at, clock.now())


@in_loop
async def test_a_connection_that_answers_no_ping_is_given_up(bot, streams, keeper, clock, time_):
    keeper.renew()
    async with Relay(streams.port) as relay, bot(relay.url) as alice:
        await listening(alice)
        opened_at = clock.now()
        relay.freeze()
        time_.advance(20)
        await until(lambda: time_.sleeping().count(20) == 1)
        assert alice.stream.alive
        time_.advance(20)
        await without(alice)
        time_.advance(1)
        await listening(alice)
    assert bounds(alice.gaps[1]) == (opened_at, clock.now())


@in_loop
async def test_attempts_to_connect_are_few_while_nobody_answers(stream, table, keeper, streams, clock, time_):
    keeper.renew()
    streams.stop()
    async with stream:
        end = clock.monotonic() + HOUR
        while clock.monotonic() < end:
            await until(time_.sleeping)
            time_.advance(max(0.0, time_.sleeping()[0]))
            await asyncio.sleep(0.002)
    # Full jitter up to a minute is two a minute, and a few more in the beginning. Each reads the table first.
    assert 20 < table.reads < 240


@in_loop
async def test_a_server_that_hangs_up_at_once_is_not_hammered(bot, keeper, time_):
    keeper.renew()

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.close()

    accepted = 0
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server, bot(url_of(server)):
        for _ in range(600):
            await until(time_.sleeping)
            time_.advance(1)
            await asyncio.sleep(0.002)
    assert 5 < accepted < 60


@in_loop
async def test_a_socket_that_cannot_be_replaced_is_heard_on_and_its_successor_tried_at_leisure(
    world, bot, keeper, streams, clock, time_, caplog
):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        await passes(alice, 20)
        streams.down = True
        alice.stream._follower.line.renew_at = clock.now()
        alice.stream.wake()
        await until(lambda: "cannot connect" in caplog.text and 0 < min(alice.left) <= 1)
        assert caplog.text.count("cannot connect") == 1
        await hears(alice, world.exchange)
        streams.down = False
        time_.advance(1)
        await until(lambda: streams.connections == 2)
    assert [gap.why for gap in alice.gaps] == ["started"]
