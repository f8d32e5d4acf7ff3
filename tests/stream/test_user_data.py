"""UserDataStream against the stand-in: what it yields, what it follows, where it says that it missed some."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from websockets.asyncio.server import ServerConnection, serve

from listenkey_keeper.stream import outbox
from listenkey_keeper.stream.gaps import MARGIN, Gap
from listenkey_keeper.stream.keys import ListenKeys, ListenKeyUnavailable
from listenkey_keeper.stream.user_data import UserDataStream
from local.binance.exchange import PATHS
from local.binance.stream import StreamServer

from .conftest import ALICE, Bot, in_loop, listening, passes, until, without
from .relay import Relay

HOUR = 3600


def bounds(gap: Gap) -> tuple[datetime, datetime]:
    """Return a gap's bounds without the margins."""
    return gap.since + MARGIN, gap.until - MARGIN


@pytest.mark.parametrize("product", PATHS)
@in_loop
async def test_orders_of_every_product_are_yielded_unwrapped(world, bot, keeper, product):
    keeper.product = product
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        numbers = [world.exchange.emit_order(ALICE, product) for _ in range(3)]
        await until(lambda: alice.orders == numbers)
    assert {event["e"] for event in alice.items[1:]} == {"ORDER_TRADE_UPDATE"}


@in_loop
async def test_the_first_item_is_the_gap_of_the_opening(bot, keeper, clock):
    keeper.renew()
    async with bot() as alice:
        await until(lambda: alice.items)
    assert alice.items == [Gap(clock.now() - MARGIN, clock.now() + MARGIN, "started")]


@in_loop
async def test_a_bot_that_restarts_says_since_when(bot, keeper, clock):
    keeper.renew()
    handled = clock.now() - timedelta(hours=3)
    async with bot(since=handled) as alice:
        await until(lambda: alice.items)
    assert bounds(alice.gaps[0]) == (handled, clock.now())


@in_loop
async def test_it_waits_for_an_account_that_has_no_key_yet(bot, keeper, time_):
    async with bot() as alice:
        await until(time_.sleeping)
        assert (alice.items, alice.stream.alive, alice.stream.expires_at) == ([], False, None)
        keeper.renew()
        time_.advance(8)
        await listening(alice)


@in_loop
async def test_it_says_until_when_the_key_lives(bot, keeper, clock, time_):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        assert alice.stream.expires_at == clock.now() + timedelta(hours=1)
        assert repr(alice.stream) == "<UserDataStream alice: alive>"
        time_.advance(HOUR)
        assert not alice.stream.alive
        assert repr(alice.stream) == "<UserDataStream alice: not alive>"


@in_loop
async def test_a_changed_key_is_followed_before_the_old_socket_goes(
    world, bot, keeper, streams, clock, time_
):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        alive_at = clock.now()
        await passes(alice, 30)
        world.exchange.rotate(ALICE, "usdm")
        lost = world.exchange.emit_order(ALICE)
        keeper.renew()
        alice.stream.wake()
        await until(lambda: len(alice.gaps) == 2)
        assert streams.connections == 2
        heard = world.exchange.emit_order(ALICE)
        await until(lambda: alice.orders == [heard])
        assert lost not in alice.orders
        assert alice.gaps[1].why == "key changed"
        assert bounds(alice.gaps[1]) == (alive_at, clock.now())
        time_.advance(5)
        await until(lambda: streams.connections == 1)
        assert alice.stream.alive
    assert len(alice.gaps) == 2


@in_loop
async def test_without_a_word_a_changed_key_is_found_within_a_minute(world, bot, keeper, time_):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        world.exchange.rotate(ALICE, "usdm")
        keeper.renew()
        await passes(alice, 66)
        await until(lambda: len(alice.gaps) == 2)


