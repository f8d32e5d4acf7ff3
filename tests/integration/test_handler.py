"""The whole function on moto and the stand-in: what it does with every kind of event, account and trouble."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from listenkeys.aws.record_items import iso
from listenkeys.errors import InvalidEvent, KeepaliveIncomplete
from listenkeys.model import LEASE
from listenkeys.view.remedies import REMEDIES
from local.binance.exchange import PATHS
from local.clock import VirtualClock
from local.invoke import Context, Invocation
from local.world import World
from tests.bad_events import BAD_EVENTS
from tests.faults.matrix import SWEEP, TICK
from tests.leaks import WatchedFunction

OUTCOMES = ("extended", "changed", "created", "recreated", "skipped", "failed", "deferred", "rejected")


def key_of(id_: str) -> str:
    return f"CANARY{id_.replace('-', '')}".ljust(64, "x")


def add(world: World, id_: str, live: datetime | None = None, **attributes: Any) -> str:
    """Add an account; with `live`, its listenKey too, recorded as renewed then. Return its API key."""
    world.add_account(id_, key_of(id_), **attributes)
    if live:
        product = attributes.get("product", "usdm")
        listen_key = world.exchange.rotate(key_of(id_), product)
        world.put_current(id_, listen_key, live, product=product)
    return key_of(id_)


def counts(done: Invocation) -> dict[str, int]:
    """Return the report's counts that are not 0."""
    assert done.error is None, done.error
    assert done.report is not None
    return {outcome: done.report[outcome] for outcome in OUTCOMES if done.report[outcome]}


def problems(done: Invocation) -> dict[str, str]:
    assert done.report is not None
    return {problem["accountId"]: problem["errorCode"] for problem in done.report["problems"]}


def sent(world: World) -> list[str]:
    return [f"{request.method} {request.status}" for request in world.exchange.requests]


@contextmanager
def before_each(client: Any, operation: str, do: Any) -> Iterator[None]:
    """Call `do` before each call of this operation."""
    name = f"provide-client-params.{client.meta.service_model.service_id.hyphenize()}.{operation}"
    client.meta.events.register(name, do)
    try:
        yield
    finally:
        client.meta.events.unregister(name, do)


@contextmanager
def broken(client: Any, operation: str, table: str = "", from_call: int = 1) -> Iterator[None]:
    """Let calls of this operation (on this table) go to a port where nobody listens, from this one on."""
    calls = 0

    def elsewhere(request: Any, **_: Any) -> None:
        nonlocal calls
        calls += table.encode() in request.body
        if calls >= from_call and table.encode() in request.body:
            request.url = "http://127.0.0.1:1/"

    name = f"before-send.{client.meta.service_model.service_id.hyphenize()}.{operation}"
    client.meta.events.register(name, elsewhere)
    try:
        yield
    finally:
        client.meta.events.unregister(name, elsewhere)


