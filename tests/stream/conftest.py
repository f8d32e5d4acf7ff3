"""Fixtures: a stand-in with websockets, the keeper's hand on the table, time that moves when told to."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime
from typing import Any

import pytest

from listenkey_keeper.stream.gaps import Gap
from listenkey_keeper.stream.keys import ListenKeys
from listenkey_keeper.stream.outbox import Event
from listenkey_keeper.stream.user_data import UserDataStream
from local.binance.exchange import PATHS
from local.binance.stream import StreamServer
from local.clock import VirtualClock
from local.world import World

ALICE = "alice".ljust(64, "0")
SECONDS = 30  # real ones, for whatever must happen


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


async def without(bot: "Bot") -> None:
    """Wait until the stream has lost what it listened to, and waits for its next look at the table."""
    await until(lambda: not bot.stream.alive and len(bot.left) == 1 and 0 < bot.left[0] < 8)


class StreamClock:
    """A stream's time: the virtual clock's. Who sleeps by it wakes when the time is moved on."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        sleeper = asyncio.get_running_loop().create_future()
        entry = (self._clock.monotonic() + seconds, sleeper)
        with self._lock:
            self._sleepers.append(entry)
        try:
            await sleeper
        finally:
            with self._lock:
                self._sleepers.remove(entry)

    def sleeping(self) -> list[float]:
        """Return how many seconds each sleeper has left."""
        with self._lock:
            return sorted(at - self._clock.monotonic() for at, _ in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move the time on; from any thread."""
        self._clock.advance(seconds)
        with self._lock:
            for at, sleeper in self._sleepers:
                if at <= self._clock.monotonic():
                    sleeper.get_loop().call_soon_threadsafe(_wake, sleeper)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


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
        await self.stream.__aexit__(None, None, None)
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
def keys(world: World, streams: StreamServer) -> ListenKeys:
    table = world.aws.outputs["ListenKeysTableName"]
    return ListenKeys(table, dynamodb=world.aws.client("dynamodb"), base_url=streams.url)


@pytest.fixture
def bot(keys: ListenKeys, time_: StreamClock) -> Callable[..., Bot]:
    return lambda **options: Bot(UserDataStream("alice", keys, clock=time_, **options))


__all__ = ["ALICE", "Bot", "Keeper", "StreamClock", "in_loop", "listening", "passes", "until", "without"]
