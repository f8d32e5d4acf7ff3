"""A bot whose key dies early asks for a new one, and receives events again within seconds, in real time."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from listenkey_keeper import Gap, Interrupted, ListenKeys, SyncUserDataStream
from listenkeys.clock import SYSTEM_CLOCK
from local.aws.rules import Call, Scheduler
from local.aws.stack import LocalAws
from local.binance.exchange import PATHS
from local.binance.stream import StreamServer
from local.invoke import Context, Invocation, LocalFunction
from local.world import World
from tests.waiting import SECONDS

pytestmark = pytest.mark.e2e
API_KEY = "alice".ljust(64, "0")


@pytest.mark.row(81)
def test_a_key_that_dies_early_is_back_because_the_bot_asks(aws: LocalAws) -> None:
    """This runs at real speed. The next sweep is minutes away, and the function starts cold."""
    aws.reset()
    with World(aws=aws) as world, StreamServer(world.exchange) as streams:
        world.add_account("alice", API_KEY)
        world.exchange.handle("POST", PATHS["usdm"], {"X-MBX-APIKEY": API_KEY})
        dead = str(world.exchange.live_key(API_KEY, "usdm"))
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
                world.exchange.expire(API_KEY, "usdm")
                interrupted, gap = stream.get(SECONDS), stream.get(SECONDS)
                took = time.monotonic() - died
                assert isinstance(interrupted, Interrupted)
                assert isinstance(gap, Gap)
                number = world.exchange.emit_order(API_KEY)
                assert stream.get(SECONDS)["o"]["i"] == number
        finally:
            ended.set()
            rules.join(SECONDS)
        assert triggers == ["expired"]
        assert world.current("alice")["listenKey"] != dead
        print(f"from an early death to hearing again: {took:.1f} s")  # noqa: T201 - a measured number
