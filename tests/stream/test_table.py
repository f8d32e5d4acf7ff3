"""UserDataStream where the table cannot be read, or says what is not so."""

import asyncio
import re
import threading
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, UnauthorizedSSOTokenError
from botocore.parsers import ResponseParserError

from listenkey_keeper.stream import keys
from listenkey_keeper.stream.keys import ListenKeys, ListenKeyUnavailable
from listenkey_keeper.stream.threads import THREADS
from listenkey_keeper.stream.user_data import UserDataStream
from tests.waiting import SECONDS

from .conftest import ALICE, Bot, bounds, hears, in_loop, listening, listens, passes, until, without


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}}, "GetItem")


@listens
async def test_while_the_table_cannot_be_read_the_socket_is_heard_and_reopened(
    world, alice, table, streams, caplog
):
    table.code = "ProvisionedThroughputExceededException"
    for _ in range(3):
        reads = table.reads
        await passes(alice, 67)
        assert table.reads > reads
    await hears(alice, world.exchange)
    streams.drop_connections()
    await until(lambda: len(alice.gaps) == 2)
    said = [text for text in caplog.messages if "ProvisionedThroughputExceededException" in text]
    assert len(said) == 1
    assert "CANARY" not in caplog.text


@pytest.mark.parametrize(
    "error",
    [refusal("InternalServerError"), OSError("EIO"), RuntimeError("still expired")],
    ids=["500", "disk", "credentials"],
)
@in_loop
async def test_a_table_that_cannot_be_read_yet_is_waited_for_and_the_bot_knows(
    bot, table, keeper, time_, error
):
    keeper.renew()
    table.error = error
    async with bot() as alice:
        await without(alice)
        assert alice.told == ["-table unreadable"]
        table.error = None
        time_.advance(8)
        await listening(alice)
    assert alice.told == ["-table unreadable", "+started"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refusal("AccessDeniedException"), "AccessDeniedException"),
        (refusal("ResourceNotFoundException"), "ResourceNotFoundException"),
        (UnauthorizedSSOTokenError(), "UnauthorizedSSOTokenError"),
    ],
    ids=["denied", "no table", "signed out"],
)  # fmt: skip
@in_loop
async def test_what_no_waiting_helps_against_is_raised_at_the_start(stream, world, table, error, code):
    table.error = error
    async with stream:
        with pytest.raises(ListenKeyUnavailable, match=code) as raised:
            await anext(stream)
    assert raised.value.code == code
    assert raised.value.__context__ is None
    assert world.aws.outputs["ListenKeysTableName"] in str(raised.value)


@pytest.mark.row(90)
@in_loop
async def test_without_the_stream_url_it_needs_it_is_refused_in_one_line(world, clock, table, monkeypatch):
    monkeypatch.delenv("BINANCE_STREAM_URL", raising=False)
    world.put_current("alice", "x" * 64, clock.now(), environment="live", streamUrl="")
    stream = UserDataStream("alice", ListenKeys(world.aws.outputs["ListenKeysTableName"], dynamodb=table))
    async with stream:
        with pytest.raises(ListenKeyUnavailable, match=r"NO_STREAM_URL.*BINANCE_STREAM_URL") as raised:
            await anext(stream)
    assert "\n" not in str(raised.value)


@pytest.mark.row(84)
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."),
        OSError("Too many open files"),
        ResponseParserError("Unable to parse response"),
        refusal("AccessDeniedException"),
        ZeroDivisionError(),
    ],
    ids=lambda error: type(error).__name__,
)
@listens
async def test_after_the_first_read_no_error_of_the_client_ends_the_stream(
    world, alice, table, keeper, streams, error
):
    table.error = error
    reads = table.reads
    await passes(alice, 67)
    assert table.reads > reads
    streams.drop_connections()
    await until(lambda: len(alice.gaps) == 2)
    table.error = None
    world.exchange.rotate(ALICE, "usdm")
    keeper.renew()
    await listening(alice)
    alice.stream.wake()
    await until(lambda: len(alice.gaps) == 3)
    await hears(alice, world.exchange)