@in_loop
async def test_the_gap_of_a_key_that_died_silently_begins_when_it_was_last_known_to_live(
    world, bot, keeper, clock, time_
):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        await passes(alice, 600)
        keeper.renew()
        renewed_at = clock.now()
        alice.stream.wake()
        await until(lambda: alice.stream.expires_at == renewed_at + timedelta(hours=1))
        await passes(alice, 100)
        world.exchange.handle("DELETE", PATHS["usdm"], {"X-MBX-APIKEY": ALICE})
        await passes(alice, 600)
        keeper.renew()
        alice.stream.wake()
        await until(lambda: len(alice.gaps) == 2)
    assert bounds(alice.gaps[1]) == (renewed_at, clock.now())


@in_loop
async def test_an_event_proves_that_the_key_lived(world, bot, keeper, clock, time_):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        await passes(alice, 600)
        heard_at = clock.now()
        world.exchange.emit_order(ALICE)
        await until(lambda: alice.orders)
        await passes(alice, 600)
        world.exchange.rotate(ALICE, "usdm")
        keeper.renew()
        alice.stream.wake()
        await until(lambda: len(alice.gaps) == 2)
    assert bounds(alice.gaps[1]) == (heard_at, clock.now())


@in_loop
async def test_another_product_in_the_row_is_another_url(world, bot, keeper, streams, time_):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        keeper.product = "coinm"
        keeper.renew()
        alice.stream.wake()
        await until(lambda: len(alice.gaps) == 2)
        # The old product's key lives on, and is heard until its socket goes.
        both = [world.exchange.emit_order(ALICE, "usdm"), world.exchange.emit_order(ALICE, "coinm")]
        await until(lambda: sorted(alice.orders) == both)
        time_.advance(5)
        await until(lambda: streams.connections == 1)


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
        time_.advance(HOUR - 1)
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
    world, streams, keeper, time_, clock, keys
):
    world.exchange.lease_seconds = 100 * HOUR
    async with Relay(streams.port) as relay:
        table = world.aws.outputs["ListenKeysTableName"]
        keys = ListenKeys(table, dynamodb=world.aws.client("dynamodb"), base_url=relay.url)
        keeper.renew()
        async with Bot(UserDataStream("alice", keys, clock=time_)) as alice:
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
            heard = world.exchange.emit_order(ALICE)
            await until(lambda: alice.orders == [heard])
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
        heard = world.exchange.emit_order(ALICE)
        await until(lambda: alice.orders == [heard])
    assert lost not in alice.orders
    assert alice.gaps[1].why == "connection lost"
    assert bounds(alice.gaps[1]) == (proved_at, clock.now())


@in_loop
async def test_a_connection_that_answers_no_ping_is_given_up(world, streams, keeper, time_, clock):
    async with Relay(streams.port) as relay:
        table = world.aws.outputs["ListenKeysTableName"]
        keys = ListenKeys(table, dynamodb=world.aws.client("dynamodb"), base_url=relay.url)
        keeper.renew()
        async with Bot(UserDataStream("alice", keys, clock=time_)) as alice:
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
async def test_an_expired_key_leaves_a_gap_until_there_is_another(world, bot, keeper, streams, clock, time_):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        await passes(alice, 600)
        died_at = clock.now()
        world.exchange.expire(ALICE, "usdm")
        await without(alice)
        await until(lambda: streams.connections == 0)
        time_.advance(8)  # looks at the table: the same key
        lost = world.exchange.emit_order(ALICE)
        await without(alice)
        assert streams.connections == 0
        keeper.renew()
        time_.advance(8)
        await listening(alice)
        heard = world.exchange.emit_order(ALICE)
        await until(lambda: alice.orders == [heard])
    assert lost not in alice.orders
    assert alice.gaps[1].why == "key expired"
    assert bounds(alice.gaps[1]) == (died_at, clock.now())


@in_loop
async def test_a_key_that_was_extended_after_binance_called_it_expired_is_used_again(
    world, bot, keeper, clock, time_
):
    listen_key = keeper.renew()
    async with bot() as alice:
        await listening(alice)
        world.exchange._audiences[listen_key].tell({"e": "listenKeyExpired", "E": clock.timestamp() * 1000})
        await without(alice)
        time_.advance(1)
        keeper.renew()
        time_.advance(8)
        await listening(alice)
    assert len(alice.gaps) == 2


