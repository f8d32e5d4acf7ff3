"""UserDataStream is opened, read from, left and cancelled."""

import asyncio

import pytest

from listenkey_keeper.stream import outbox

from .conftest import ALICE, bounds, in_loop, until


@in_loop
async def test_a_bug_is_raised_to_the_bot_and_does_not_hang(stream, table):
    table.get_item = lambda **_: 1 / 0
    async with stream:
        with pytest.raises(ZeroDivisionError):
            await anext(stream)


@in_loop
async def test_what_nobody_takes_is_dropped_and_lies_in_a_gap(
    world, stream, keeper, clock, time_, monkeypatch
):
    monkeypatch.setattr(outbox, "MOST", 10)
    keeper.renew()
    async with stream:
        await until(lambda: stream.alive)
        emitted = []
        for _ in range(30):
            emitted.append((world.exchange.emit_order(ALICE), clock.now()))
            time_.advance(1)
        await until(lambda: len(stream._follower._seen._texts) == len(emitted))
        items = [await anext(stream) for _ in range(11)]
        number = world.exchange.emit_order(ALICE)
        assert (await anext(stream))["o"]["i"] == number
    *events, gap = items[1:]
    assert [event["o"]["i"] for event in events] == [number for number, _ in emitted[:9]]
    assert gap.why == "read too slowly"
    since, until_ = bounds(gap)
    assert since == emitted[9][1]
    assert until_ >= emitted[-1][1]


@in_loop
async def test_taking_an_item_may_be_given_up_and_loses_nothing(world, stream, keeper):
    keeper.renew()
    async with stream:
        await anext(stream)
        numbers, heard = [], []
        for _ in range(200):
            numbers.append(world.exchange.emit_order(ALICE))
            try:
                heard.append((await asyncio.wait_for(anext(stream), 0.0005))["o"]["i"])
            except TimeoutError:
                continue
        while len(heard) < len(numbers):
            heard.append((await anext(stream))["o"]["i"])
    assert heard == numbers


@in_loop
async def test_leaving_closes_everything_and_ends_who_still_waits(world, stream, keeper, streams, time_):
    listen_key = keeper.renew()
    async with stream:
        await anext(stream)
        waiting = asyncio.create_task(anext(stream, "the end"))
        await asyncio.sleep(0)
    assert await waiting == "the end"
    assert len(asyncio.all_tasks()) == 1
    assert time_.sleeping() == []
    await until(lambda: streams.connections == world.exchange.listeners(listen_key) == 0)
    assert not stream.alive


@pytest.mark.parametrize("moment", range(12))
@in_loop
async def test_it_may_be_cancelled_at_any_moment(stream, keeper, streams, moment):
    keeper.renew()
    async with stream:
        await asyncio.sleep(moment * 0.001)
    assert len(asyncio.all_tasks()) == 1
    await until(lambda: streams.connections == 0)


@in_loop
async def test_it_is_open_inside_of_the_block_only_and_once(stream, keeper):
    keeper.renew()
    with pytest.raises(RuntimeError, match="async with"):
        await anext(stream)
    async with stream:
        await anext(stream)
    with pytest.raises(RuntimeError, match="once"):
        async with stream:
            pass
