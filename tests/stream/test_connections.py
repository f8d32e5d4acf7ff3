"""UserDataStream and its websockets: old, lost, dead, and refused."""

import asyncio
import functools
from datetime import timedelta

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from listenkey_keeper.stream import pacing
from listenkey_keeper.stream.connection import Connection
from listenkey_keeper.stream.keys import ListenKeys
from listenkey_keeper.stream.user_data import UserDataStream

from .conftest import ALICE, HOUR, bounds, hears, in_loop, listening, listens, passes, until, without
from .relay import Relay, url_of


@in_loop
async def test_a_day_old_connection_is_replaced_and_no_event_comes_twice(
    world, bot, keeper, streams, clock, time_
):
    """However many there are: 3,000 on each of the two sockets."""
    world.exchange.lease_seconds = 100 * HOUR
    listen_key = keeper.renew()
    async with bot() as alice:
        await listening(alice)
        for _ in range(46):
            keeper.renew()
            alice.stream.wake()
            await until(lambda: alice.stream.expires_at == clock.now() + timedelta(hours=1))
            await passes(alice, HOUR / 2)
            if streams.connections > 1:
                break
        assert world.exchange.listeners(listen_key) == 2
        numbers = [world.exchange.emit_order(ALICE) for _ in range(3000)]
        await until(lambda: len(alice.orders) >= 3000)
        time_.advance(5)
        await until(lambda: streams.connections == 1)
        numbers.append(world.exchange.emit_order(ALICE))
        await until(lambda: numbers[-1] in alice.orders)
    assert sorted(alice.orders) == numbers
    assert alice.told == ["+started"]


@pytest.mark.parametrize("cut", [False, True], ids=["silent", "cut"])
@in_loop
async def test_a_replaced_connection_that_had_died_unnoticed_leaves_a_gap(
    world, bot, streams, keeper, clock, time_, cut
):
    world.exchange.lease_seconds = 100 * HOUR
    keeper.renew()
    async with Relay(streams.port) as relay, bot(relay.url) as alice:
        await listening(alice)
        await passes(alice, 20)
        proved_at = clock.now()
        relay.freeze()
        old = alice.line
        old.renew_at = clock.now()
        time_.advance(9)  # no ping is due
        lost = world.exchange.emit_order(ALICE)
        alice.stream.wake()
        await until(lambda: relay.accepted == 2)
        await until(lambda: streams.connections == 2)
        opened_at = clock.now()
        await hears(alice, world.exchange)
        time_.advance(5)
        await until(lambda: time_.left().count(10) == 2)
        if cut:
            old.abort()
        else:
            time_.advance(10)
        await until(lambda: len(alice.gaps) == 2)
    assert lost not in alice.orders
    assert alice.told == ["+started", "-connection lost", "+connection lost"]
    assert bounds(alice.gaps[1]) == (proved_at, opened_at)


@listens
async def test_a_lost_connection_is_told_of_at_once_and_opened_again_at_once(
    world, alice, streams, clock, time_, caplog
):
    await passes(alice, 60)
    proved_at = clock.now()
    time_.advance(5)
    streams.down = True
    await asyncio.to_thread(streams.close_connections)
    await without(alice)
    state = alice.stream.state
    assert (state.listening, state.why, state.since) == (False, "connection lost", proved_at)
    assert alice.told == ["+started", "-connection lost"]
    lost = world.exchange.emit_order(ALICE)
    streams.down = False
    time_.advance(1)
    await listening(alice)
    await hears(alice, world.exchange)
    assert alice.stream.state.reconnects == 1
    await passes(alice, 60)
    streams.drop_connections()  # after a minute of life it does not even wait
    await until(lambda: len(alice.gaps) == 3)
    assert lost not in alice.orders
    assert alice.told == ["+started", *2 * ["-connection lost", "+connection lost"]]
    assert bounds(alice.gaps[1])[0] == proved_at
    assert "alice: events may be missing (connection lost: close code 1000" in caplog.text


@in_loop
async def test_a_connection_that_answers_no_ping_is_given_up_after_20_seconds(
    bot, streams, keeper, clock, time_
):
    keeper.renew()
    async with Relay(streams.port) as relay, bot(relay.url) as alice:
        await listening(alice)
        opened_at = clock.now()
        relay.freeze()
        time_.advance(10)
        await until(lambda: time_.left().count(10) == 1)
        assert alice.stream.alive
        time_.advance(10)
        await until(lambda: len(alice.interruptions) == 1)
        time_.advance(1)
        await listening(alice)
    assert bounds(alice.gaps[1]) == (opened_at, clock.now())


