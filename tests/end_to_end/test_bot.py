"""Runs examples/bot in a process of its own, with its deployed template, whatever happens to a listenKey."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.aws.stack import LocalAws
from local.binance.exchange import PATHS, REAL_ANSWERS, Answer, Exchange
from local.clock import ScaledClock
from local.invoke import LocalFunction
from local.world import World
from tests.end_to_end.bot_stack import bot_stack
from tests.heartbeats import Heartbeats
from tests.paths import PYTHONPATH, ROOT
from tests.waiting import SECONDS, eventually

pytestmark = pytest.mark.e2e

BOT = ROOT / "examples" / "bot"
API_KEY = "alice".ljust(64, "0")


class SetBack(ScaledClock):
    """The real time, set back by `behind` seconds."""

    behind = 0.0

    def timestamp(self) -> float:
        return super().timestamp() - self.behind


class Bot:
    """The bot's process, which may be started several times, and everything that it has printed so far."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self._folder = environment, folder
        self.state = folder / "bot-alice-BTCUSDT.state"
        self.printed: list[str] = []
        self.complaints: list[str] = []

    @contextmanager
    def alive(self, ends: bool = False) -> Iterator[subprocess.Popen[str]]:
        """Run the bot until the block ends. It must not end before, unless `ends` is true."""
        process = subprocess.Popen(
            [sys.executable, BOT / "bot.py"],
            cwd=self._folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        threads = [
            threading.Thread(target=lambda: self.printed.extend(iter(process.stdout.readline, ""))),
            threading.Thread(target=lambda: self.complaints.extend(iter(process.stderr.readline, ""))),
        ]
        for thread in threads:
            thread.start()
        try:
            yield process
            assert ends or process.poll() is None, self.complaints
        finally:
            process.kill()
            process.wait()
            for thread in threads:
                thread.join()
            for pipe in (process.stdout, process.stderr):
                pipe.close()

    def until(self, happened: Callable[[], object], what: str) -> None:
        """Wait until `happened` returns something true, because of the process."""
        eventually(happened, lambda: f"never: {what}\n{self.printed}\n{self.complaints}")

    def has_printed(self, order: int | str, status: str = "NEW") -> bool:
        return f"{order} BTCUSDT {status}\n" in self.printed

    def complains(self, text: str) -> None:
        """Wait until the bot has logged a line with this text."""
        self.until(lambda: any(text in line for line in self.complaints), text)


class Place:
    """The world, its keeper, and the bot."""

    def __init__(self, world: World, clock: SetBack, bot: Bot, queue: str) -> None:
        self.world, self.clock, self.bot, self._queue = world, clock, bot, queue
        self._function = LocalFunction(world.environment(), clock.clock)
        self.exchange = world.exchange
        self.not_the_bots = 0

    def keep(self) -> str:
        """Run the keeper for the account, and return the outcome."""
        before = self.listen_key_requests()
        assert self._function.invoke({"accounts": ["alice"], "force": True}).error is None
        self.not_the_bots += self.listen_key_requests() - before
        return str(self.world.ledger("alice")[-1]["outcome"])

    def listen_key_requests(self) -> int:
        return sum(request.path in PATHS.values() for request in self.exchange.requests)

    def unread_changes(self) -> int:
        """Return how many events are in the bot's queue."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        sqs = self.world.aws.client("sqs")
        found = sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def order(self) -> int:
        return self.exchange.emit_order(API_KEY)

    def prints(self, order: int | str, what: str, status: str = "NEW") -> None:
        self.bot.until(lambda: self.bot.has_printed(order, status), f"it prints the order {what}")

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Keep the bot's socket closed during the block, then wait until it listens again."""
        assert self.world.streams
        self.world.streams.down = True
        self.world.streams.drop_connections()
        yield
        self.world.streams.down = False
        self.listens()

    def listens(self) -> None:
        """Wait until the bot's socket is open on the live key."""

        def listening() -> bool:
            key = self.exchange.live_key(API_KEY, "usdm")
            return bool(key and self.exchange.listeners(key))

        self.bot.until(listening, "it listens")


@pytest.fixture
def place(aws: LocalAws, tmp_path: Path) -> Iterator[Place]:
    aws.reset()
    clock = SetBack()
    with (
        World(exchange=Exchange(now=clock.timestamp), aws=aws, streams=True) as world,
        bot_stack(aws) as bot,
    ):
        world.add_account("alice", API_KEY)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PYTHONPATH,
            "ACCOUNT": "alice",
            "SYMBOL": "BTCUSDT",
            "BINANCE_API_KEY": API_KEY,
            "BINANCE_API_SECRET": "s" * 64,
            "QUEUE_URL": bot["QueueUrl"],
            **world.environment(),
        }
        yield Place(world, clock, Bot(environment, tmp_path), bot["QueueUrl"])


