"""Results on their way to the tables, while a table hangs, refuses, or another run was quicker."""

from __future__ import annotations

import json
import threading
import time

import pytest

from local.aws.stack import LocalAws
from local.binance.exchange import Fault
from local.clock import ScaledClock
from local.world import World
from tests.faults.matrix import (
    INCOMPLETE,
    TICK,
    TWENTY,
    HookedExchange,
    api_key_of,
    events,
    kept,
    lines,
    metrics,
    raised,
)
from tests.faults.processes import Handler, add_due, asked
from tests.faults.refusals import SDK_ATTEMPTS, Body, Refusals, is_of
from tests.faults.sockets import Loser
from tests.scene import Scene
from tests.waiting import SECONDS

WRITES, MANY = ("transactwriteitems", "updateitem"), 10_000


@pytest.mark.slow
@pytest.mark.row(56)
def test_writes_that_are_never_answered_cost_no_key_and_no_report(aws: LocalAws) -> None:
    """In real time: what hangs is a socket. Lambda gives this run 45 seconds."""
    aws.reset()
    clock = ScaledClock()
    accounts = [f"account{number:03}" for number in range(120)]
    swallowing = Loser(aws.endpoint_url, lambda operation, _: operation in WRITES, MANY, hangs=True)
    with World(exchange=HookedExchange(now=clock.timestamp), aws=aws) as world, swallowing:
        add_due(world, clock, accounts)
        with Handler(world, clock, AWS_ENDPOINT_URL_DYNAMODB=swallowing.url) as handler:
            handler.ready()
            handler.start(TICK, seconds=45.0)
            ended = handler.ended()
        assert swallowing.left < MANY, "it was asked"
        assert set(asked(world)) == {api_key_of(name) for name in accounts}, "every due key is asked for"
    assert ended.remaining >= 5.0
    assert ended.raised.startswith(INCOMPLETE)
    assert "ListenKeysTable could not be written" in ended.raised
    said = [json.loads(line) for line in ended.output.splitlines()]
    [summary] = [line["report"] for line in said if "report" in line]
    assert summary["accounts"] == summary["failed"] == len(accounts), "what is not recorded is not done"
    assert any("_aws" in line for line in said), "metrics, too"


def test_what_is_renewed_is_recorded_while_another_account_is_tried_again(world: Scene) -> None:
    world.live("alice", "bob")
    world.exchange.fault(status=503, times=3, api_key=api_key_of("bob"))
    recorded: list[int] = []
    world.exchange.hook = lambda _: recorded.append(len(world.ledger("alice")))
    assert not raised(world.invoke(TICK))
    assert (recorded[0], recorded[-1]) == (0, 1)


