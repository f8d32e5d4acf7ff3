"""The deployed zip under Lambda's own runtime: what an invocation does, and what a bad end leaves behind."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.aws.runtime import Answer
from local.world import World
from tests.end_to_end.deployed.stack import SamDeployed
from tests.integration.test_shards import messages
from tests.paths import ROOT
from tests.stream.relay import Network

pytestmark = pytest.mark.e2e

EVENTS = sorted((ROOT / "events").glob("*.json"))
TICK = json.loads((EVENTS[0].parent / "scheduled.json").read_text())
SWEEP = {"overdueOnly": True}
DEMO = {"alice": "EXTENDED", "bob": "CREATED", "carol": "RECREATED", "dave": "REJECTED"}


def outcomes(world: World, accounts: list[str]) -> set[str | None]:
    return {world.current(name).get("outcome") for name in accounts}


def add_accounts(world: World, count: int) -> list[str]:
    names = [f"account{number:02}" for number in range(count)]
    for name in names:
        world.add_account(name, f"key0{name}".ljust(64, "0"))
    return names


def test_a_cold_start_does_its_work_and_a_warm_one_finds_it_done(deployed: SamDeployed, world: World) -> None:
    world.add_demo_accounts(datetime.now(UTC))
    with deployed.emulator(world) as function:
        first, second = function.invoke(TICK), function.invoke(TICK)
        log = [line for line in function.log.splitlines() if line and "(rapid)" not in line]
        starts = function.cold_starts

    assert first.error is second.error is None
    assert {name: world.current(name)["outcome"] for name in DEMO} == DEMO
    assert (first.payload["extended"], second.payload["skipped"]) == (1, 3)
    assert starts == 1
    assert [line for line in log if '"cold_start":true' in line]
    # The libraries' own lines would be paid for, and what they show is not ours to choose.
    own = [
        line for line in log if not line.startswith(("START RequestId", "END RequestId", "REPORT RequestId"))
    ]
    assert len(log) - len(own) == 6
    # What the alarms and the dead-letter queue look at.
    [metrics, _] = [line for line in map(json.loads, own) if "_aws" in line]
    assert (metrics["TicksCompleted"], metrics["KeysRejected"]) == ([1.0], [1.0])
    assert {event["detail-type"] for event in deployed.account_events()} == {
        "Listen Key Changed", "Listen Key Failing"
    }  # fmt: skip


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_an_event_that_we_ship_is_answered_with_a_report(
    deployed: SamDeployed, world: World, path: Path
) -> None:
    world.add_demo_accounts(datetime.now(UTC))
    with deployed.emulator(world) as function:
        answer = function.invoke(json.loads(path.read_text()))
    assert answer.error is None
    assert answer.payload["trigger"] in ("tick", "sweep", "manual")


def test_a_tick_in_shards_renews_every_account_once(sharded: SamDeployed, sharded_world: World) -> None:
    names = add_accounts(sharded_world, 30)
    with sharded.emulator(sharded_world) as tick:
        sent = tick.invoke(TICK)
    records = messages(sharded)
    waiting = iter(records)
    lock = threading.Lock()

    def work(_: int) -> list[Answer]:
        answers = []
        with sharded.emulator(sharded_world, "ShardFunction") as shard:
            while True:
                with lock:
                    record = next(waiting, None)
                if record is None:
                    return answers
                answers.append(shard.invoke({"Records": [record]}))

    with ThreadPoolExecutor(2) as pool:
        answers = [answer for each in pool.map(work, range(2)) for answer in each]

    assert sent.payload["shards"] == len(records) == 4
    assert answers == [Answer({"batchItemFailures": []}, None)] * 4
    assert outcomes(sharded_world, names) == {"CREATED"}
    # Once each: no account is in two shards.
    started = [request.api_key for request in sharded_world.exchange.requests if request.method == "POST"]
    assert len(started) == len(set(started)) == 30


def test_a_run_whose_table_is_silent_ends_in_time_and_the_next_is_well(
    deployed: SamDeployed, world: World
) -> None:
    names = add_accounts(world, 2)
    with closing(Network(int(deployed.endpoint_url.rpartition(":")[2]))) as way:
        url = f"http://127.0.0.1:{way.port}"
        way.die(black_hole=True)
        with deployed.emulator(world, timeout=14, AWS_ENDPOINT_URL_DYNAMODB=url) as function:
            ended = function.invoke(TICK)
            way.live()
            again = function.invoke({"dryRun": True})
            starts = function.cold_starts
        with deployed.emulator(world, timeout=35, AWS_ENDPOINT_URL_DYNAMODB=url) as function:
            answer = function.invoke(TICK)

    assert ended.error
    assert ended.error.message.endswith("AccountsTable could not be read: OutOfTime")
    assert (again.error, starts) == (None, 1)
    assert answer.error is None
    assert outcomes(world, names) == {"CREATED"}


@pytest.mark.row(42)
@pytest.mark.parametrize(
    ("name", "value"), [("ACCOUNTS_TABLE", None), ("BINANCE_BASE_URL", None), ("MAX_CONCURRENCY", "many")]
)
def test_a_wrong_environment_ends_the_start_with_one_clear_line(
    deployed: SamDeployed, world: World, name: str, value: str | None
) -> None:
    with deployed.emulator(world, **{name: value}) as function:
        answer = function.invoke(TICK)
        # Not splitlines(): a traceback is one line, in which carriage returns stand for line breaks.
        lines = [line for line in function.log.split("\n") if name in line]

    assert answer.error
    assert answer.error.type == "SettingsError"
    assert answer.error.message.startswith(name)
    assert "\n" not in answer.error.message
    assert [line.startswith(f"[ERROR] SettingsError: {answer.error.message}") for line in lines] == [True]
    assert world.exchange.count == 0
