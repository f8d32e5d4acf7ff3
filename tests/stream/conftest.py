"""Fixtures: a stand-in with websockets, a simple keeper, bots, and a clock that the test moves."""

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from listenkey_keeper.stream import pacing
from listenkey_keeper.stream.gaps import MARGIN, Gap, Interrupted
from listenkey_keeper.stream.keys import ListenKeys
from listenkey_keeper.stream.line import Line
from listenkey_keeper.stream.outbox import Item
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
    """Make a pytest test of an async function, with a time limit."""

    async def bounded(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(SECONDS):
            await test(*args, **kwargs)

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(bounded(*args, **kwargs))

    return run


def listens(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of an async function that gets the bot `alice`, whose stream already listens.

    Its key has just been renewed.
    """

    @functools.wraps(test)
    async def opened(alice: "Bot", **fixtures: Any) -> None:
        async with alice:
            await listening(alice)
            await test(alice=alice, **fixtures)

    return in_loop(opened)


async def until(happened: Callable[[], Any]) -> None:
    """Wait until `happened` returns something true, because of a socket or another thread."""
    async with asyncio.timeout(SECONDS):
        while not happened():
            await asyncio.sleep(0.002)


def bounds(gap: Gap) -> tuple[datetime, datetime]:
    """Return a gap's bounds without the margins."""
    return gap.since + MARGIN, gap.until - MARGIN


async def listening(bot: "Bot") -> None:
    """Wait until the stream is alive and only waits for its next look at the table and its next ping."""
    await until(lambda: bot.stream.alive and bot.resting)


async def passes(bot: "Bot", seconds: float) -> None:
    """Let 10 seconds or more pass for a stream that listens; wait until it has pinged and looked."""
    clock: Any = bot.stream._clock
    clock.advance(seconds)
    just_now = timedelta(seconds=2)  # a corrected clock has a precision of a second
    await until(lambda: bot.line and bot.stream._follower.now() - bot.line.proof.delivered < just_now)
    await listening(bot)


async def hears(bot: "Bot", exchange: Exchange) -> None:
    """Emit an order, and wait until the bot has received this order and no other."""
    number = exchange.emit_order(ALICE)
    await until(lambda: bot.orders == [number])


async def follows(bot: "Bot", keeper: "Keeper") -> None:
    """Renew and record the account's key, and wait until the stream has switched to it: its second gap."""
    keeper.renew()
    bot.stream.wake()
    await until(lambda: len(bot.gaps) == 2)


async def without(bot: "Bot") -> None:
    """Wait until the stream has no connection, and waits for its next look at the table."""
    await until(lambda: not bot.stream.alive and bot.resting)


class Table:
    """The table's client. Calls fail while `code` or `error` is set, and hang while `answering` is cleared.

    The Date header of its answers is `ahead` seconds behind this machine's clock.
    """

    def __init__(self, client: Any, code: str = "") -> None:
        self._client = client
        self.code = code
        self.error: Exception | None = None
        self.answering = threading.Event()
        self.answering.set()
        self.ahead = 0.0
        self.reads = 0

    def get_item(self, **asked: Any) -> Any:
        self.reads += 1
        self.answering.wait(SECONDS)
        if self.error:
            raise self.error
        if self.code:
            raise ClientError({"Error": {"Code": self.code, "Message": "CANARY"}}, "GetItem")
        answer = self._client.get_item(**asked)
        date = datetime.now(UTC) - timedelta(seconds=self.ahead)
        answer["ResponseMetadata"]["HTTPHeaders"]["date"] = format_datetime(date, usegmt=True)
        return answer


class Bus:
    """EventBridge as a bot calls it. `told` has the details of the events that it has received."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def put_events(self, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803 - boto3's
        self.told += [json.loads(entry["Detail"]) for entry in Entries]
        return {"FailedEntryCount": 0, "Entries": [{}]}


class Keeper:
    """Does what the function does for one account: creates or extends its key, and records it."""

    def __init__(self, world: World, clock: VirtualClock, product: str = "usdm") -> None:
        self.world, self.product = world, product
        self._clock = clock

    def renew(self) -> str:
        exchange = self.world.exchange
        exchange.handle("POST", PATHS[self.product], {"X-MBX-APIKEY": ALICE})
        self.listen_key = str(exchange.live_key(ALICE, self.product))
        self.record(self.listen_key)
        return self.listen_key

    def record(self, listen_key: str, **attributes: Any) -> None:
        self.world.put_current("alice", listen_key, self._clock.now(), product=self.product, **attributes)


class Bot:
    """Collects the items of a stream as they arrive. It takes no more while `takes` is cleared."""

    def __init__(self, stream: UserDataStream) -> None:
        self.stream = stream
        self.items: list[Item] = []
        self.takes = asyncio.Event()
        self.takes.set()

    @property
    def orders(self) -> list[int]:
        return [item["o"]["i"] for item in self.items if isinstance(item, dict)]

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    @property
    def interruptions(self) -> list[Interrupted]:
        return [item for item in self.items if isinstance(item, Interrupted)]

    @property
    def told(self) -> list[str]:
        """The items that are not events, in their order: "-why" for an Interrupted, "+why" for a Gap."""
        signs = {Interrupted: "-", Gap: "+"}
        return [signs[type(item)] + item.why for item in self.items if not isinstance(item, dict)]

    @property
    def line(self) -> Line | None:
        return self.stream._follower.line

    @property
    def resting(self) -> bool:
        """Whether both of the stream's tasks wait for time to pass, and no ping is in progress."""
        follower, pinging = self.stream._follower, self.line._pinging if self.line else None
        waiters = follower.look._waiter, follower._open._waiter
        clock: Any = self.stream._clock
        return (
            all(waiter and not waiter.done() for waiter in waiters)
            and not (pinging and not pinging.done())
            and min(clock.left(), default=1) > 0
        )

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
            await self.takes.wait()


@pytest.fixture(autouse=True)
def gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no gates of other tests: their servers may have had the same port, but another clock."""
    monkeypatch.setattr(pacing, "_gates", {})


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
def bus() -> Bus:
    return Bus()


@pytest.fixture
def keys_at(world: World, table: Any, bus: Any) -> Callable[[str], ListenKeys]:
    """Make ListenKeys with this base URL."""
    name = world.aws.outputs["ListenKeysTableName"]
    return lambda url: ListenKeys(name, dynamodb=table, base_url=url, eventbridge=bus)


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
    """Make a bot. It connects to the stand-in unless another URL is given."""

    def make(url: str = streams.url, **options: Any) -> Bot:
        return Bot(UserDataStream("alice", keys_at(url), clock=time_, **options))

    return make


@pytest.fixture
def alice(bot: Callable[..., Bot], keeper: Keeper) -> Bot:
    """A bot whose key has just been renewed."""
    keeper.renew()
    return bot()