@in_loop
async def test_a_ping_whose_answer_waits_behind_events_is_no_lost_connection(bot, keeper, time_):
    sockets = list[ServerConnection]()

    class Deaf(ServerConnection):
        """Sends, but does not read a word after the first handshake."""

        def data_received(self, data: bytes) -> None:
            if self not in sockets[:1]:
                super().data_received(data)

    async def talk(socket: ServerConnection) -> None:
        sockets.append(socket)
        await socket.wait_closed()

    keeper.renew()
    options = {"create_connection": Deaf, "ping_interval": None}
    async with serve(talk, "127.0.0.1", 0, **options) as server, bot(url_of(server)) as alice:
        await listening(alice)
        time_.advance(10)
        for number in range(3):
            await until(lambda: time_.left().count(10) == 1)
            await sockets[0].send(f'{{"e":"ORDER_TRADE_UPDATE","E":1,"o":{{"i":{number}}}}}')
            await until(lambda number=number: number in alice.orders)
            time_.advance(10)
        assert alice.told == ["+started"]
        await until(lambda: time_.left().count(10) == 1)
        time_.advance(10)
        await until(lambda: alice.told[1:2] == ["-connection lost"])


async def live(time_, seconds: float, step: float = 1) -> None:
    """Let time pass in small steps, and the sockets do what they do."""
    for _ in range(int(seconds / step)):
        time_.advance(step)
        await asyncio.sleep(0.001)


def refusing(status: int, **headers: str):
    """Answer each handshake so, and count them."""

    def refuse(_: ServerConnection, __: Request) -> Response:
        refuse.count += 1
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Response(status, "", Headers({**named, "Content-Length": "0"}))

    refuse.count = 0
    return refuse


async def silent(socket: ServerConnection) -> None:
    await socket.wait_closed()


@pytest.mark.row(85)
@in_loop
async def test_thousands_of_refused_openings_end_nothing_and_are_few_a_minute(bot, keeper, time_, caplog):
    """A counter of failures that doubles the wait overflows at 1,024."""
    keeper.renew()
    refuse = refusing(451)
    async with serve(silent, "127.0.0.1", 0, process_request=refuse) as server, bot(url_of(server)) as alice:
        alice.stream._follower._failures = 1_990
        for _ in range(15):
            count = refuse.count
            await until(lambda: alice.resting)
            time_.advance(60)  # the longest wait
            await until(lambda count=count: refuse.count > count)
        assert not alice.stream._task.done()
    assert refuse.count <= 20
    assert alice.told == ["-cannot connect"]
    assert caplog.text.count("cannot connect (HTTP 451)") <= 3  # not one for each


@in_loop
async def test_a_bug_while_a_socket_is_opened_does_not_end_the_stream(
    bot, keeper, world, time_, monkeypatch, caplog
):
    async def fail(*_: object) -> None:
        raise TypeError("CANARY")

    keeper.renew()
    with monkeypatch.context() as broken:
        broken.setattr(Connection, "open", fail)
        alice = bot()
        await alice.__aenter__()
        await until(lambda: alice.told == ["-cannot connect"])
    await live(time_, 2)
    await listening(alice)
    await hears(alice, world.exchange)
    await alice.__aexit__(None, None, None)
    assert "cannot connect (TypeError)" in caplog.text
    assert "CANARY" not in caplog.text


@pytest.mark.row(85)
@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry_After": "120"}, 120), (418, {"Retry_After": "300"}, 300), (418, {}, 120),
        (418, {"Retry_After": "Thu, 01 Jan 2026 00:00:00 -0000"}, 120), (418, {"Retry_After": "soon"}, 120),
    ],
    ids=["seconds", "ban", "ban without an end", "a date without a zone", "no date"],
)  # fmt: skip
@in_loop
async def test_a_server_that_says_how_long_to_wait_is_not_asked_before(
    bot, keeper, time_, status, headers, seconds
):
    keeper.renew()
    refuse = refusing(status, **headers)
    async with serve(silent, "127.0.0.1", 0, process_request=refuse) as server, bot(url_of(server)) as alice:
        await until(lambda: refuse.count == 1)
        await until(lambda: alice.stream._follower._failures == 1)
        await live(time_, seconds - 1)
        assert refuse.count == 1
        await live(time_, 3)
        await until(lambda: refuse.count == 2)


