"""UserDataStream is opened, read from, left and cancelled."""

import asyncio
import threading

import pytest
from websockets.asyncio.server import ServerConnection, serve

from listenkey_keeper import Gap, Interrupted
from listenkey_keeper.stream import outbox
from listenkey_keeper.stream.connection import Connection

from .conftest import ALICE, bounds, in_loop, until
from .relay import url_of


@in_loop
async def test_a_bug_is_raised_to_the_bot_and_does_not_hang(stream, table):
    table.get_item = lambda **_: 1 / 0
    async with stream:
        with pytest.raises(ZeroDivisionError):
            await anext(stream)


@pytest.mark.row(88)
@pytest.mark.parametrize(
    ("size", "most", "kept"), [(0, "MOST", 9), (200_000, "MOST_BYTES", 10)], ids=["many", "large"]
)
@in_loop
async def test_ten_spells_of_reading_too_slowly_are_ten_gaps_and_bounded(
    world, stream, keeper, clock, time_, monkeypatch, size, most, kept
):
    monkeypatch.setattr(outbox, most, 10 * (size + 900) if size else 10)
    keeper.renew()
    items, emitted = [], 0
    async with stream:
        await until(lambda: stream.alive)
        for _ in range(10):
            lost_from = clock.now()
            for _ in range(30):
                world.exchange.emit_order(ALICE, c="x" * size)
            emitted += 30
            await until(lambda emitted=emitted: stream.state.events == emitted)
            assert not stream.alive
            assert len(stream.outbox) <= 12
            spell = [await anext(stream) for _ in range(len(stream.outbox))]
            spell.append(await anext(stream))
            items += spell
            *_, interrupted, gap = spell
            assert (interrupted.why, gap.why) == ("read too slowly", "read too slowly")
            assert bounds(gap) == (lost_from, clock.now())
            assert stream.alive
            time_.advance(1)
    assert [type(item) for item in items if not isinstance(item, dict)] == [Gap, *[Interrupted, Gap] * 10]
    assert sum(isinstance(item, dict) for item in items) == kept + 9 * 10


@pytest.mark.slow
@in_loop
async def test_a_burst_of_50000_is_taken_whole_with_a_timeout_for_each(world, stream, keeper):
    keeper.renew()
    async with stream:
        await anext(stream)
        threading.Thread(target=lambda: [world.exchange.emit_order(ALICE) for _ in range(50_000)]).start()
        heard = [await asyncio.wait_for(anext(stream), 60) for _ in range(50_000)]
    assert [event["o"]["i"] for event in heard] == list(range(1, 50_001))


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
        given_up = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        assert not stream.outbox._waiters  # a bot may do so a thousand times a second, for weeks
    assert heard == numbers


@in_loop
async def test_when_the_bot_has_caught_up_nothing_is_left_of_the_pause(world, stream, keeper, time_):
    keeper.renew()
    async with stream:
        await anext(stream)
        for _ in range(1000):
            world.exchange.emit_order(ALICE)
        await until(lambda: 5 in time_.left())  # it has 5 seconds
        while len(stream.outbox) > 500:
            await anext(stream)
        await until(lambda: 5 not in time_.left())


@in_loop
async def test_leaving_closes_everything_and_ends_who_still_waits(world, stream, keeper, streams, time_):
    listen_key = keeper.renew()
    async with stream:
        await anext(stream)
        waiting = asyncio.create_task(anext(stream, "the end"))
        await asyncio.sleep(0)
    assert await waiting == "the end"
    assert len(asyncio.all_tasks()) == 1
    assert time_.left() == []
    assert stream.state.why == "closed"
    await until(lambda: streams.connections == world.exchange.listeners(listen_key) == 0)
    assert not stream.alive


@pytest.mark.parametrize("moment", range(12))
@in_loop
async def test_it_may_be_cancelled_at_any_moment(stream, keeper, streams, caplog, moment):
    keeper.renew()
    async with stream:
        await asyncio.sleep(moment * 0.001)
    assert len(asyncio.all_tasks()) == 1
    await until(lambda: streams.connections == 0)
    assert "Exception in callback" not in caplog.text


@in_loop
async def test_an_opening_that_is_cancelled_when_it_is_done_leaves_no_socket(time_):
    closed = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        await socket.wait_closed()
        closed.set()

    async with serve(talk, "127.0.0.1", 0) as server:
        others = asyncio.all_tasks()
        task = asyncio.create_task(Connection.open(url_of(server), time_))
        await asyncio.sleep(0)
        [opening] = asyncio.all_tasks() - others - {task}
        opening.add_done_callback(lambda _: task.cancel())
        await asyncio.wait([task])
        assert task.cancelled()
        await closed.wait()


@in_loop
async def test_it_may_be_closed_twice_and_from_another_thread(stream, keeper, streams):
    keeper.renew()
    async with stream:
        await anext(stream)
        waiting = asyncio.create_task(anext(stream, "the end"))
        await asyncio.to_thread(lambda: asyncio.run(stream.aclose()))
        assert stream.outbox.ended
        assert await waiting == "the end"
        await stream.aclose()
        stream.close()
    await until(lambda: streams.connections == 0)


@in_loop
async def test_it_is_open_inside_of_the_block_only_and_once(stream, keeper):
    keeper.renew()
    await stream.aclose()
    with pytest.raises(RuntimeError, match="async with"):
        await anext(stream)
    async with stream:
        await anext(stream)
    with pytest.raises(RuntimeError, match="once"):
        async with stream:
            pass