@pytest.mark.slow
@pytest.mark.row(57)
@pytest.mark.usefixtures("botocore_sleeps")
def test_failures_to_record_between_successes_do_not_end_the_recording(world: Scene) -> None:
    names = [f"account{number:02}" for number in range(60)]
    for name in names:
        world.live(name, minutes=0.01)  # so that their order is known
    world.clock.advance(minutes=30)
    function = world.variant(MAX_CONCURRENCY="1")
    sent, failures = 0, set()
    recorded_at: dict[str, int] = {}

    def hook(_: str) -> None:
        nonlocal sent
        sent += 1
        world.clock.advance(seconds=2)
        time.sleep(0.05)  # for the results before it to be recorded

    def down(body: Body) -> bool:
        """Of eight requests, DynamoDB takes no write during the second and the third."""
        if sent % 8 in (2, 3):
            failures.add(sent // 8)
            return True
        for item in body["TransactItems"]:
            [action] = item.values()
            recorded_at.setdefault((action.get("Key") or action["Item"])["accountId"]["S"], sent)
        return False

    world.exchange.hook = hook
    refusals = Refusals(function, world.clock)
    refusals.refuse("dynamodb", "TransactWriteItems", "InternalServerError", status=500, when=down)
    done = function.invoke(TICK)
    assert not raised(done)
    assert all(kept(world, name) for name in names)
    assert len(failures) > 3, "more than a run once bore"
    late = {name: recorded_at[name] - number for number, name in enumerate(names)}
    assert max(late.values()) < 30, "as they come, and not at the end"


@pytest.mark.row(32)
def test_a_table_that_takes_nothing_is_tried_three_times_at_the_end(
    world: Scene, botocore_sleeps: None
) -> None:
    world.add_account("alice", api_key_of("alice"))
    refused = world.refusals.refuse("dynamodb", "TransactWriteItems", "InternalServerError", status=500)

    done = world.invoke(TICK)

    assert raised(done) == INCOMPLETE
    assert refused.hits == 3 * SDK_ATTEMPTS


def overtake(world: Scene, fault: Fault | None = None) -> None:
    """Let another run do a whole tick before alice's result is recorded, and end the fault before that."""
    overtaking = world.variant()
    met = []

    def look(body: Body) -> None:
        if met or not any(map(is_of("alice"), body["TransactItems"])):
            return
        met.append(True)
        if fault:
            fault.clear()
        world.clock.advance(minutes=1)  # in the same minute it would leave alice to the first run
        done = overtaking.invoke(TICK)
        assert not raised(done)
        assert world.current("alice")["outcome"] in ("EXTENDED", "CHANGED"), "the later result is recorded"

    world.refusals.watch("dynamodb", "TransactWriteItems", look)


@pytest.mark.row(59)
def test_a_failure_that_a_later_success_has_overtaken_is_not_announced(world: Scene) -> None:
    world.live("alice", "bob")
    fault = world.exchange.fault(status=500, api_key=api_key_of("alice"))
    overtake(world, fault)
    world.invoke(TICK)
    current = world.current("alice")
    assert (current["outcome"], current["consecutiveFailures"]) == ("EXTENDED", 0)
    assert world.aws.account_events() == [], "a failure that nobody recorded has no recovery, either"
    assert "unannounced" not in current
    for _ in range(3):
        world.clock.advance(minutes=30)
        world.invoke(TICK)
    assert world.aws.account_events() == []


@pytest.mark.row(59)
def test_a_success_that_a_later_one_has_overtaken_counts_once(world: Scene) -> None:
    world.live("alice", "bob")
    new = world.exchange.rotate(api_key_of("alice"), "usdm")
    overtake(world)
    emitted = metrics(world.invoke(TICK))
    assert (emitted["KeysExtended"], emitted["KeysChanged"]) == (0, 0), "the other run has reported them"
    assert [event["outcome"] for event in events(world)] == ["CHANGED"]
    assert world.current("alice")["listenKey"] == new
    assert [len(world.ledger(name)) for name in ("alice", "bob")] == [2, 2], "each attempt is in the ledger"


@pytest.mark.slow
@pytest.mark.row(60)
def test_an_exception_while_results_come_in_stops_the_requests_first(world: Scene) -> None:
    accounts = tuple(f"account{number:03}" for number in range(200))
    workers = 4
    world.live(*accounts)
    function = world.variant(MAX_CONCURRENCY=str(workers))
    world.exchange.hook = lambda _: time.sleep(0.01)
    Refusals(function, world.clock).break_off(
        "dynamodb", "TransactWriteItems", RuntimeError("a bug"), times=None
    )
    done = function.invoke(TICK)
    sent = len(world.exchange.requests)
    assert raised(done)
    time.sleep(0.5)
    assert len(world.exchange.requests) <= sent + workers, "those under way, and no other"
    assert sent < len(accounts)


@pytest.mark.row(61)
def test_a_result_that_comes_during_the_last_write_is_not_lost(world: Scene) -> None:
    world.live(*TWENTY)
    held, arrive, answered = threading.Event(), threading.Event(), threading.Event()
    the_last = api_key_of(TWENTY[-1])

    def hold(api_key: str) -> None:
        if api_key == the_last:
            held.set()
            world.clock.advance(seconds=1)  # results are recorded once a second
            arrive.wait(SECONDS)
            answered.set()

    world.exchange.hook = hold
    function = world.variant()
    met = []

    def hang(_: Body) -> None:
        if not met and held.is_set():
            met.append(True)
            arrive.set()
            assert answered.wait(SECONDS)
            time.sleep(0.5)  # until the worker has brought its result
            world.clock.advance(minutes=5)  # and the run is at its end

    Refusals(function, world.clock).watch("dynamodb", "TransactWriteItems", hang)
    try:
        done = function.invoke(TICK)
    finally:
        arrive.set()
    assert met
    emitted = metrics(done)
    counted = [emitted[f"Keys{what}"] for what in ("Extended", "Failed", "Deferred", "Rejected")]
    assert sum(counted) == len(TWENTY), "each account is counted once"
    [entry] = world.ledger(TWENTY[-1]) or [{"outcome": "none"}]
    told = [line for line in lines(done) if line.get("accountId") == TWENTY[-1]]
    assert entry["outcome"] == "EXTENDED" or told, "recorded, or reported"