def test_a_tick_extends_creates_recreates_and_rejects(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    world.add_demo_accounts(clock.now())
    kept, forgotten = world.current("alice")["listenKey"], world.current("carol")["listenKey"]

    done = function.invoke(TICK)

    assert counts(done) == {"extended": 1, "created": 1, "recreated": 1, "rejected": 1}
    currents = {name: world.current(name) for name in ("alice", "bob", "carol", "dave")}
    assert {name: current["outcome"] for name, current in currents.items()} == {
        "alice": "EXTENDED",
        "bob": "CREATED",
        "carol": "RECREATED",
        "dave": "REJECTED",
    }
    assert currents["alice"]["listenKey"] == kept
    assert currents["carol"]["listenKey"] not in (forgotten, kept)
    for name in ("alice", "bob", "carol"):
        assert currents[name]["renewedAt"] == iso(clock.now())
        assert currents[name]["expiresAt"] == iso(clock.now() + LEASE)
        assert world.exchange.is_listening(currents[name]["listenKey"])
    assert "refused the API key" in currents["dave"]["errorMessage"]
    assert "listenKey" not in currents["dave"]


def test_a_second_tick_right_after_finds_everything_renewed(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    world.add_demo_accounts(clock.now())
    function.invoke(TICK)
    before = [world.records(name) for name in ("alice", "bob", "carol")]
    world.exchange.requests.clear()

    done = function.invoke(TICK)

    assert counts(done) == {"skipped": 3, "rejected": 1}
    assert sent(world) == ["PUT 401"]
    assert [world.records(name) for name in ("alice", "bob", "carol")] == before


PRODUCTS = pytest.mark.parametrize(
    ("product", "coinm_tells", "put_tells"),
    [
        ("usdm", True, True),
        ("coinm", True, True),
        ("coinm", False, False),
        ("portfolio", True, False),
        ("options", True, False),
    ],
    ids=["usdm", "coinm-2026", "coinm-2025", "portfolio", "options"],
)


@PRODUCTS
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "unrecorded"])
@pytest.mark.parametrize("live", [True, False], ids=["live", "dead"])
def test_every_product_end_to_end(
    world: World,
    function: WatchedFunction,
    clock: VirtualClock,
    product: str,
    coinm_tells: bool,
    put_tells: bool,
    recorded: bool,
    live: bool,
) -> None:
    world.exchange.coinm_put_answers_key = coinm_tells
    api_key = add(world, "alice", clock.now() if recorded else None, product=product)
    if live and not recorded:
        world.exchange.rotate(api_key, product)
    if not live:
        world.exchange.expire(api_key, product)
    before = world.exchange.live_key(api_key, product)
    clock.advance(minutes=30)

    done = function.invoke(TICK)

    if live:
        expected = ("EXTENDED", ["PUT 200"] if put_tells else ["PUT 200", "POST 200"])
    else:
        expected = ("RECREATED" if recorded else "CREATED", ["PUT 400", "POST 200"])
    current = world.current("alice")
    assert (current["outcome"], sent(world)) == expected
    assert counts(done) == {expected[0].lower(): 1}
    assert {request.path for request in world.exchange.requests} == {PATHS[product]}
    listen_key = world.exchange.live_key(api_key, product)
    assert before in (None, listen_key)
    assert (current["product"], current["listenKey"]) == (product, listen_key)
    assert current["expiresAt"] == iso(clock.now() + LEASE)
    assert world.exchange.expires_at(api_key, product) == clock.timestamp() + 3600


@PRODUCTS
def test_a_key_that_somebody_else_replaced_is_noticed_for_every_product(
    world: World,
    function: WatchedFunction,
    clock: VirtualClock,
    product: str,
    coinm_tells: bool,
    put_tells: bool,
) -> None:
    world.exchange.coinm_put_answers_key = coinm_tells
    api_key = add(world, "alice", clock.now(), product=product)
    clock.advance(minutes=30)
    replaced = world.exchange.rotate(api_key, product)

    function.invoke(TICK)

    current = world.current("alice")
    assert (current["outcome"], current["listenKey"]) == ("CHANGED", replaced)
    assert current["listenKeyChangedAt"] == iso(clock.now())


def test_accounts_of_one_secret_and_of_secrets_named_by_arn_are_renewed(
    world: World, function: WatchedFunction
) -> None:
    names = ["alice", "bob", "carol"]
    for name in names:
        world.exchange.add_account(key_of(name))
    world.put_secret("listenkeys/shared", {name: key_of(name) for name in names})
    arn = world.aws.client("secretsmanager").describe_secret(SecretId="listenkeys/shared")["ARN"]
    for name, secret_id in zip(names, ["listenkeys/shared", arn, arn[:-7]], strict=True):
        world.put_row(name, secretId=secret_id, secretField=name)

    done = function.invoke(TICK)

    assert counts(done) == {"created": 3}
    for name in names:
        assert world.current(name)["listenKey"] == world.exchange.live_key(key_of(name), "usdm")


@pytest.mark.slow
def test_more_secrets_than_a_batch_takes_are_renewed(world: World, function: WatchedFunction) -> None:
    for n in range(45):
        add(world, f"a{n}")

    assert counts(function.invoke(TICK)) == {"created": 45}