@in_loop
async def test_past_the_hour_that_the_table_knows_of_an_expiry_may_have_been_announced_late(
    world, bot, keeper, clock, time_
):
    listen_key = keeper.renew()
    async with bot() as alice:
        await listening(alice)
        expires_at = clock.now() + timedelta(hours=1)
        await passes(alice, HOUR - 10)
        world.exchange.handle("PUT", PATHS["usdm"], {"X-MBX-APIKEY": ALICE})  # and not recorded
        time_.advance(300)
        event = {"e": "listenKeyExpired", "E": clock.timestamp() * 1000}
        world.exchange._audiences[listen_key].tell(event)
        await without(alice)
        world.exchange.rotate(ALICE, "usdm")
        keeper.renew()
        time_.advance(8)
        await until(lambda: len(alice.gaps) == 2)
    assert bounds(alice.gaps[1])[0] == expires_at


class Table:
    """The table's client, which fails with `code` while there is one."""

    def __init__(self, client: Any, code: str = "") -> None:
        self._client = client
        self.code = code
        self.reads = 0

    def get_item(self, **asked: Any) -> Any:
        self.reads += 1
        if self.code:
            raise ClientError({"Error": {"Code": self.code, "Message": "CANARY"}}, "GetItem")
        return self._client.get_item(**asked)


@pytest.fixture
def table(world) -> Table:
    return Table(world.aws.client("dynamodb"))


@pytest.fixture
def flaky(world, table, streams, time_) -> Bot:
    name = world.aws.outputs["ListenKeysTableName"]
    keys = ListenKeys(name, dynamodb=table, base_url=streams.url)
    return Bot(UserDataStream("alice", keys, clock=time_))


@in_loop
async def test_while_the_table_cannot_be_read_the_open_socket_is_heard_and_reopened(
    world, flaky, table, keeper, streams, time_, caplog
):
    keeper.renew()
    async with flaky as alice:
        await listening(alice)
        table.code = "ProvisionedThroughputExceededException"
        for _ in range(3):
            reads = table.reads
            await passes(alice, 66)
            assert table.reads > reads
        number = world.exchange.emit_order(ALICE)
        await until(lambda: alice.orders == [number])
        streams.drop_connections()
        await without(alice)
        time_.advance(1)
        await listening(alice)
    said = [text for text in caplog.messages if "ProvisionedThroughputExceededException" in text]
    assert said == ["alice: no listenKey can be read (ProvisionedThroughputExceededException)"]
    assert "CANARY" not in caplog.text


@in_loop
async def test_a_table_that_cannot_be_read_yet_is_waited_for(flaky, table, keeper, time_):
    keeper.renew()
    table.code = "InternalServerError"
    async with flaky as alice:
        await until(lambda: table.reads == 1)
        table.code = ""
        await until(time_.sleeping)
        time_.advance(8)
        await listening(alice)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
@in_loop
async def test_what_no_waiting_helps_against_is_raised_at_the_start(flaky, table, code):
    table.code = code
    async with flaky.stream as stream:
        with pytest.raises(ListenKeyUnavailable, match=code) as raised:
            await anext(stream)
        assert raised.value.code == code
        assert raised.value.__context__ is None


@in_loop
async def test_a_lost_permission_is_logged_and_ends_nothing(flaky, table, keeper, time_):
    keeper.renew()
    async with flaky as alice:
        await listening(alice)
        table.code = "AccessDeniedException"
        await passes(alice, 66)
        await until(lambda: table.reads == 2)
        assert alice.stream.alive
    assert len(alice.items) == 1


@in_loop
async def test_a_bug_is_raised_to_the_bot_and_does_not_hang(flaky, table):
    table.get_item = lambda **_: 1 / 0
    async with flaky.stream as stream:
        with pytest.raises(ZeroDivisionError):
            await anext(stream)


@in_loop
async def test_attempts_to_connect_are_few_while_nobody_answers(flaky, table, keeper, streams, clock, time_):
    keeper.renew()
    streams.stop()
    async with flaky:
        end = clock.monotonic() + HOUR
        while clock.monotonic() < end:
            await until(time_.sleeping)
            time_.advance(max(0.0, time_.sleeping()[0]))
            await asyncio.sleep(0.002)
    # Full jitter up to a minute is two a minute, and a few more in the beginning. Each reads the table first.
    assert 20 < table.reads < 240