@pytest.mark.row(89)
@in_loop
async def test_one_account_that_is_denied_does_not_touch_the_others(
    world, keys, keeper, streams, time_, table
):
    listen_key = keeper.renew()
    accounts = [f"account{number:02}" for number in range(100)]
    for account in accounts:
        world.put_current(account, listen_key, time_.now())
    get_item = table.get_item

    def get(**asked):
        if asked["Key"]["accountId"]["S"] == "account42":
            raise refusal("AccessDeniedException")
        return get_item(**asked)

    table.get_item = get
    opened = [UserDataStream(account, keys, clock=time_) for account in accounts]
    errors = []

    async def follow(stream: UserDataStream) -> None:
        async with stream:
            try:
                async for _ in stream:
                    pass
            except ListenKeyUnavailable as error:
                errors.append(str(error))

    tasks = [asyncio.create_task(follow(stream)) for stream in opened]
    while streams.connections < 99:
        time_.advance(1)
        await asyncio.sleep(0.01)
    assert len(errors) == 1
    assert errors[0].startswith("account42: ")
    await asyncio.gather(*(stream.aclose() for stream in opened))
    await asyncio.gather(*tasks)


@pytest.mark.row(83)
@in_loop
async def test_a_table_that_hangs_delays_no_reconnect_and_no_thread_of_the_bot(
    world, bot, table, keeper, streams, time_
):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        await passes(alice, 60)
        table.answering.clear()
        reads = table.reads
        streams.drop_connections()
        await until(lambda: len(alice.gaps) == 2)
        await until(lambda: table.reads > reads)
        assert await asyncio.to_thread(lambda: "free") == "free"
        await hears(alice, world.exchange)
    assert len(asyncio.all_tasks()) == 1  # it did not wait for the table to close, either
    table.answering.set()


@listens
async def test_a_word_that_comes_while_the_table_is_read_is_not_lost(alice, table):
    table.answering.clear()
    reads = table.reads
    for _ in range(2):
        alice.stream.wake()
        await until(lambda: table.reads == reads + 1)
    table.answering.set()
    await until(lambda: table.reads == reads + 2)


@pytest.mark.row(83)
@in_loop
async def test_the_table_is_read_for_deaf_streams_first(world, keys, keeper, table, time_):
    """Of the two threads that read, one hangs; while the other is busy, two more streams want to read."""
    listen_key, asked = keeper.renew(), []
    held = {"busy": threading.Event(), "hanging": threading.Event()}
    get_item = table.get_item

    def get(**request):
        account = request["Key"]["accountId"]["S"]
        asked.append(account)
        held.get(account, table.answering).wait(SECONDS)
        return get_item(**request)

    streams = {name: UserDataStream(name, keys, clock=time_) for name in (*held, "calm", "deaf")}
    for name in streams:
        world.put_current(name, listen_key, time_.now())
    async with AsyncExitStack() as opened:
        for name in (*held, "calm"):
            await opened.enter_async_context(streams[name])
            await until(lambda name=name: Bot(streams[name]).resting and streams[name].alive)
        table.get_item = get
        for name in held:
            streams[name].wake()
        await until(lambda: len(asked) == 2)
        streams["calm"].wake()
        await until(lambda: THREADS._jobs.qsize() == 1)
        await opened.enter_async_context(streams["deaf"])
        await until(lambda: THREADS._jobs.qsize() == 2)
        held["busy"].set()
        await until(lambda: asked[2:] == ["deaf", "calm"])
        held["hanging"].set()


class BlackHole:
    """A DynamoDB client. While it `hangs`, a call fails after three real seconds."""

    def __init__(self, client) -> None:
        self._client = client
        self.hangs = False

    def get_item(self, **asked):
        if self.hangs:
            time.sleep(3)
            raise OSError("timed out")
        return self._client.get_item(**asked)


@pytest.mark.slow
@pytest.mark.row(83)
def test_200_lost_sockets_are_all_back_while_the_table_hangs(world, streams, keeper, clock):
    """At real speed: within a minute."""
    listen_key = keeper.renew()
    hole = BlackHole(world.aws.client("dynamodb"))
    keys = ListenKeys(world.aws.outputs["ListenKeysTableName"], dynamodb=hole, base_url=streams.url)
    accounts = [f"account{number:03}" for number in range(200)]

    async def run() -> float:
        now = UserDataStream("x", keys)._clock.now()
        for account in accounts:
            world.put_current(account, listen_key, now)
        opened = [UserDataStream(account, keys, ask=False) for account in accounts]
        for stream in opened:
            await stream.__aenter__()
        async with asyncio.timeout(120):
            while not all(stream.alive for stream in opened):
                await asyncio.sleep(0.1)
        hole.hangs = True
        threads = threading.active_count()
        for stream in opened:
            stream._follower.line.opened -= 60  # they have lived for long
            stream.wake()  # and every one of them wants to read
        began = time.monotonic()
        streams.drop_connections()
        async with asyncio.timeout(60):
            while not all(stream.alive and stream.state.reconnects for stream in opened):
                await asyncio.sleep(0.1)
                assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 5)
        took = time.monotonic() - began
        # The bot's own threads: as many as asyncio has of them.
        assert threading.active_count() - threads <= 250
        async with asyncio.timeout(20):
            await asyncio.gather(*(stream.aclose() for stream in opened))
        return took

    took = asyncio.run(run())
    print(f"200 streams back after {took:.1f} s")  # noqa: T201 - a measured number


