"""The deployed zip under Lambda's own runtime: what an invocation does, and what a bad end leaves behind."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.aws.runtime import Answer, RuntimeEmulator
from local.world import World
from tests.end_to_end.deployed.stack import SamDeployed
from tests.paths import ROOT
from tests.waiting import SECONDS, eventually

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


def test_a_tick_on_a_cold_start_does_its_work_and_a_second_one_warm_finds_it_done(
    deployed: SamDeployed, world: World
) -> None:
    world.add_demo_accounts(datetime.now(UTC))
    with deployed.emulator(world) as function:
        first, second = function.invoke(TICK), function.invoke(TICK)
        log = function.log
        starts = function.cold_starts

    assert first.error is second.error is None
    assert {name: world.current(name)["outcome"] for name in DEMO} == DEMO
    assert (first.payload["extended"], second.payload["skipped"]) == (1, 3)
    assert starts == 1
    assert [line for line in log.splitlines() if '"cold_start":true' in line]
    assert log.count("\nREPORT RequestId") == 2


def test_a_tick_tells_the_alarms_what_they_look_at(deployed: SamDeployed, world: World) -> None:
    world.add_demo_accounts(datetime.now(UTC))
    with deployed.emulator(world) as function:
        function.invoke(TICK)
        lines = [json.loads(line) for line in function.log.splitlines() if line.startswith("{")]
    [metrics] = [line for line in lines if "_aws" in line]
    assert (metrics["TicksCompleted"], metrics["KeysRejected"]) == ([1.0], [1.0])
    assert {event["detail-type"] for event in deployed.account_events()} == {
        "Listen Key Changed", "Listen Key Failing"
    }  # fmt: skip


def test_all_that_the_function_logs_is_its_own_json(deployed: SamDeployed, world: World) -> None:
    world.add_demo_accounts(datetime.now(UTC))
    with deployed.emulator(world) as function:
        function.invoke(TICK)
        lines = [line for line in function.log.splitlines() if line and "(rapid)" not in line]
    # The libraries' own lines would be paid for, and what they show is not ours to choose.
    of_the_runtime = ("START RequestId", "END RequestId", "REPORT RequestId")
    assert [line for line in lines if not line.startswith(("{", *of_the_runtime))] == []


def test_a_sweep_renews_what_is_overdue(deployed: SamDeployed, world: World) -> None:
    world.add_demo_accounts(datetime.now(UTC))
    with deployed.emulator(world) as function:
        answer = function.invoke(SWEEP)
    assert answer.error is None
    assert answer.payload["trigger"] == "sweep"
    assert world.current("alice")["outcome"] == "EXTENDED"


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_an_event_that_we_ship_is_answered_with_a_report(
    deployed: SamDeployed, world: World, path: Path
) -> None:
    world.add_demo_accounts(datetime.now(UTC))
    with deployed.emulator(world) as function:
        answer = function.invoke(json.loads(path.read_text()))
    assert answer.error is None
    assert answer.payload["trigger"] in ("tick", "sweep", "manual")


def test_an_event_with_an_unknown_field_is_refused_by_name(deployed: SamDeployed, world: World) -> None:
    with deployed.emulator(world) as function:
        answer = function.invoke({"acounts": ["alice"]})
    assert answer.error
    assert answer.error.type == "InvalidEvent"
    assert "acounts" in answer.error.message
    assert world.exchange.count == 0


def test_duplicate_ticks_in_several_environments_at_once_do_no_harm(
    deployed: SamDeployed, world: World
) -> None:
    names = add_accounts(world, 12)
    environments = [deployed.emulator(world) for _ in range(2)]

    def invoke_all(function: RuntimeEmulator) -> list[Answer]:
        with function:
            return [function.invoke(TICK) for _ in range(5)]

    with ThreadPoolExecutor(2) as pool:
        answers = [answer for each in pool.map(invoke_all, environments) for answer in each]

    assert [answer.error for answer in answers] == [None] * 10
    for name in names:
        current = world.current(name)
        api_key = f"key0{name}".ljust(64, "0")
        assert current["listenKey"] == world.exchange.live_key(api_key, "usdm")
        assert datetime.fromisoformat(current["expiresAt"]).timestamp() <= world.exchange.expires_at(
            api_key, "usdm"
        )


def messages(aws: SamDeployed, count: int) -> list[dict[str, Any]]:
    """Take messages off the queue, each as the event in which Lambda hands it to the function."""
    taken: list[Any] = []
    for _ in range(count):
        taken += (
            aws.client("sqs")
            .receive_message(
                QueueUrl=aws.resources["WorkQueue"], AttributeNames=["All"], MaxNumberOfMessages=10
            )
            .get("Messages", [])
        )
    return [
        {
            "Records": [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": message["Attributes"],
                    "messageAttributes": {},
                    "eventSource": "aws:sqs",
                }
            ]
        }
        for message in taken
    ]


def test_a_tick_in_shards_is_a_burst_of_messages_that_together_renew_every_account(
    sharded: SamDeployed, sharded_world: World
) -> None:
    names = add_accounts(sharded_world, 30)
    with sharded.emulator(sharded_world) as tick:
        sent = tick.invoke(TICK)
    events = messages(sharded, 4)
    waiting = iter(events)
    lock = threading.Lock()

    def work(_: int) -> list[Answer]:
        answers = []
        with sharded.emulator(sharded_world, "ShardFunction") as shard:
            while True:
                with lock:
                    event = next(waiting, None)
                if event is None:
                    return answers
                answers.append(shard.invoke(event))

    with ThreadPoolExecutor(2) as pool:
        answers = [answer for each in pool.map(work, range(2)) for answer in each]

    assert sent.payload["shards"] == len(events) == 4
    assert answers == [Answer({"batchItemFailures": []}, None)] * 4
    assert outcomes(sharded_world, names) == {"CREATED"}
    # Once each: no account is in two shards.
    started = [request.api_key for request in sharded_world.exchange.requests if request.method == "POST"]
    assert len(started) == len(set(started)) == 30


def test_a_shard_that_is_not_complete_is_given_back(sharded: SamDeployed, sharded_world: World) -> None:
    add_accounts(sharded_world, 3)
    sharded_world.exchange.fault(status=451)
    with sharded.emulator(sharded_world) as tick:
        tick.invoke(TICK)
    with sharded.emulator(sharded_world, "ShardFunction") as shard:
        answers = [(event, shard.invoke(event)) for event in messages(sharded, 4)]
    # A batch of one that fails as a whole is an error; either way SQS keeps the message.
    assert any(answer.error or answer.payload["batchItemFailures"] for _, answer in answers)


def test_a_run_that_is_killed_leaves_its_records_and_the_next_one_does_the_rest(
    deployed: SamDeployed, world: World
) -> None:
    names = add_accounts(world, 6)
    stuck = "key0stuck".ljust(64, "0")
    world.add_account("stuck", stuck)
    held = world.exchange.fault("hang", api_key=stuck)
    with deployed.emulator(world) as function, ThreadPoolExecutor(1) as pool:
        running = pool.submit(function.invoke, TICK)
        eventually(lambda: held.hits and outcomes(world, names) == {"CREATED"})
        function.kill()
        killed = running.result(timeout=SECONDS)
        before = {name: world.ledger(name) for name in names}
        held.clear()
        end_the_minute(world)
        after = function.invoke(TICK)
        starts = function.cold_starts

    assert killed.error
    assert after.error is None
    assert (after.payload["created"], after.payload["skipped"]) == (1, 6)
    assert world.current("stuck")["outcome"] == "CREATED"
    assert {name: world.ledger(name) for name in names} == before
    # What was recorded and not yet told when it died has been told since.
    assert {event["detail"]["accountId"] for event in deployed.account_events()} == {*names, "stuck"}
    assert not any("unannounced" in world.current(name) for name in names)
    assert starts == 2


def end_the_minute(world: World) -> None:
    """Remove the weight counters: what a killed run claimed is its own for the clock minute only."""
    dynamodb, table = world.aws.client("dynamodb"), world.aws.outputs["LedgerTableName"]
    for item in dynamodb.scan(TableName=table)["Items"]:
        if item["accountId"]["S"].startswith("#"):
            key = {name: item[name] for name in ("accountId", "record")}
            dynamodb.delete_item(TableName=table, Key=key)


@contextmanager
def relay(port: int) -> Iterator[tuple[str, threading.Event]]:
    """Yield the URL of a way to a local server, and what opens it: until then it is silent."""
    is_open = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65536):
                    sink.sendall(data)
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        def serve(client: socket.socket) -> None:
            with client:
                is_open.wait()
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
                    back = threading.Thread(target=pump, args=(server, client))
                    back.start()
                    pump(client, server)
                    back.join()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", is_open
        finally:
            is_open.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def test_a_run_whose_table_is_silent_ends_by_itself_before_its_time_is_over_and_the_next_one_is_well(
    deployed: SamDeployed, world: World
) -> None:
    names = add_accounts(world, 2)
    port = int(deployed.endpoint_url.rpartition(":")[2])
    with (
        relay(port) as (url, opened),
        deployed.emulator(world, timeout=35, AWS_ENDPOINT_URL_DYNAMODB=url) as function,
    ):
        short = deployed.emulator(world, timeout=14, AWS_ENDPOINT_URL_DYNAMODB=url)
        with short:
            ended = short.invoke(TICK)
            assert ended.error
            assert ended.error.message.endswith("AccountsTable could not be read: OutOfTime")
            opened.set()
            again = short.invoke({"dryRun": True})
            assert again.error is None
            assert short.cold_starts == 1
        answer = function.invoke(TICK)
    assert answer.error is None
    assert outcomes(world, names) == {"CREATED"}


@pytest.mark.parametrize("row", [pytest.param(42, id="row42")])
@pytest.mark.parametrize(
    ("name", "value"), [("ACCOUNTS_TABLE", None), ("BINANCE_BASE_URL", None), ("MAX_CONCURRENCY", "many")]
)
def test_a_wrong_environment_ends_the_start_with_one_clear_line(
    deployed: SamDeployed, world: World, row: int, name: str, value: str | None
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
