"""SyncUserDataStream for five lives of a listenKey: what a bot hears with the keeper, and without.

One world whose hour takes six seconds; the deployed rules run the function. ALICE's key is lost twice, BOB's
never, CAROL is an account that nobody keeps. Each test looks at what came of it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from websockets.sync.client import connect

from listenkey_keeper import Gap, Interrupted, ListenKeyChanges, ListenKeys, SyncUserDataStream
from listenkey_keeper.stream.clock import SystemClock
from listenkeys.clock import SYSTEM_CLOCK
from local.aws.rules import Call, Scheduler
from local.aws.stack import LocalAws
from local.binance.exchange import PATHS, Exchange
from local.binance.stream import StreamServer
from local.clock import ScaledClock
from local.invoke import Context, Invocation, LocalFunction
from local.world import World
from tests.end_to_end.bot_stack import bot_stack
from tests.pages import block
from tests.waiting import SECONDS, eventually

pytestmark = pytest.mark.e2e

SPEED = 600.0
LIVES = 5  # how often an unattended key would have died
API_KEYS = {name: name.ljust(64, "0") for name in ("alice", "bob", "carol")}


class Time(SystemClock):
    """The world's time of day. Waiting takes real seconds: sockets and tables are not 600 times as fast."""

    def __init__(self, clock: ScaledClock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()


@dataclass
class Bot:
    """A bot in a thread of its own, and what it heard."""

    world: World
    account: str
    streams: str
    clock: ScaledClock
    changes: ListenKeyChanges | None = None
    heard: list[int] = field(default_factory=list)
    caught_up: set[int] = field(default_factory=set)
    gaps: list[str] = field(default_factory=list)
    interruptions: list[str] = field(default_factory=list)
    aws_calls: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        dynamodb = self.world.aws._session.client(
            "dynamodb",
            endpoint_url=self.world.aws.endpoint_url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        dynamodb.meta.events.register("provide-client-params.dynamodb", self._called)
        table = self.world.aws.outputs["ListenKeysTableName"]
        events = self.world.aws.client("events")
        keys = ListenKeys(table, dynamodb=dynamodb, base_url=self.streams, eventbridge=events)
        self.stream = SyncUserDataStream(self.account, keys, changes=self.changes, clock=Time(self.clock))
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _called(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.aws_calls.append((model.name, params["TableName"]))

    def _run(self) -> None:
        with self.stream as stream:
            while not self.stopped.is_set():
                try:
                    item = stream.get(0.1)
                except TimeoutError:
                    continue
                if isinstance(item, Gap):
                    # What a bot asks of REST: the orders that there have been.
                    self.gaps.append(item.why)
                    self.caught_up.update(self.world.exchange.orders(API_KEYS[self.account]))
                elif isinstance(item, Interrupted):
                    self.interruptions.append(item.why)
                else:
                    self.heard.append(item["o"]["i"])


@dataclass
class Days:
    """What came of it: the bots, what CAROL's socket said, the keys that ALICE had.

    A loss is the last order before it and the first after it, a recovery the first order after it.
    """

    world: World
    alice: Bot
    bob: Bot
    carol: list[dict[str, Any]]
    carol_still_open: bool
    keys: list[str]
    losses: list[tuple[int, int]]
    recoveries: list[int]
    runs: list[Invocation]


@pytest.fixture(scope="module")
def days(aws: LocalAws) -> Iterator[Days]:
    aws.reset()
    clock = ScaledClock(SPEED)
    exchange = Exchange(now=clock.timestamp)
    with (
        World(exchange=exchange, aws=aws) as world,
        StreamServer(exchange) as streams,
        bot_stack(aws, block("yaml")) as queue,
    ):
        yield live(world, clock, streams, queue)


@contextmanager
def ended_at_last(ended: threading.Event, bots: list[Bot], threads: list[threading.Thread]) -> Iterator[None]:
    """Whatever happens, have the threads end with it."""
    try:
        yield
    finally:
        ended.set()
        for bot in bots:
            bot.stopped.set()
        for thread in threads:
            if thread.ident:
                thread.join(SECONDS)
        assert not any(thread.is_alive() for thread in threads)


def live(world: World, clock: ScaledClock, streams: StreamServer, queue: str) -> Days:
    """Let more than five hours go by."""
    exchange, ended = world.exchange, threading.Event()
    for name in ("alice", "bob"):
        world.add_account(name, API_KEYS[name])
    exchange.add_account(API_KEYS["carol"])
    function = LocalFunction(world.environment(), clock.clock)
    runs: list[Invocation] = []

    def invoke(call: Call) -> Invocation:
        # Five minutes of real time: this machine's AWS is not six hundred times as fast.
        runs.append(function.invoke(call.event, Context(remaining_seconds=300 * SPEED)))
        return runs[-1]

    scheduler = Scheduler(world.aws, clock.clock, invoke, lambda letter: pytest.fail(str(letter)))
    rules = threading.Thread(target=scheduler.run, args=(ended, SPEED), daemon=True)
    changes = ListenKeyChanges(queue, sqs=world.aws.client("sqs"), wait_seconds=1)
    alice = Bot(world, "alice", streams.url, clock, changes)
    bob = Bot(world, "bob", streams.url, clock)
    bots = [alice, bob]

    def trade() -> None:
        while not ended.wait(60 / SPEED):
            for api_key in API_KEYS.values():
                exchange.emit_order(api_key)

    trading = threading.Thread(target=trade, daemon=True)
    carol: list[dict[str, Any]] = []
    keys: list[str] = []
    losses, recoveries = list[tuple[int, int]](), list[int]()
    answer = exchange.handle("POST", PATHS["usdm"], {"X-MBX-APIKEY": API_KEYS["carol"]})
    url = f"{streams.url}/private/ws?listenKey={json.loads(answer.body)['listenKey']}"
    threads = [rules, trading, *(bot.thread for bot in bots)]

    def hears_anew(key: str | None) -> bool:
        now = exchange.live_key(API_KEYS["alice"], "usdm")
        return bool(now and now != key and exchange.listeners(now))

    with ended_at_last(ended, bots, threads), connect(url, proxy=None) as socket:
        began = clock.monotonic()
        for thread in threads:
            thread.start()
            # A stream without a key looks again in 5 s, which are most of an hour here.
            eventually(lambda: world.current("bob"), lambda: "the rules never make bob's key")
        eventually(lambda: hears_anew(None), lambda: "the bot never listens")
        for lose in ("expire", "delete"):
            clock.sleep(3600)
            key = exchange.live_key(API_KEYS["alice"], "usdm")
            assert key
            keys.append(key)
            before = exchange.emit_order(API_KEYS["alice"])
            if lose == "expire":
                exchange.expire(API_KEYS["alice"], "usdm")
            else:
                exchange.handle("DELETE", PATHS["usdm"], {"X-MBX-APIKEY": API_KEYS["alice"]})
            losses.append((before, exchange.emit_order(API_KEYS["alice"])))
            eventually(
                lambda key=key: hears_anew(key), lambda lose=lose: f"it never hears again after {lose}"
            )
            recoveries.append(exchange.emit_order(API_KEYS["alice"]))
        clock.sleep(max(0.0, LIVES * 3600 + 600 - (clock.monotonic() - began)))
        ended.set()
        trading.join()
        for bot in bots:
            last = exchange.orders(API_KEYS[bot.account])[-1:]
            eventually(
                lambda bot=bot, last=last: bot.heard[-1:] == last,
                lambda bot=bot: f"{bot.account} never hears the last order",
            )
        while True:
            try:
                carol.append(json.loads(socket.recv(timeout=0.2)))
            except TimeoutError:
                break
        still_open = socket.ping().wait(SECONDS)
    keys.append(str(exchange.live_key(API_KEYS["alice"], "usdm")))
    return Days(world, alice, bob, carol, still_open, keys, losses, recoveries, runs)


def test_a_kept_key_is_heard_for_five_lives_on_one_connection(days: Days) -> None:
    orders = days.world.exchange.orders(API_KEYS["bob"])
    heard = days.bob.heard
    assert days.bob.gaps == ["started"]
    # From the opening on by the socket alone, in order; those before it by REST.
    assert heard == orders[-len(heard) :]
    assert days.bob.caught_up >= set(orders) - set(heard)
    assert len(heard) > 0.9 * len(orders)
    assert len(days.world.ledger("bob")) >= 2 * LIVES
    assert [done.error for done in days.runs if done.error] == []


def test_a_lost_key_is_recreated_and_the_bot_hears_all_from_then_on(days: Days) -> None:
    orders = days.world.exchange.orders(API_KEYS["alice"])
    assert len(set(days.keys)) == 3
    assert days.alice.gaps == ["started", "key expired", "key changed"]
    assert days.alice.interruptions[-2:] == ["key expired", "key changed"]
    (_, first), (before, second) = days.losses
    again, last = days.recoveries
    heard = set(days.alice.heard)
    # What happened on a dead key is heard of nowhere.
    assert not heard & {first, second}
    assert {order for order in orders if again <= order <= before} <= heard
    assert {order for order in orders if order >= last} <= heard
    assert heard | days.alice.caught_up == set(orders)
    assert days.alice.heard == sorted(heard)


def test_without_the_keeper_a_bot_goes_silent_on_an_open_socket(days: Days) -> None:
    orders = days.world.exchange.orders(API_KEYS["carol"])
    *before, last = days.carol
    assert last["e"] == "listenKeyExpired"
    heard = [event["o"]["i"] for event in before]
    assert heard == orders[: len(heard)]
    assert len(heard) < len(orders) / 4
    assert days.carol_still_open


def test_the_bot_reads_its_key_and_nothing_else(days: Days) -> None:
    table = days.world.aws.outputs["ListenKeysTableName"]
    assert set(days.alice.aws_calls + days.bob.aws_calls) == {("GetItem", table)}


@pytest.mark.row(81)
def test_a_key_that_dies_early_is_back_within_seconds_because_the_bot_asks(aws: LocalAws) -> None:
    """At real speed, the next sweep minutes away, and a function that starts cold."""
    aws.reset()
    with World(aws=aws) as world, StreamServer(world.exchange) as streams:
        api_key = API_KEYS["alice"]
        world.add_account("alice", api_key)
        world.exchange.handle("POST", PATHS["usdm"], {"X-MBX-APIKEY": api_key})
        dead = str(world.exchange.live_key(api_key, "usdm"))
        world.put_current("alice", dead, datetime.now(UTC) - timedelta(minutes=1))
        triggers: list[Any] = []

        def invoke(call: Call) -> Invocation:
            done = LocalFunction(world.environment()).invoke(call.event, Context())
            triggers.append(done.report and done.report["trigger"])
            return done

        scheduler = Scheduler(aws, SYSTEM_CLOCK, invoke, lambda letter: pytest.fail(str(letter)))
        ended = threading.Event()
        rules = threading.Thread(target=scheduler.run, args=(ended, 1.0), daemon=True)
        keys = ListenKeys(
            aws.outputs["ListenKeysTableName"],
            dynamodb=aws.client("dynamodb"),
            base_url=streams.url,
            eventbridge=aws.client("events"),
        )
        rules.start()
        try:
            with SyncUserDataStream("alice", keys) as stream:
                assert isinstance(stream.get(SECONDS), Gap)
                died = time.monotonic()
                world.exchange.expire(api_key, "usdm")
                interrupted, gap = stream.get(SECONDS), stream.get(SECONDS)
                took = time.monotonic() - died
                assert isinstance(interrupted, Interrupted)
                assert isinstance(gap, Gap)
                number = world.exchange.emit_order(api_key)
                assert stream.get(SECONDS)["o"]["i"] == number
        finally:
            ended.set()
            rules.join(SECONDS)
        assert triggers == ["expired"]
        assert world.current("alice")["listenKey"] != dead
        print(f"from an early death to hearing again: {took:.1f} s")  # noqa: T201 - a measured number
