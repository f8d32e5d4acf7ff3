"""Fixtures: a stand-in with websockets, the keeper's hand on the table, time that moves when told to."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from listenkey_keeper.stream.gaps import MARGIN, Gap
from listenkey_keeper.stream.keys import ListenKeys
from listenkey_keeper.stream.outbox import Event
from listenkey_keeper.stream.user_data import UserDataStream
from local.binance.exchange import PATHS, Exchange
from local.binance.stream import StreamServer
from local.clock import VirtualClock
from local.world import World
from tests.waiting import SECONDS

from .clock import StreamClock

ALICE = "alice".ljust(64, "0")
HOUR = 3600


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test."""

    async def bounded(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(SECONDS):
            await test(*args, **kwargs)

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(bounded(*args, **kwargs))

    return run


async def until(happened: Callable[[], Any]) -> None:
    """Wait for something that a socket or another thread brings about."""
    async with asyncio.timeout(SECONDS):
        while not happened():
            await asyncio.sleep(0.002)


def bounds(gap: Gap) -> tuple[datetime, datetime]:
    """Return a gap's bounds without the margins."""
    return gap.since + MARGIN, gap.until - MARGIN


async def listening(bot: "Bot") -> None:
    """Wait until the stream is alive and has nothing to do before its next look and its next ping."""
    await until(lambda: bot.stream.alive and bot.left and 0 < min(bot.left) <= 20 < max(bot.left))


async def passes(bot: "Bot", seconds: float) -> None:
    """Let time pass for a stream that listens, 20 seconds or more: until it has pinged and looked."""
    clock: Any = bot.stream._clock
    clock.advance(seconds)
    await until(
        lambda: bot.stream._follower.line and bot.stream._follower.line.proof.delivered == clock.now()
    )
    await listening(bot)


async def hears(bot: "Bot", exchange: Exchange) -> None:
    """Let an order happen, and wait until the bot has heard it: it, and no order before it."""
    number = exchange.emit_order(ALICE)
    await until(lambda: bot.orders == [number])


async def follows(bot: "Bot", keeper: "Keeper") -> None:
    """Record the account's key, and wait until the stream has followed it there: its second gap."""
    keeper.renew()
    bot.stream.wake()
    await until(lambda: len(bot.gaps) == 2)


async def without(bot: "Bot") -> None:
    """Wait until the stream has lost what it listened to, and waits for its next look at the table."""
    await until(lambda: not bot.stream.alive and len(bot.left) == 1 and 0 < bot.left[0] < 8)


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


class Keeper:
    """What the function does for one account, by hand: start or extend its key, and record it."""

    def __init__(self, world: World, clock: VirtualClock, product: str = "usdm") -> None:
        self.world, self.product = world, product
        self._clock = clock

    def renew(self) -> str:
        exchange = self.world.exchange
        exchange.handle("POST", PATHS[self.product], {"X-MBX-APIKEY": ALICE})
        listen_key = str(exchange.live_key(ALICE, self.product))
        self.record(listen_key)
        return listen_key

    def record(self, listen_key: str, **attributes: Any) -> None:
        self.world.put_current("alice", listen_key, self._clock.now(), product=self.product, **attributes)


class Bot:
    """Takes everything from a stream, as it comes."""

    def __init__(self, stream: UserDataStream) -> None:
        self.stream = stream
        self.items: list[Event | Gap] = []

    @property
    def orders(self) -> list[int]:
        return [item["o"]["i"] for item in self.items if not isinstance(item, Gap)]

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    @property
    def left(self) -> list[float]:
        """How many seconds the stream's sleepers have left."""
        clock: Any = self.stream._clock
        return list(clock.sleeping())

    async def __aenter__(self) -> "Bot":
        await self.stream.__aenter__()
        self._task = asyncio.create_task(self._take())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stream.__aexit__()
        await self._task

    async def _take(self) -> None:
        async for item in self.stream:
            self.items.append(item)


@pytest.fixture
def time_(clock: VirtualClock) -> StreamClock:
    return StreamClock(clock)


@pytest.fixture
def streams(world: World) -> Iterator[StreamServer]:
    world.exchange.add_account(ALICE)
    with StreamServer(world.exchange) as streams:
        yield streams


@pytest.fixture
def keeper(world: World, clock: VirtualClock) -> Keeper:
    return Keeper(world, clock)


@pytest.fixture
def table(world: World) -> Any:
    return Table(world.aws.client("dynamodb"))


@pytest.fixture
def keys_at(world: World, table: Any) -> Callable[[str], ListenKeys]:
    """Make ListenKeys whose URLs are of this host."""
    name = world.aws.outputs["ListenKeysTableName"]
    return lambda url: ListenKeys(name, dynamodb=table, base_url=url)


@pytest.fixture
def keys(keys_at: Callable[[str], ListenKeys], streams: StreamServer) -> ListenKeys:
    return keys_at(streams.url)


@pytest.fixture
def stream(keys: ListenKeys, time_: StreamClock) -> UserDataStream:
    return UserDataStream("alice", keys, clock=time_)


@pytest.fixture
def bot(
    keys_at: Callable[[str], ListenKeys], streams: StreamServer, time_: StreamClock
) -> Callable[..., Bot]:
    """Make a bot, of the stand-in unless another URL is given."""

    def make(url: str = streams.url, **options: Any) -> Bot:
        return Bot(UserDataStream("alice", keys_at(url), clock=time_, **options))

    return make