def test_more_than_a_megabyte_of_accounts_is_renewed_to_the_last(
    world: World, function: WatchedFunction
) -> None:
    for n in range(8):
        add(world, f"a{n}", note="x" * 390_000)
    scans: list[dict[str, Any]] = []
    client = function.app.keeper.accounts.dynamodb

    with before_each(client, "Scan", lambda params, **_: scans.append(params)):
        done = function.invoke(TICK)

    assert counts(done) == {"created": 8}
    assert len(scans) >= 3  # moto makes smaller pages than DynamoDB


@pytest.mark.parametrize(
    ("fault", "outcome", "code"),
    [
        ({"status": 500}, "FAILED", "SERVER_ERROR"),
        ({"kind": "reset"}, "FAILED", "CONNECTION"),
        ({"status": 200, "body": "nonsense"}, "FAILED", "BAD_RESPONSE"),
        ({"status": 401, "code": -2015}, "REJECTED", "INVALID_API_KEY"),
        ({"status": 404, "body": ""}, "REJECTED", "BAD_REQUEST"),
        ({"status": 400, "code": -1125, "method": "PUT"}, "FAILED", "SERVER_ERROR"),
    ],
    ids=["500", "reset", "nonsense", "-2015", "404", "-1125, then POST fails"],
)
def test_a_failed_renewal_keeps_the_key_and_until_when_it_lives(
    world: World,
    function: WatchedFunction,
    clock: VirtualClock,
    fault: dict[str, Any],
    outcome: str,
    code: str,
) -> None:
    add(world, "alice", clock.now())
    before = world.current("alice")
    clock.advance(minutes=30)
    world.exchange.fault(**fault)
    world.exchange.fault(status=500, method="POST")

    function.invoke({})

    after = world.current("alice")
    assert (after["outcome"], after["errorCode"], after["consecutiveFailures"]) == (outcome, code, 1)
    kept = ("listenKey", "renewedAt", "expiresAt", "listenKeyChangedAt")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    [entry] = world.ledger("alice")
    assert (entry["outcome"], entry["expiresAt"]) == (outcome, before["expiresAt"])


