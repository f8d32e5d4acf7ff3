"""docs/consumer.md: its consumer on every product and when something goes wrong, its queue, its URLs."""

import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from local.binance.exchange import PATHS
from local.binance.stream import StreamServer
from local.clock import VirtualClock
from local.world import World
from tests.consumer_page import PAGE, block, local_urls, page_module

ROOT = Path(__file__).parent.parent.parent
ALICE = "alice".ljust(64, "0")
consumer_page = page_module()


class Bot:
    """The page's consumer, hurried, in a thread of its own."""

    def __init__(self, world: World, streams: StreamServer) -> None:
        self.heard: list[int] = []
        self.openings = 0
        self.consumer = consumer_page.Consumer(
            world.aws.client("dynamodb"),
            world.aws.outputs["ListenKeysTableName"],
            "alice",
            lambda event: self.heard.append(event["o"]["i"]),
            self._opened,
            local_urls(consumer_page.URLS, streams.url),
        )
        self.consumer.look_seconds, self.consumer.retry_seconds, self.consumer.wait_seconds = 600, 0.02, 0.02
        self._thread = threading.Thread(target=self.consumer.run, daemon=True)

    def _opened(self) -> None:
        self.openings += 1

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.consumer.stopped.set()
        if self._thread.ident:
            self._thread.join(10)
            assert not self._thread.is_alive()


def until(happened: Callable[[], Any]) -> None:
    """Wait for something that another thread brings about."""
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.005)


@pytest.fixture
def streams(world: World) -> Iterator[StreamServer]:
    world.exchange.add_account(ALICE)
    with StreamServer(world.exchange) as streams:
        yield streams


@pytest.fixture
def bot(world: World, streams: StreamServer) -> Iterator[Bot]:
    bot = Bot(world, streams)
    yield bot
    bot.stop()


@pytest.fixture
def record_key(world: World, clock: VirtualClock) -> Callable[..., str]:
    """Start or extend ALICE's listenKey and record it, as the function would."""

    def record(product: str = "usdm") -> str:
        world.exchange.handle("POST", PATHS[product], {"X-MBX-APIKEY": ALICE})
        listen_key = str(world.exchange.live_key(ALICE, product))
        world.put_current("alice", listen_key, clock.now(), product=product)
        return listen_key

    return record


@pytest.mark.parametrize("product", PATHS)
def test_the_consumer_hears_orders_of_every_product(world, streams, bot, record_key, product):
    streams.events_required = True
    record_key(product)
    bot.start()
    until(lambda: bot.openings)
    numbers = [world.exchange.emit_order(ALICE, product) for _ in range(3)]
    until(lambda: bot.heard == numbers)


def test_it_waits_for_an_account_that_has_no_key_yet(world, bot, record_key):
    bot.start()
    time.sleep(0.05)
    assert bot.openings == 0
    record_key()
    until(lambda: bot.openings)


def test_a_lost_connection_is_opened_again_and_caught_up_on(world, streams, bot, record_key):
    record_key()
    bot.start()
    until(lambda: bot.openings == 1)
    streams.drop_connections()
    until(lambda: bot.openings == 2)
    number = world.exchange.emit_order(ALICE)
    until(lambda: bot.heard == [number])


def test_without_a_queue_it_finds_the_new_key_by_reading_again(world, bot, record_key):
    record_key()
    bot.consumer.look_seconds = 0.05
    bot.start()
    until(lambda: bot.openings == 1)
    world.exchange.rotate(ALICE, "usdm")  # the old key falls silent without a word
    record_key()
    until(lambda: bot.openings == 2)
    number = world.exchange.emit_order(ALICE)
    until(lambda: bot.heard == [number])


def test_an_event_that_tells_of_no_new_key_changes_nothing(world, bot, record_key):
    record_key()
    bot.start()
    until(lambda: bot.openings == 1)
    bot.consumer.changed.set()
    until(lambda: not bot.consumer.changed.is_set())
    number = world.exchange.emit_order(ALICE)
    until(lambda: bot.heard == [number])
    assert bot.openings == 1


def test_after_listen_key_expired_it_waits_for_another_key(world, bot, record_key, clock):
    old = record_key()
    bot.start()
    until(lambda: bot.openings == 1)
    clock.advance(minutes=60)
    time.sleep(0.1)
    assert bot.openings == 1
    assert record_key() != old
    until(lambda: bot.openings == 2)


def test_a_table_that_cannot_be_read_does_not_end_what_is_heard(world, bot, record_key):
    record_key()
    bot.consumer.look_seconds = 0.02
    bot.start()
    until(lambda: bot.openings)
    bot.consumer.table = "no-such-table"
    time.sleep(0.1)
    number = world.exchange.emit_order(ALICE)
    until(lambda: bot.heard == [number])
    assert bot.openings == 1


def test_nothing_it_logs_holds_the_key(world, streams, bot, record_key, caplog):
    caplog.set_level(logging.INFO)
    listen_key = record_key()
    bot.start()
    until(lambda: bot.openings)
    bot.consumer.urls = {"usdm": "nowhere://{}"}  # the text of what this raises holds the URL
    streams.stop()
    until(lambda: "InvalidURI" in caplog.text)
    assert listen_key not in caplog.text


def test_a_key_past_its_time_is_complained_of(world, bot, caplog):
    world.put_current(
        "alice", "x" * 64, consumer_page.datetime(2020, 1, 1, tzinfo=consumer_page.timezone.utc)
    )
    bot.consumer.read()
    assert "no live listenKey for alice" in caplog.text


def test_the_pages_queue_lets_its_rule_in():
    policy = yaml_parse(block("yaml"))["Resources"]["ListenKeyChangesPolicy"]["Properties"]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert policy["Queues"] == [{"Ref": "ListenKeyChanges"}]
    assert (statement["Action"], statement["Principal"]) == (
        "sqs:SendMessage",
        {"Service": "events.amazonaws.com"},
    )
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["ListenKeyChangesRule", "Arn"]}}
    }


def test_the_pages_queue_and_rule_pass_cfn_lint(tmp_path: Path):
    (tmp_path / "changes.yaml").write_text(block("yaml"))
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), tmp_path / "changes.yaml"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("page", ["README.md", "docs/consumer.md"])
def test_no_page_has_a_url_of_usdm_without_its_events(page):
    text = (ROOT / page).read_text().replace('"\n    "', "")
    events = "ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/listenKeyExpired"
    urls = re.findall(r"ws\?listenKey=.*", text)
    assert urls
    assert all(re.search(rf"&events=({events}|\.\.\.$|\{{events\}})", url) for url in urls)
    assert events in text


def test_the_pages_table_of_urls_is_what_its_consumer_opens():
    rows = re.findall(r"^\| `(\w+)` \| `(wss://\S+)` \|$", PAGE, re.MULTILINE)
    assert {product: url.replace("<listenKey>", "{}") for product, url in rows} == consumer_page.URLS
    assert consumer_page.URLS.keys() == PATHS.keys()
