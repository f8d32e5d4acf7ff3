"""The weight budget that all runs of a stack share: several at once, killed, without their counter."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from listenkeys.model import iso
from listenkeys.trigger import Trigger
from local.binance.exchange import PATHS
from local.clock import ScaledClock
from local.invoke import Context
from local.world import World
from tests.faults.matrix import (
    INCOMPLETE,
    MOST_PROBES,
    SWEEP,
    TICK,
    TWENTY,
    api_key_of,
    kept,
    metrics,
    raised,
)
from tests.faults.processes import Ended, Handler, add_due, at_the_next_minute
from tests.faults.refusals import Body, Refusals
from tests.scene import Scene
from tests.waiting import SECONDS, eventually


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:02}" for number in range(count)]


def most_weight(world: World, group: str, since: int) -> int:
    """Return the most weight that a group has seen in a clock minute from `since` on."""
    return max(weight for minute, weight in world.exchange.weight(group).items() if minute >= since)


def check_asked_once(world: World, ended: Iterable[Ended], accounts: Iterable[str]) -> None:
    """Check that a run left alone what another was at in its minute, or had recorded before it.

    On a busy machine an answer may not be recorded yet when its minute, three seconds, is over.
    """
    for name in accounts:
        minutes = {(minute_of(entry), entry["runId"]) for entry in world.ledger(name)}
        recorded = min(done.recorded[name] for done in ended if name in done.recorded)
        assert len({minute for minute, _ in minutes}) == len(minutes), f"{name}: two runs in a minute"
        assert max(minutes)[0] <= recorded, f"{name} had been renewed"


def minute_of(entry: dict[str, Any]) -> int:
    """Return the clock minute (epoch s // 60) that a ledger's entry is about."""
    return int(datetime.fromisoformat(entry["record"]).timestamp() // 60)


@pytest.mark.slow
@pytest.mark.row(51)
def test_a_tick_a_sweep_and_a_retry_at_once_keep_each_groups_cap(busy: Scene, fast: ScaledClock) -> None:
    """The options' cap is the same share of their limit: 60 of 2,400 are 10 of 400."""
    products = {"usdm": names("u", 40), "coinm": names("c", 40), "options": names("o", 4)}
    runs_of = {"tick": TICK, "sweep": SWEEP, "retry": TICK}
    with ExitStack() as stack:
        runs = {run: stack.enter_context(Handler(busy, fast, MAX_WEIGHT_PER_MINUTE="60")) for run in runs_of}
        for product, accounts in products.items():
            add_due(busy, fast, accounts, product)
        for run in runs.values():
            run.ready()
        began = at_the_next_minute(fast)
        for run, event in runs_of.items():
            runs[run].start(event, run_id="sweep" if run == "sweep" else "tick")
        ended = [run.ended() for run in runs.values()]
    assert [done.raised for done in ended] == ["", "", ""]
    assert most_weight(busy, "futures", began) <= 60
    assert most_weight(busy, "options", began) <= 10
    for product, accounts in products.items():
        assert all(kept(busy, name, product) for name in accounts)
        check_asked_once(busy, ended, accounts)


@pytest.mark.row(51)
@pytest.mark.row(63)
@pytest.mark.parametrize(
    ("event", "minutes", "waits"),
    [(TICK, 30, True), (SWEEP, 40, True), (TICK, 58.5, False), ({"accounts": ["alice"]}, 30, False)],
    ids=["tick", "sweep", "key with 90 seconds left", "by hand"],
)
def test_a_run_waits_for_another_runs_minute_to_end_if_that_does_no_harm(
    world: Scene, event: dict[str, Any], minutes: float, waits: bool
) -> None:
    """The other run has been killed: it is never heard of again."""
    world.live("alice", minutes=minutes)
    put_counter(world, world.clock.now(), used={"N": "1"}, runId={"S": "killed"})
    began, asked = int(world.clock.timestamp() // 60), world.refusals.requests
    assert not raised(world.invoke(event))
    [entry] = world.ledger("alice")
    assert minute_of(entry) == began + waits
    assert asked["UpdateItem"] == 1 + waits  # it does not take a minute in which it has nothing under way
    assert kept(world, "alice")


@pytest.mark.row(51)
def test_a_record_that_cannot_be_read_again_stands_as_it_was_read(world: Scene) -> None:
    world.live("alice", minutes=30)
    put_counter(world, world.clock.now(), used={"N": "1"}, runId={"S": "killed"})
    began = int(world.clock.timestamp() // 60)
    broken = Refusals(world.function, world.clock).refuse(
        "dynamodb", "BatchGetItem", "InternalServerError", status=500,
        when=lambda _: world.clock.timestamp() // 60 > began,
    )  # fmt: skip
    assert not raised(world.invoke(TICK))
    assert broken.hits
    [entry] = world.ledger("alice")
    assert minute_of(entry) == began + 1
    assert kept(world, "alice")


@pytest.mark.row(51)
def test_a_key_that_nears_its_end_waits_no_longer_for_a_minute(world: Scene) -> None:
    """The killed run's minute is the futures'; an answer of the options shows that time has passed."""
    world.clock.advance(seconds=2)
    world.live("alice", minutes=28 - 2 / 60)  # dies 2 minutes and 2 seconds after the run begins
    world.live("olga", product="options")
    put_counter(world, world.clock.now(), used={"N": "1"}, runId={"S": "killed"})
    began = int(world.clock.timestamp() // 60)
    world.exchange.hook = lambda key: world.clock.advance(5 * (key == api_key_of("olga")))
    assert not raised(world.invoke(TICK))
    [entry] = world.ledger("alice")
    assert minute_of(entry) == began


@pytest.mark.row(51)
def test_no_other_run_repeats_a_request_that_hangs_across_a_minute(world: Scene) -> None:
    """The run whose request it is takes the next minute, too; the other waits, and then reads the record."""
    world.live("alice", minutes=40)
    world.clock.advance(30.0 - world.clock.timestamp() % 60)
    hanging, go_on = threading.Event(), threading.Event()

    def hang(_: str) -> None:
        hanging.set()
        go_on.wait(SECONDS)

    def when_refused(parsed: Body, **_: object) -> None:
        if "Error" in parsed:
            go_on.set()
            first.join(SECONDS)

    sweeping = world.variant()
    sweeping.app.keeper.records.dynamodb.meta.events.register("after-call.dynamodb.UpdateItem", when_refused)
    world.exchange.hook = hang
    # Not invoked: it ends before the other does, which would then put back its os.environ and sys.stdout.
    keeper = world.function.app.keeper
    first = threading.Thread(target=keeper.run, args=(Trigger.from_event(TICK), "tick", 300.0))
    first.start()
    assert hanging.wait(SECONDS)
    world.exchange.hook = None
    world.clock.advance(29.5)
    eventually(lambda: [item.get("runId") for item in world.ledger("#weight:futures")] == ["tick", "tick"])
    world.clock.advance(10.0)
    done = sweeping.invoke(SWEEP, Context(aws_request_id="sweep"))
    go_on.set()
    first.join(SECONDS)
    assert done.report
    assert done.report["skipped"] == 1
    assert {entry["runId"] for entry in world.ledger("alice")} == {"tick"}
    assert kept(world, "alice")


@pytest.mark.slow
@pytest.mark.row(63)
def test_what_a_killed_run_had_taken_is_lost_for_that_minute_only(busy: Scene, fast: ScaledClock) -> None:
    accounts = names("u", 50)
    half_way, over = threading.Event(), threading.Event()

    def hold(_: str) -> None:
        if len(busy.exchange.requests) >= 20:
            half_way.set()
            over.wait(SECONDS)

    with ExitStack() as stack:
        killed, retry = (
            stack.enter_context(Handler(busy, fast, MAX_WEIGHT_PER_MINUTE="40")) for _ in ("killed", "retry")
        )
        add_due(busy, fast, accounts)
        for run in (killed, retry):
            run.ready()
        busy.exchange.hook = hold
        stack.callback(over.set)
        began = at_the_next_minute(fast)
        killed.start(TICK)
        assert half_way.wait(SECONDS)
        killed.kill()
        busy.exchange.hook = None
        taken = taken_weight(busy, "futures")
        over.set()
        retry.start(TICK)
        assert not retry.ended().raised
    assert all(20 <= weight <= 40 for weight in taken.values()), "what it took counts in its minute"
    assert len(taken) == 1
    assert most_weight(busy, "futures", began) <= 40
    assert all(kept(busy, name) for name in accounts)


def put_counter(world: World, minute: datetime, **attributes: Any) -> None:
    """Put the futures' counter of a minute, with attributes as DynamoDB has them."""
    key = {"accountId": {"S": "#weight:futures"}, "record": {"S": iso(minute)[:16] + "Z"}}
    table = world.aws.outputs["LedgerTableName"]
    world.aws.client("dynamodb").put_item(TableName=table, Item=key | attributes)


def taken_weight(world: World, group: str) -> dict[str, int]:
    """Return the weight that runs have taken, by minute as ISO text."""
    return {item["record"]: item["used"] for item in world.ledger(f"#weight:{group}")}


def sent_in_each_minute(world: World, *accounts: str) -> Counter[str]:
    """Return how many requests were sent in each minute, by the ledger: one request an entry."""
    entries = [entry for name in accounts for entry in world.ledger(name)]
    assert all(entry["attempts"] == 1 for entry in entries)
    return Counter(f"{entry['record'][:16]}Z" for entry in entries)


@pytest.mark.row(64)
def test_weight_is_counted_for_the_minute_that_the_request_is_sent_in(world: Scene) -> None:
    """The clock moves on between a run's taking of weight and its sending."""
    world.live(*TWENTY)
    function = world.variant(MAX_WEIGHT_PER_MINUTE="5")
    minutes_passed = 0

    def pass_a_minute(answer: Body) -> None:
        nonlocal minutes_passed
        if minutes_passed < 3:
            minutes_passed += 1
            world.clock.advance(minutes=1)

    Refusals(function, world.clock).half_do("dynamodb", "UpdateItem", pass_a_minute)
    done = function.invoke(TICK, Context(remaining_seconds=900))
    assert not raised(done)
    assert minutes_passed == 3
    sent, taken = sent_in_each_minute(world, *TWENTY), taken_weight(world, "futures")
    assert sum(sent.values()) == len(world.exchange.requests) == len(TWENTY)
    assert max(sent.values()) <= 5
    assert all(count <= taken[minute] <= 5 for minute, count in sent.items())


@pytest.mark.row(64)
def test_a_run_returns_what_it_took_and_did_not_use(world: Scene) -> None:
    world.live("alice", "bob")
    assert not raised(world.variant().invoke(TICK))
    [(minute, taken)] = taken_weight(world, "futures").items()
    assert (minute, taken) == (iso(world.clock.now())[:16] + "Z", 2)
    [counter] = world.ledger("#weight:futures")
    assert world.clock.timestamp() < counter["ttl"] < world.clock.timestamp() + 86400 * 2


@pytest.mark.row(64)
def test_a_counter_that_holds_no_whole_number_is_none(world: Scene) -> None:
    world.live("alice")
    put_counter(world, world.clock.now(), used={"N": "0.5"})
    done = world.invoke(TICK)
    assert "the weight counter does not hold a number" in str(done.error)
    assert kept(world, "alice")


@pytest.mark.parametrize("product", sorted(PATHS))
def test_the_budget_costs_a_run_over_one_account_one_call_to_aws(world: Scene, product: str) -> None:
    world.live("alice", product=product)
    refusals = world.refusals
    assert not raised(world.invoke(TICK))
    without = {"Scan": 2, "BatchGetSecretValue": 1, "TransactWriteItems": 1}
    assert refusals.requests == {**without, "UpdateItem": 1}


@pytest.fixture
def hindered(world: Scene, botocore_sleeps: None) -> Scene:
    """A function with a cap of 12, and twenty accounts that are due."""
    world.live(*TWENTY)
    world.function = world.variant(MAX_WEIGHT_PER_MINUTE="12")
    return world


@pytest.mark.row(62)
@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param("unreachable", 0),
        pytest.param("ProvisionedThroughputExceededException", 400, marks=pytest.mark.slow),
        pytest.param("ThrottlingException", 400, marks=pytest.mark.slow),
        pytest.param("AccessDeniedException", 400, marks=pytest.mark.slow),
        pytest.param("InternalServerError", 500, marks=pytest.mark.slow),
    ],
)
def test_a_run_without_its_counter_goes_on_within_its_own_budget(
    hindered: Scene, code: str, status: int
) -> None:
    if status:
        refused = hindered.refusals.refuse("dynamodb", "UpdateItem", code, status=status)
    else:
        gone = ConnectTimeoutError(endpoint_url="there")
        refused = hindered.refusals.break_off("dynamodb", "UpdateItem", gone, times=None)
    done = hindered.invoke(TICK)
    assert refused.hits, "it was asked"
    assert all(kept(hindered, name) for name in TWENTY)
    assert len(hindered.exchange.requests) == len(TWENTY)
    assert max(sent_in_each_minute(hindered, *TWENTY).values()) == 12, "within its own budget, and all of it"
    lines = [line.replace("usedWeight", "") for line in done.output.splitlines() if "_aws" not in line]
    assert any("weight" in line for line in lines), "it says so"


@pytest.mark.slow
@pytest.mark.row(62)
@pytest.mark.parametrize(
    "used", [{"S": "many"}, {"L": []}, {"N": "-40"}, {"N": "0.5"}], ids=["text", "list", "negative", "half"]
)
def test_a_counter_that_makes_no_sense_does_not_stop_a_run(hindered: Scene, used: dict[str, object]) -> None:
    for minute in range(10):
        put_counter(hindered, hindered.clock.now() + timedelta(minutes=minute), used=used)
    hindered.invoke(TICK)
    assert all(kept(hindered, name) for name in TWENTY)
    most = max(sent_in_each_minute(hindered, *TWENTY).values())
    assert most <= (52 if used == {"N": "-40"} else 12)


@pytest.mark.slow
@pytest.mark.row(49, 65)
@pytest.mark.parametrize("group", [("usdm", "coinm"), ("options",), ("portfolio",)], ids=" ".join)
def test_what_one_group_of_hosts_answers_leaves_the_others_alone(
    world: Scene, row: int, group: tuple[str, ...]
) -> None:
    """It is down, or it bans this address."""
    status = {49: 503, 65: 418}[row]
    accounts = {product: [f"{product}{number}" for number in range(5)] for product in PATHS}
    for product, of_product in accounts.items():
        world.live(*of_product, minutes=0, product=product)
    world.clock.advance(minutes=30)
    for product in group:
        world.exchange.fault(status=status, product=product)
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    emitted = metrics(done)
    assert emitted["KeysFailed"] + emitted["KeysDeferred"] == 5 * len(group)
    assert emitted["KeysExtended"] == 5 * (len(PATHS) - len(group))
    refused = [request for request in world.exchange.requests if request.status == status]
    assert len(refused) <= (MOST_PROBES if row == 49 else 1)
    for product, of_product in accounts.items():
        if product not in group:
            assert {world.current(name)["outcome"] for name in of_product} == {"EXTENDED"}
            assert all(kept(world, name, product) for name in of_product)