def test_failures_are_counted_until_a_success(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    add(world, "alice", clock.now())
    fault = world.exchange.fault(status=503)
    counted = []
    for minutes in (10, 5, 5):
        clock.advance(minutes=minutes)
        function.invoke({})
        counted.append(world.current("alice")["consecutiveFailures"])
    fault.clear()
    clock.advance(seconds=1)

    function.invoke({})

    current = world.current("alice")
    assert counted == [1, 2, 3]
    assert current["consecutiveFailures"] == 0
    assert current.keys().isdisjoint({"errorCode", "errorMessage"})


def test_a_newer_record_of_another_run_wins_and_the_others_of_the_batch_are_written(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    add(world, "alice", clock.now())
    add(world, "bob", clock.now())
    clock.advance(minutes=30)
    started = clock.now()
    later = started + timedelta(seconds=5)
    client = function.app.keeper.records.dynamodb

    def another_run(**_: Any) -> None:
        world.put_current("bob", "n" * 64, later, runId="another")

    with before_each(client, "TransactWriteItems", another_run):
        done = function.invoke(TICK)

    assert counts(done) == {"extended": 1, "skipped": 1}, "bob's is the other run's"
    assert world.current("bob")["runId"] == "another"
    assert world.current("bob")["attemptedAt"] == iso(later)
    assert [entry["outcome"] for entry in world.ledger("bob")] == ["EXTENDED"], "superseded, and kept"
    assert world.current("alice")["renewedAt"] == iso(started)


def test_an_account_that_must_not_be_created_is_rejected_without_a_post(
    world: World, function: WatchedFunction
) -> None:
    add(world, "alice", createIfMissing=False)

    done = function.invoke(TICK)

    assert counts(done) == {"rejected": 1}
    assert sent(world) == ["PUT 400"]
    current = world.current("alice")
    assert current["errorCode"] == "LISTEN_KEY_NOT_FOUND"
    assert "createIfMissing" in REMEDIES[current["errorCode"]]


def test_a_post_that_answers_the_recorded_key_has_recreated_nothing(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    add(world, "alice", clock.now())
    recorded = world.current("alice")["listenKey"]
    clock.advance(minutes=30)
    world.exchange.fault(status=400, code=-1125, method="PUT")

    done = function.invoke(TICK)

    assert counts(done) == {"extended": 1}
    assert sent(world) == ["PUT 400", "POST 200"]
    assert world.current("alice")["listenKey"] == recorded
    assert world.aws.account_events() == []


def test_disabled_accounts_are_not_asked_for_not_counted_and_not_recorded(
    world: World, function: WatchedFunction
) -> None:
    add(world, "alice")
    add(world, "bob", enabled=False)
    add(world, "carol", enabled=False, product="spot")

    done = function.invoke(TICK)

    assert counts(done) == {"created": 1}
    assert done.report is not None
    assert done.report["accounts"] == 1
    assert {request.api_key for request in world.exchange.requests} == {key_of("alice")}
    assert world.records("bob") == world.records("carol") == []


BAD_ROWS: dict[str, dict[str, Any]] = {
    "bad id": {},
    "spot": {"product": "spot"},
    "margin": {"product": "margin"},
    "unknown-product": {"product": "futures"},
    "product-number": {"product": {"N": "1"}},
    "enabled-text": {"enabled": "yes"},
    "create-number": {"createIfMissing": {"N": "0"}},
    "secret-list": {"secretId": {"L": []}},
    "secret-spaces": {"secretId": "two words"},
    "field-empty": {"secretField": ""},
}
BAD_SECRETS: dict[str, tuple[Any, str]] = {
    "no-secret": (None, "SECRET_NOT_FOUND"),
    "not-json": ("CANARYnotjsonCANARYnotjson", "SECRET_INVALID"),
    "broken-json": ('{"apiKey": "CANARYbrokenjsonCANARY', "SECRET_INVALID"),
    "a-list": (["CANARYlistCANARYlistCANARY"], "SECRET_INVALID"),
    "empty": ({}, "SECRET_INVALID"),
    "other-field": ({"key": "CANARYotherfieldCANARY"}, "SECRET_INVALID"),
    "null": ({"apiKey": None}, "SECRET_INVALID"),
    "number": ({"apiKey": 123456789012345}, "SECRET_INVALID"),
    "line-break": ({"apiKey": "CANARYlinebreakCANARY\nX-Header: 1"}, "SECRET_INVALID"),
    "not-latin": ({"apiKey": "CANARYnotlatinCANARY\u2028"}, "SECRET_INVALID"),
    "spaces": ({"apiKey": " CANARYspacesCANARYspaces"}, "SECRET_INVALID"),
    "too-long": ({"apiKey": "CANARYtoolong" * 30}, "SECRET_INVALID"),
    "unknown-key": ({"apiKey": key_of("unknown")}, "INVALID_API_KEY"),
}


def test_every_bad_row_and_secret_is_its_own_problem_and_nobody_elses(
    world: World, function: WatchedFunction
) -> None:
    expected = dict.fromkeys(BAD_ROWS, "INVALID_ACCOUNT")
    for id_, attributes in BAD_ROWS.items():
        world.put_row(id_, **attributes)
    for id_, (content, code) in BAD_SECRETS.items():
        world.put_row(id_)
        expected[id_] = code
        if content is not None:
            world.put_secret(f"listenkeys/{id_}", content)
    add(world, "a-well-one")
    add(world, "z-well-one")

    done = function.invoke(TICK)

    assert counts(done) == {"created": 2, "rejected": len(expected)}
    assert problems(done) == expected
    for id_, code in expected.items():
        current = world.current(id_)
        assert (current["outcome"], current["errorCode"], len(world.ledger(id_))) == ("REJECTED", code, 1)


def test_a_binary_secret_is_rejected(world: World, function: WatchedFunction) -> None:
    world.put_row("alice")
    content = json.dumps({"apiKey": key_of("alice")}).encode()
    world.aws.client("secretsmanager").create_secret(Name="listenkeys/alice", SecretBinary=content)

    assert problems(function.invoke(TICK)) == {"alice": "SECRET_INVALID"}


def test_a_row_that_is_fixed_is_renewed_by_the_next_tick(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    add(world, "alice", product="futures")
    function.invoke(TICK)
    world.put_row("alice", product="coinm")
    clock.advance(minutes=30)

    done = function.invoke(TICK)

    assert counts(done) == {"created": 1}
    current = world.current("alice")
    assert (current["product"], current["consecutiveFailures"]) == ("coinm", 0)
    assert "errorCode" not in current


@pytest.mark.slow
def test_at_most_50_problems_are_listed(world: World, function: WatchedFunction) -> None:
    for n in range(60):
        world.put_row(f"a{n}", product="spot")

    done = function.invoke(TICK)

    assert counts(done) == {"rejected": 60}
    assert len(problems(done)) == 50


@pytest.mark.parametrize(
    ("event", "minutes", "outcome"),
    [
        (TICK, 4.9, "skipped"),
        (TICK, 5, "extended"),
        (TICK, 59, "extended"),
        ({}, 4.9, "skipped"),
        ({}, 5, "extended"),
        ({"force": True}, 0.1, "extended"),
        (SWEEP, 5, "skipped"),
        (SWEEP, 30, "skipped"),
        (SWEEP, 30.9, "skipped"),
        (SWEEP, 31, "extended"),
    ],
    ids=str,
)
def test_a_key_is_renewed_when_it_is_due(
    world: World,
    function: WatchedFunction,
    clock: VirtualClock,
    event: Any,
    minutes: float,
    outcome: str,
) -> None:
    add(world, "alice", clock.now())
    clock.advance(minutes=minutes)

    assert counts(function.invoke(event)) == {outcome: 1}


@pytest.mark.parametrize(("minutes", "outcome"), [(7.9, "skipped"), (8, "extended"), (15, "extended")])
def test_with_renew_after_ten_minutes_the_sweep_is_what_renews(
    world: World, clock: VirtualClock, minutes: float, outcome: str
) -> None:
    function = WatchedFunction(world, clock, RENEW_AFTER_MINUTES="10")
    add(world, "alice", clock.now())
    clock.advance(minutes=minutes)

    assert counts(function.invoke(SWEEP)) == {outcome: 1}


def test_after_anothers_delete_the_next_sweep_repairs_an_account_that_asks_for_it_and_the_tick_the_others(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    for name, own in (("alice", {"renewAfterMinutes": {"N": "5"}}), ("bob", {})):
        world.add_account(name, name.ljust(64, "0"), **own)
    function.invoke(TICK)
    recreated = {}
    for minute in range(5, 35, 5):
        clock.advance(minutes=5)
        if minute == 10:
            for name in ("alice", "bob"):
                world.exchange.handle("DELETE", PATHS["usdm"], {"X-MBX-APIKEY": name.ljust(64, "0")})
        function.invoke(TICK if minute == 30 else SWEEP)
        for name in ("alice", "bob"):
            if world.ledger(name)[-1]["outcome"] == "RECREATED":
                recreated.setdefault(name, minute)
    assert recreated == {"alice": 10, "bob": 30}


def test_a_sweep_brings_a_new_account_to_life_and_tries_a_failed_one_again(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    add(world, "alice")
    add(world, "bob", clock.now())
    clock.advance(minutes=10)
    fault = world.exchange.fault(status=500)
    function.invoke({})
    fault.clear()

    done = function.invoke(SWEEP)

    assert counts(done) == {"created": 1, "extended": 1}


@pytest.mark.parametrize(
    ("age", "requests"),
    [(None, 0), (20, 0), (40, 1), (59, 1), (60, 1), (300, 1)],
    ids=["never had a key", "20 min", "40 min", "59 min", "dead", "long dead"],
)
def test_a_rejected_account_is_the_sweeps_while_there_is_a_key_to_save_and_then_once_an_hour(
    world: World, function: WatchedFunction, clock: VirtualClock, age: float | None, requests: int
) -> None:
    api_key = add(world, "alice", clock.now() - timedelta(minutes=age) if age else None)
    world.exchange.revoke(api_key)
    if age:
        renewed = clock.now() - timedelta(minutes=age)
        world.put_current(
            "alice", "k" * 64, renewed, outcome="REJECTED", errorCode="INVALID_API_KEY", errorMessage="why"
        )
    else:
        function.invoke(TICK)
    recorded = world.records("alice")
    world.exchange.requests.clear()

    done = function.invoke(SWEEP)

    assert counts(done) == {"rejected": 1}
    assert problems(done) == {"alice": "INVALID_API_KEY"}
    assert len(world.exchange.requests) == requests
    if not requests:
        assert world.records("alice") == recorded
    function.invoke(SWEEP)
    assert len(world.exchange.requests) == requests + (age in (40, 59)), "the next hour has not begun"


def manual_world(world: World, clock: VirtualClock) -> None:
    """Fresh, due, new, rejected and disabled."""
    add(world, "due", clock.now() - timedelta(minutes=20))
    add(world, "fresh", clock.now() - timedelta(minutes=1))
    add(world, "new")
    add(world, "disabled", enabled=False)
    world.put_row("broken", product="spot")


@pytest.mark.parametrize(
    ("event", "expected", "asked"),
    [
        ({}, {"extended": 1, "skipped": 1, "created": 1, "rejected": 1}, {"due", "new"}),
        ({"force": False}, {"extended": 1, "skipped": 1, "created": 1, "rejected": 1}, {"due", "new"}),
        ({"force": True}, {"extended": 2, "created": 1, "rejected": 1}, {"due", "fresh", "new"}),
        ({"accounts": ["due"]}, {"extended": 1}, {"due"}),
        ({"accounts": ["due", "due"]}, {"extended": 1}, {"due"}),
        ({"accounts": ["fresh"]}, {"skipped": 1}, set()),
        ({"accounts": ["fresh", "new"], "force": True}, {"extended": 1, "created": 1}, {"fresh", "new"}),
        ({"accounts": ["nobody"]}, {"rejected": 1}, set()),
        ({"accounts": ["nobody", "due"]}, {"rejected": 1, "extended": 1}, {"due"}),
        ({"accounts": ["disabled"], "force": True}, {"skipped": 1}, set()),
        ({"accounts": ["broken"], "force": True}, {"rejected": 1}, set()),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_a_manual_event_does_what_it_says(
    world: World,
    function: WatchedFunction,
    clock: VirtualClock,
    event: dict[str, Any],
    expected: dict[str, int],
    asked: set[str],
) -> None:
    manual_world(world, clock)

    done = function.invoke(event)

    assert counts(done) == expected
    assert done.report is not None
    assert (done.report["trigger"], done.report["accounts"]) == ("manual", sum(expected.values()))
    assert {request.api_key for request in world.exchange.requests} == {key_of(name) for name in asked}


@pytest.mark.parametrize(
    ("id_", "code"),
    [("nobody", "ACCOUNT_NOT_FOUND"), ("disabled", "ACCOUNT_DISABLED"), ("broken", "INVALID_ACCOUNT")],
)
def test_a_manual_event_says_why_an_account_was_not_renewed(
    world: World, function: WatchedFunction, clock: VirtualClock, id_: str, code: str
) -> None:
    manual_world(world, clock)

    assert problems(function.invoke({"accounts": [id_]})) == {id_: code}

    assert bool(world.records(id_)) is (id_ == "broken")


@pytest.mark.parametrize(
    ("event", "planned", "expected"),
    [
        ({"dryRun": True}, {"due": "renew", "new": "renew"}, {"skipped": 1, "rejected": 1}),
        (
            {"dryRun": True, "force": True},
            {"due": "renew", "fresh": "renew", "new": "renew"},
            {"rejected": 1},
        ),
        ({"dryRun": True, "accounts": ["fresh"]}, {}, {"skipped": 1}),
        ({"dryRun": True, "accounts": ["fresh"], "force": True}, {"fresh": "renew"}, {}),
        ({"dryRun": True, "accounts": ["nobody", "disabled"]}, {}, {"rejected": 1, "skipped": 1}),
    ],
    ids=str,
)
def test_a_dry_run_says_what_it_would_do_and_sends_and_records_nothing(
    world: World,
    function: WatchedFunction,
    clock: VirtualClock,
    event: dict[str, Any],
    planned: dict[str, str],
    expected: dict[str, int],
) -> None:
    manual_world(world, clock)
    before = [world.records(name) for name in ("due", "fresh", "new", "disabled", "broken")]

    done = function.invoke(event)

    assert counts(done) == expected
    assert done.report is not None
    assert done.report["dryRun"] is True
    assert {step["accountId"]: step["action"] for step in done.report["plan"]} == planned
    assert world.exchange.requests == []
    assert [world.records(name) for name in ("due", "fresh", "new", "disabled", "broken")] == before
    assert world.aws.sent_events() == []


def test_a_plan_gives_its_reasons_most_urgent_first_and_reads_the_secrets(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    add(world, "ten", clock.now() - timedelta(minutes=10))
    add(world, "forty", clock.now() - timedelta(minutes=40), product="coinm")
    add(world, "new")
    world.put_row("secretless")

    done = function.invoke({"dryRun": True})

    assert done.report is not None
    assert done.report["plan"][:2] == [
        {"accountId": "forty", "product": "coinm", "action": "renew", "reason": "renewed 40 min ago"},
        {"accountId": "ten", "product": "usdm", "action": "renew", "reason": "renewed 10 min ago"},
    ]
    rest = {step["accountId"]: (step["action"], step["reason"]) for step in done.report["plan"][2:]}
    assert rest == {
        "new": ("renew", "no key yet"),
        "secretless": ("none", "the secret does not exist or has no value: create it, or correct secretId"),
    }
    assert problems(done) == {"secretless": "SECRET_NOT_FOUND"}
    assert world.records("secretless") == []


def test_a_bad_event_names_the_field_and_what_is_allowed_and_nothing_is_done(
    world: World, function: WatchedFunction
) -> None:
    add(world, "alice")

    for event, named, allowed in BAD_EVENTS:
        done = function.invoke(event)

        assert isinstance(done.error, InvalidEvent), event
        assert named in str(done.error)
        assert allowed in str(done.error)
        assert (done.report, done.output) == (None, "")
    assert world.exchange.requests == []
    assert world.records("alice") == []


NAMES = ["alice", "bob", "carol", "dave", "erin", "frank"]


def test_a_tick_that_finds_binance_gone_records_and_then_raises_in_one_clear_line(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    assert world.binance is not None
    for name in NAMES:
        add(world, name, clock.now())
    expires_at = world.current("alice")["expiresAt"]
    clock.advance(minutes=30)
    world.binance.stop()

    done = function.invoke(TICK)

    assert isinstance(done.error, KeepaliveIncomplete)
    said = str(done.error)
    assert said.startswith("6 of 6 accounts left for another try: ")
    assert "FAILED CONNECTION" in said
    assert "\n" not in said
    recorded = [current for name in NAMES if (current := world.current(name))["outcome"] == "FAILED"]
    assert recorded
    assert {current["errorCode"] for current in recorded} == {"CONNECTION"}
    assert {current["expiresAt"] for current in recorded} == {expires_at}


@pytest.mark.parametrize("event", [{}, {"force": True}, {"accounts": NAMES}, SWEEP], ids=str)
def test_what_a_tick_raises_for_a_manual_run_and_a_sweep_report(
    world: World, function: WatchedFunction, clock: VirtualClock, event: dict[str, Any]
) -> None:
    assert world.binance is not None
    for name in NAMES:
        add(world, name, clock.now())
    clock.advance(minutes=31)
    world.binance.stop()

    done = function.invoke(event)

    found = counts(done)
    assert found.keys() <= {"failed", "deferred"}
    assert sum(found.values()) == 6
    assert set(problems(done).values()) <= {"CONNECTION", "EXCHANGE_DOWN"}
    assert any(world.current(name)["outcome"] == "FAILED" for name in NAMES)


def test_a_tick_with_rejected_accounts_only_does_not_raise(world: World, function: WatchedFunction) -> None:
    world.add_account("alice", key_of("alice"), known=False)
    world.put_row("bob", product="spot")

    assert counts(function.invoke(TICK)) == {"rejected": 2}


def test_a_tick_without_accounts_is_a_success(world: World, function: WatchedFunction) -> None:
    done = function.invoke(TICK)

    assert counts(done) == {}
    assert done.report is not None
    assert (done.report["accounts"], done.report["minRemainingSeconds"]) == (0, None)


EVERY_RUN = pytest.mark.parametrize(
    "event", [TICK, SWEEP, {}, {"force": True}, {"accounts": ["alice"]}, {"dryRun": True}], ids=str
)


@EVERY_RUN
def test_any_run_raises_that_could_not_read_its_accounts(
    world: World, function: WatchedFunction, event: dict[str, Any]
) -> None:
    add(world, "alice")
    client = function.app.keeper.accounts.dynamodb

    with broken(client, "Scan"), broken(client, "BatchGetItem"):
        done = function.invoke(event)

    assert isinstance(done.error, KeepaliveIncomplete)
    assert "could not be read" in str(done.error)
    assert world.exchange.requests == []


@EVERY_RUN
def test_any_run_raises_that_could_not_read_what_is_recorded(
    world: World, function: WatchedFunction, event: dict[str, Any]
) -> None:
    add(world, "alice")
    client = function.app.keeper.records.dynamodb

    table = world.aws.outputs["ListenKeysTableName"]
    with broken(client, "Scan", table), broken(client, "BatchGetItem", table):
        done = function.invoke(event)

    assert isinstance(done.error, KeepaliveIncomplete)
    assert "ListenKeysTable could not be read" in str(done.error)
    assert world.exchange.requests == []


def test_a_run_with_no_time_left_starts_nothing_and_says_so(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    add(world, "alice", clock.now() - timedelta(minutes=30))

    done = function.invoke(TICK, Context(remaining_seconds=20))

    assert isinstance(done.error, KeepaliveIncomplete)
    assert str(done.error) == "1 of 1 accounts left for another try: 1 DEFERRED DEADLINE"
    assert world.exchange.requests == []
    assert world.current("alice")["outcome"] == "EXTENDED"


def test_the_least_time_a_key_has_left_counts_those_that_failed(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    add(world, "well", clock.now())
    failing = add(world, "failing", clock.now() - timedelta(minutes=20))
    clock.advance(minutes=30)
    world.exchange.fault(status=500, api_key=failing)

    done = function.invoke({})

    assert done.report is not None
    spent = clock.monotonic() - 30 * 60
    assert done.report["minRemainingSeconds"] == pytest.approx(10 * 60 - spent, abs=1)


def test_an_account_without_a_live_key_has_no_time_left_whatever_its_outcome(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    add(world, "well", clock.now())
    world.exchange.revoke(add(world, "rejected", clock.now() - timedelta(minutes=40)))

    alive = function.invoke(TICK).report
    clock.advance(minutes=30)
    dead = function.invoke(TICK).report

    assert alive is not None
    assert alive["minRemainingSeconds"] == 20 * 60
    assert dead is not None
    assert dead["minRemainingSeconds"] == 0


def test_mode_changes_keeps_quiet_about_a_key_that_simply_lives_on(world: World, clock: VirtualClock) -> None:
    function = WatchedFunction(world, clock, LEDGER_MODE="changes")
    api_key = add(world, "alice")
    for _ in range(4):
        function.invoke(TICK)
        clock.advance(minutes=30)
    world.exchange.expire(api_key, "usdm")
    function.invoke(TICK)

    outcomes = [entry["outcome"] for entry in world.ledger("alice")]
    assert outcomes == ["CREATED", "EXTENDED", "RECREATED"]


def test_at_the_lowest_log_level_the_function_shows_no_more_of_a_key(
    world: World, clock: VirtualClock
) -> None:
    function = WatchedFunction(world, clock, POWERTOOLS_LOG_LEVEL="DEBUG")
    world.add_demo_accounts(clock.now())

    assert function.invoke(TICK).report is not None  # and searched, as every invocation is

    assert function.app.logger.log_level == logging.DEBUG
    for library in ("botocore", "urllib3"):
        assert not logging.getLogger(library).isEnabledFor(logging.DEBUG)
    function.search_world()


def test_a_warm_function_finds_its_connections_closed_and_makes_new_ones(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    add(world, "alice")
    for _ in range(3):
        assert function.invoke(TICK).error is None
        clock.advance(minutes=30)

    assert sent(world) == ["PUT 400", "POST 200", "PUT 200", "PUT 200"]