@in_loop
async def test_a_server_that_hangs_up_at_once_is_not_hammered(world, keeper, table, time_):
    keeper.renew()

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.close()

    accepted = 0
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    keys = ListenKeys(world.aws.outputs["ListenKeysTableName"], dynamodb=table, base_url=url)
    async with UserDataStream("alice", keys, clock=time_):
        for _ in range(600):
            time_.advance(1)
            await asyncio.sleep(0.002)
    server.close()
    assert 5 < accepted < 60


@in_loop
async def test_what_nobody_takes_is_dropped_and_lies_in_a_gap(world, keys, keeper, clock, time_, monkeypatch):
    monkeypatch.setattr(outbox, "MOST", 10)
    keeper.renew()
    async with UserDataStream("alice", keys, clock=time_) as stream:
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
async def test_taking_an_item_may_be_given_up_and_loses_nothing(world, keys, keeper, time_):
    keeper.renew()
    async with UserDataStream("alice", keys, clock=time_) as stream:
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
async def test_leaving_closes_everything_and_ends_who_still_waits(world, keys, keeper, streams, time_):
    listen_key = keeper.renew()
    stream = UserDataStream("alice", keys, clock=time_)
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
async def test_it_may_be_cancelled_at_any_moment(keys, keeper, streams, time_, moment):
    keeper.renew()
    async with UserDataStream("alice", keys, clock=time_):
        await asyncio.sleep(moment * 0.001)
    assert len(asyncio.all_tasks()) == 1
    await until(lambda: streams.connections == 0)


@in_loop
async def test_it_is_open_inside_of_the_block_only_and_once(keys, keeper, time_):
    keeper.renew()
    stream = UserDataStream("alice", keys, clock=time_)
    with pytest.raises(RuntimeError, match="async with"):
        await anext(stream)
    async with stream:
        await anext(stream)
    with pytest.raises(RuntimeError, match="once"):
        async with stream:
            pass


@in_loop
async def test_it_sends_nothing_to_the_rest_api(world, bot, keeper, streams, time_):
    keeper.renew()
    before = world.exchange.count
    async with bot() as alice:
        await listening(alice)
        streams.drop_connections()
        await without(alice)
        time_.advance(1)
        await listening(alice)
        world.exchange.expire(ALICE, "usdm")
        await without(alice)
        time_.advance(100)
    assert world.exchange.count == before


@in_loop
async def test_only_events_are_yielded_whatever_else_a_server_says(world, keeper, table, time_):
    said = [
        "not JSON", b"\xff\xfe", "7", "null", "[]", '"text"', '{"result":null,"id":1}', '{"data":3}',
        '{"e":"NO_TIME"}', '{"e":"ODD_TIME","E":"soon"}', '{"e":"FAR","E":1e300}', '{"e":"x","data":1,"E":1}',
        '{"stream":"s","data":{"e":"WRAPPED","E":1}}', '{"e":"listenKeyExpired"}',
    ]  # fmt: skip

    async def talk(socket: ServerConnection) -> None:
        for message in said:
            await socket.send(message)
        await socket.wait_closed()

    async with serve(talk, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        keys = ListenKeys(world.aws.outputs["ListenKeysTableName"], dynamodb=table, base_url=url)
        keeper.renew()
        async with Bot(UserDataStream("alice", keys, clock=time_)) as alice:
            await until(lambda: len(alice.items) == 6)
            await without(alice)
    assert [item["e"] for item in alice.items[1:]] == ["NO_TIME", "ODD_TIME", "FAR", "x", "WRAPPED"]


def test_there_are_streams_for_many_accounts(world, streams: StreamServer) -> None:
    """One ListenKeys, and so one boto3 client, for all of them."""
    keys = ListenKeys("table", dynamodb=Table(None), base_url=streams.url)
    assert len({repr(UserDataStream(f"account{number}", keys)) for number in range(10)}) == 10