@pytest.mark.row(85)
@in_loop
async def test_a_server_that_hangs_up_after_one_event_is_not_hammered(bot, keeper, time_, caplog):
    keeper.renew()

    async def hang_up(socket: ServerConnection) -> None:
        nonlocal accepted
        accepted += 1
        await socket.send(f'{{"e":"ORDER_TRADE_UPDATE","E":1,"o":{{"i":{accepted}}}}}')
        await socket.close(1008, "Too many requests")

    accepted = 0
    async with serve(hang_up, "127.0.0.1", 0) as server, bot(url_of(server)) as alice:
        await live(time_, 600)
    assert 8 < accepted < 60
    assert alice.orders == list(range(1, len(alice.orders) + 1))
    assert "close code 1008, Too many requests" in caplog.text
    assert alice.told[0] == "+started"


@pytest.mark.row(86)
@in_loop
async def test_1000_streams_open_five_sockets_a_second_the_deaf_ones_first(time_):
    """The gate that all of a process's openings to a host pass, by its own clock."""
    gate, passed = pacing.Gate(), list[tuple[float, str]]()

    async def open_(urgency: pacing.Urgency) -> None:
        await gate.turn(time_, urgency)
        passed.append((time_.monotonic(), urgency.name))

    async with asyncio.TaskGroup() as tasks:
        for urgency in (pacing.Urgency.REPLACING, pacing.Urgency.DEAF):
            for _ in range(500):
                tasks.create_task(open_(urgency))
        while len(passed) < 1000:
            for _ in range(8):
                await asyncio.sleep(0)
            time_.advance(0.1)
    times = [at for at, _ in passed]
    assert all(later - at >= 0.99 for at, later in zip(times, times[5:], strict=False))
    assert times[-1] < 220
    assert {name for _, name in passed[10:500]} == {"DEAF"}


@pytest.mark.row(86)
@in_loop
async def test_the_streams_of_a_process_pass_one_gate(keys, keeper, world, streams, time_):
    accounts = [f"account{number}" for number in range(12)]
    listen_key = keeper.renew()
    for account in accounts:
        world.put_current(account, listen_key, time_.now())
    async with asyncio.TaskGroup() as tasks:
        opened = [UserDataStream(account, keys, clock=time_) for account in accounts]
        for stream in opened:
            tasks.create_task(stream.__aenter__())
    try:
        await until(lambda: streams.connections == 5)
        await asyncio.sleep(0.05)
        assert streams.connections == 5
        time_.advance(1)
        await until(lambda: streams.connections == 10)
    finally:
        await asyncio.gather(*(stream.aclose() for stream in opened))


@listens
async def test_a_socket_that_cannot_be_replaced_is_still_heard(world, alice, streams, clock, time_, caplog):
    await passes(alice, 20)
    streams.down = True
    alice.line.renew_at = clock.now()
    alice.stream.wake()
    await until(lambda: "cannot connect" in caplog.text and alice.resting)
    await hears(alice, world.exchange)
    streams.down = False
    time_.advance(1)
    await until(lambda: streams.connections == 2)
    assert alice.told == ["+started"]


@pytest.mark.row(90)
@pytest.mark.parametrize(
    ("attributes", "opened"),
    [
        ({"environment": "demo", "streamUrl": "wss://demo-fstream.binance.com/"}, "wss://demo-fstream.binance.com"),
        ({"environment": "live", "streamUrl": "wss://fstream.binance.com"}, "wss://fstream.binance.com"),
        ({}, "wss://fstream.binance.com"),
    ],
    ids=["demo", "live", "an older record"],
)  # fmt: skip
def test_each_account_has_the_host_of_its_environment(world, clock, table, attributes, opened, monkeypatch):
    monkeypatch.delenv("BINANCE_STREAM_URL", raising=False)
    world.put_current("alice", "x" * 64, clock.now(), **attributes)
    keys = ListenKeys(world.aws.outputs["ListenKeysTableName"], dynamodb=table)
    assert keys.read("alice").url.startswith(f"{opened}/private/ws?listenKey=x")
    other = functools.partial(ListenKeys, world.aws.outputs["ListenKeysTableName"], dynamodb=table)
    assert other(base_url="ws://127.0.0.1:1").read("alice").url.startswith("ws://127.0.0.1:1/private")