def test_the_bot_prints_every_order_whatever_happens(place: Place) -> None:
    bot, exchange, streams = place.bot, place.exchange, place.world.streams
    assert streams
    before = place.order()
    assert place.keep() == "CREATED"
    assert place.unread_changes() == 1
    with bot.alive():
        place.prints(before, "from before it was started: as its first gap asks for it")
        place.listens()
        place.prints(place.order(), "that its stream has")

        exchange.expire(API_KEY, "usdm")
        missed = place.order()
        assert place.keep() == "RECREATED"
        place.prints(missed, "from when Binance had forgotten the key")
        place.prints(place.order(), "with the new key")

        exchange.handle("DELETE", PATHS["usdm"], {"X-MBX-APIKEY": API_KEY})
        place.not_the_bots += 1
        missed = place.order()
        assert place.keep() == "RECREATED"
        place.prints(
            missed, "from when another process had ended the stream without a word: the queue told it"
        )

        outage = exchange.fault(status=503)
        streams.down = True
        streams.drop_connections()
        missed = place.order()
        streams.down = False
        bot.complains("cannot reconcile yet")
        outage.clear()
        place.prints(missed, "from the outage")

        # For the bot, this order is ten minutes old: without its state file, it would not ask for the order
        # below.
        place.clock.behind = 600
        place.prints(place.order(), "that its stream has again")
    missed = place.order()
    with bot.alive():
        place.prints(missed, "from when it was down")

    assert all(bot.has_printed(order) for order in exchange.orders(API_KEY))
    assert place.listen_key_requests() == place.not_the_bots
    assert bot.printed.count("alice: listening\n") >= 4, "it says after each gap that its socket is open"
    said = "".join(bot.printed + bot.complaints)
    assert str(place.world.current("alice")["listenKey"]) not in said
    assert API_KEY not in said


# Python imports it before the bot. Nothing else in the bot waits for a minute.
MINUTES_PASS = """
import asyncio, sys

wait = asyncio.sleep

async def sleep(seconds):
    await wait(0.1 if seconds == 60 else seconds)
    if seconds == 60:
        print("a minute has passed", file=sys.stderr)

asyncio.sleep = sleep
"""


def test_it_calls_its_heartbeat_only_while_it_listens(place: Place, tmp_path: Path) -> None:
    def minutes_pass(count: int) -> None:
        line = "a minute has passed\n"
        before = bot.complaints.count(line)
        bot.until(lambda: bot.complaints.count(line) >= before + count, line)

    bot = place.bot
    place.keep()
    (tmp_path / "sitecustomize.py").write_text(MINUTES_PASS)
    with Heartbeats() as heartbeats:
        bot.environment |= {"HEARTBEAT_URL": heartbeats.url, "PYTHONPATH": f"{tmp_path}:{PYTHONPATH}"}
        with bot.alive():
            heartbeats.come()
            with place.unheard():
                bot.complains("events may be missing")
                minutes_pass(1)
                calls = heartbeats.calls
                minutes_pass(3)
                assert heartbeats.calls == calls
            heartbeats.come()

            heartbeats.answers.clear()
            place.prints(place.order(), "that it hears while the heartbeat's service hangs")
            bot.complains("the call of HEARTBEAT_URL failed (TimeoutError)")
            heartbeats.status = 404
            heartbeats.answers.set()
            heartbeats.come()
    assert sum("HEARTBEAT_URL" in line for line in bot.complaints) == 1
    assert "a-secret" not in "".join(bot.complaints)