@pytest.mark.row(87)
@pytest.mark.parametrize("ahead", [30, -30, 300, -300])
@in_loop
async def test_whatever_the_bots_clock_says_a_lost_event_lies_in_its_gap(
    world, bot, table, keeper, streams, clock, time_, ahead, caplog
):
    keeper.renew()
    clock.jump(ahead)
    table.ahead = ahead
    true = timedelta(seconds=ahead)
    async with bot() as alice:
        await listening(alice)
        await passes(alice, 20)
        await passes(alice, 67)
        streams.down = True
        streams.drop_connections()
        await without(alice)
        lost_at = clock.now() - true
        time_.advance(3)
        streams.down = False
        time_.advance(3)
        await listening(alice)
    assert len(alice.gaps) == 2
    for gap, at in zip(alice.gaps, (clock.now() - true - timedelta(seconds=93), lost_at), strict=True):
        since, until_ = bounds(gap)
        assert since - timedelta(seconds=1) <= at <= until_ + timedelta(seconds=1)
        assert until_ - since < timedelta(seconds=20)
    [said] = [text for text in caplog.messages if "clock" in text]
    where = "ahead of" if ahead > 0 else "behind"
    told = "this machine's clock is (.*) s {} AWS's: gaps are corrected by that; set it right \\(NTP\\)"
    assert abs(float(re.fullmatch(told.format(where), said)[1]) - abs(ahead)) <= 1


@pytest.fixture
def half_past(monkeypatch):
    """Let each answer come in the middle of a second, so that it leaves half a second open to both sides."""
    monkeypatch.setattr(keys, "_now", lambda: datetime.now(UTC).replace(microsecond=500_000))


@pytest.mark.row(87)
@listens
async def test_a_renewal_just_before_the_expiry_proves_no_life_by_a_slow_clock(
    world, alice, keeper, bus, clock, time_, half_past
):
    renewed_at = clock.now() + timedelta(seconds=0.4)  # by the bot's clock, which is so much behind
    world.put_current("alice", keeper.listen_key, renewed_at)
    world.exchange.expire(ALICE, "usdm")
    await without(alice)
    for _ in range(3):
        time_.advance(1)
        await without(alice)
    assert len(bus.told) == 1
    assert alice.told == ["+started", "-key expired"]


@pytest.mark.row(87)
@listens
async def test_a_renewal_just_before_the_socket_proves_no_life_by_a_slow_clock(
    world, alice, keeper, bus, streams, clock, half_past
):
    await passes(alice, 60)
    renewed_at = clock.now() + timedelta(seconds=0.4)
    world.put_current("alice", keeper.listen_key, renewed_at)
    streams.drop_connections()
    world.exchange.expire(ALICE, "usdm")  # nobody hears of it
    await until(lambda: len(alice.gaps) == 2)
    for _ in range(4):
        await passes(alice, 10)
    assert len(bus.told) == 1


@pytest.mark.row(87)
def test_a_slow_answer_does_not_shift_the_clock(world, keys_at, table, keeper, monkeypatch):
    keeper.renew()
    read = keys_at("ws://127.0.0.1:1")
    table.ahead = 300
    read.read("alice")
    times = iter((datetime.now(UTC) - timedelta(seconds=8), datetime.now(UTC)))
    monkeypatch.setattr(keys, "_now", lambda: next(times))
    read.read("alice")
    assert abs(read.clock_offset + timedelta(seconds=300)) <= timedelta(seconds=1)
    monkeypatch.undo()
    table.ahead = 0  # the clock is set
    read.read("alice")
    assert abs(read.clock_offset) <= timedelta(seconds=1)