FILLED = {"X": "FILLED", "x": "TRADE", "L": "9000", "l": "0.001"}


def test_it_finds_what_happened_in_a_gap_to_orders_of_any_age(place: Place) -> None:
    exchange = place.exchange
    place.keep()
    with place.bot.alive():
        place.listens()
        filled, cancelled, stop = place.order(), place.order(), exchange.emit_algo_order(API_KEY)
        place.prints(f"algo-{stop}", "that waits for its price")
        place.prints(cancelled, "that is open")
        exchange.recent_orders = 1
        with place.unheard():
            short = place.order()
            exchange.emit_order(API_KEY, i=short, **FILLED)
            exchange.emit_order(API_KEY, i=filled, **FILLED)
            exchange.emit_order(API_KEY, i=cancelled, X="CANCELED", x="CANCELED")
            exchange.emit_algo_order(API_KEY, aid=stop, X="CANCELED")
            place.order()  # the only order that allOrders returns
        place.prints(filled, "that was filled", "FILLED")
        place.prints(short, "that came and was filled", "FILLED")
        place.prints(cancelled, "that was cancelled", "CANCELED")
        place.prints(f"algo-{stop}", "that waited for its price, cancelled", "CANCELED")


def test_while_it_cannot_reconcile_it_hears_and_it_asks_as_it_is_told_to(place: Place) -> None:
    bot, exchange = place.bot, place.exchange
    place.keep()
    with bot.alive():
        place.listens()
        place.prints(place.order(), "at first")
        away = exchange.fault(status=503, method="GET")
        with place.unheard():
            missed = place.order()
        bot.complains("cannot reconcile yet")
        place.prints(place.order(), "that is heard while Binance answers nothing")
        away.clear()
        place.prints(missed, "that was missed meanwhile")

        limited = exchange.fault(status=429, headers={"Retry-After": "3"}, method="GET", times=1)
        with place.unheard():
            missed = place.order()
        bot.complains("next try in 3 s: HTTP 429, Binance's code -1003")
        place.prints(missed, "once it may ask again")
        asked = [request.at for request in exchange.requests if request.method == "GET"]
        refused = next(r.at for r in exchange.requests if (r.method, r.status) == ("GET", 429))
        assert limited.hits == 1
        assert min(at for at in asked if at > refused) >= refused + 3

        exchange.fault("truncate", method="GET", times=1)
        with place.unheard():
            missed = place.order()
        place.prints(missed, "although an answer was cut off")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (REAL_ANSWERS["invalid_api_key"], "HTTP 401, Binance's code -2015"),
        (
            Answer(
                400, {}, b'{"code":-1021,"msg":"Timestamp for this request is outside of the recvWindow."}'
            ),
            "HTTP 400, Binance's code -1021",
        ),
    ],
    ids=["-2015", "-1021"],
)
def test_an_error_for_a_person_ends_it_and_the_next_start_makes_up(
    place: Place, answer: Answer, said: str
) -> None:
    bot = place.bot
    place.keep()
    with bot.alive():
        place.listens()
        place.prints(place.order(), "at first")
    missed = place.order()
    refused = place.exchange.fault(answer=answer, method="GET")
    with bot.alive(ends=True) as process:
        assert process.wait(SECONDS) == 1
    bot.complains(f"cannot reconcile: {said}")
    assert bot.complaints[-1].startswith("cannot reconcile: "), "and no traceback"
    assert not any("Traceback" in line for line in bot.complaints)
    refused.clear()
    with bot.alive():
        place.prints(missed, "from before the error")


@pytest.mark.parametrize("text", ["", '{"printedUntil": 17', "0"], ids=["empty", "cut off", "another's"])
def test_it_starts_with_a_state_file_that_is_broken(place: Place, text: str) -> None:
    place.keep()
    missed = place.order()
    place.bot.state.write_text(text)
    with place.bot.alive():
        place.prints(missed, "from before it was started")
        place.bot.until(lambda: place.bot.state.read_text() != text, "it writes another")
    assert json.loads(place.bot.state.read_text())["open"] == [str(missed)]
