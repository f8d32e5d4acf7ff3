"""The whole function on moto and the stand-in: what it does with every kind of event, account and trouble."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

import pytest

from listenkeys.errors import InvalidEvent
from listenkeys.model import LEASE, iso
from local.binance.exchange import PATHS
from local.clock import VirtualClock
from local.invoke import Invocation
from local.world import World
from tests.bad_events import BAD_EVENTS
from tests.faults.matrix import SWEEP, TICK, api_key_of
from tests.leaks import WatchedFunction
from tests.scene import Scene

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


@pytest.mark.parametrize(
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
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "unrecorded"])
@pytest.mark.parametrize("live", [True, False], ids=["live", "dead"])
def test_every_product_end_to_end(
    world: Scene, product: str, coinm_tells: bool, put_tells: bool, recorded: bool, live: bool
) -> None:
    world.exchange.coinm_put_answers_key = coinm_tells
    api_key = add(world, "alice", world.clock.now() if recorded else None, product=product)
    if live and not recorded:
        world.exchange.rotate(api_key, product)
    if not live:
        world.exchange.expire(api_key, product)
    before = world.exchange.live_key(api_key, product)
    world.clock.advance(minutes=30)

    done = world.invoke(TICK)

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
    assert current["expiresAt"] == iso(world.clock.now() + LEASE)
    assert world.exchange.expires_at(api_key, product) == world.clock.timestamp() + 3600


def test_the_ledger_says_how_long_the_last_request_took(world: Scene) -> None:
    add(world, "alice")
    world.exchange.hook = lambda _: world.clock.advance(2)
    world.invoke(TICK)
    assert world.ledger("alice")[-1]["latencyMs"] == 2000


def test_an_account_that_must_not_be_created_is_rejected_without_a_post(world: Scene) -> None:
    add(world, "alice", createIfMissing=False)

    done = world.invoke(TICK)

    assert counts(done) == {"rejected": 1}
    assert sent(world) == ["PUT 400"]
    current = world.current("alice")
    assert current["errorCode"] == "LISTEN_KEY_NOT_FOUND"


@pytest.mark.parametrize(("minutes", "outcome"), [(7.9, "skipped"), (8, "extended"), (15, "extended")])
def test_with_renew_after_ten_minutes_the_sweep_is_what_renews(
    world: Scene, minutes: float, outcome: str
) -> None:
    function = WatchedFunction(world, world.clock, RENEW_AFTER_MINUTES="10")
    add(world, "alice", world.clock.now())
    world.clock.advance(minutes=minutes)

    assert counts(function.invoke(SWEEP)) == {outcome: 1}


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
        ({"force": True}, {"extended": 2, "created": 1, "rejected": 1}, {"due", "fresh", "new"}),
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
    world: Scene, event: dict[str, Any], expected: dict[str, int], asked: set[str]
) -> None:
    manual_world(world, world.clock)

    done = world.invoke(event)

    assert counts(done) == expected
    assert done.report is not None
    assert (done.report["trigger"], done.report["accounts"]) == ("manual", sum(expected.values()))
    assert {request.api_key for request in world.exchange.requests} == {key_of(name) for name in asked}


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
    world: Scene, event: dict[str, Any], planned: dict[str, str], expected: dict[str, int]
) -> None:
    manual_world(world, world.clock)
    before = [world.records(name) for name in ("due", "fresh", "new", "disabled", "broken")]

    done = world.invoke(event)

    assert counts(done) == expected
    assert done.report is not None
    assert done.report["dryRun"] is True
    assert {step["accountId"]: step["action"] for step in done.report["plan"]} == planned
    assert world.exchange.requests == []
    assert [world.records(name) for name in ("due", "fresh", "new", "disabled", "broken")] == before
    assert world.aws.sent_events() == []


def test_a_plan_gives_its_reasons_most_urgent_first_and_reads_the_secrets(world: Scene) -> None:
    add(world, "ten", world.clock.now() - timedelta(minutes=10))
    add(world, "forty", world.clock.now() - timedelta(minutes=40), product="coinm")
    add(world, "new")
    world.put_row("secretless")

    done = world.invoke({"dryRun": True})

    assert done.report is not None
    assert done.report["plan"][:2] == [
        {"accountId": "forty", "product": "coinm", "action": "renew", "reason": "renewed 40 min ago"},
        {"accountId": "ten", "product": "usdm", "action": "renew", "reason": "renewed 10 min ago"},
    ]
    rest = {step["accountId"]: (step["action"], step["reason"]) for step in done.report["plan"][2:]}
    assert rest == {
        "new": ("renew", "no listenKey yet"),
        "secretless": ("none", "the secret does not exist or has no value: create it, or correct secretId"),
    }
    assert problems(done) == {"secretless": "SECRET_NOT_FOUND"}
    assert world.records("secretless") == []


def test_a_bad_event_names_its_field_and_does_nothing(world: Scene) -> None:
    add(world, "alice")

    for event, named, allowed in BAD_EVENTS:
        done = world.invoke(event)

        assert isinstance(done.error, InvalidEvent), event
        assert named in str(done.error)
        assert allowed in str(done.error)
        assert (done.report, done.output) == (None, "")
    assert world.exchange.requests == []
    assert world.records("alice") == []


def test_the_least_time_a_key_has_left_counts_those_that_failed(world: Scene) -> None:
    add(world, "well", world.clock.now())
    failing = add(world, "failing", world.clock.now() - timedelta(minutes=20))
    world.clock.advance(minutes=30)
    world.exchange.fault(status=500, api_key=failing)

    done = world.invoke({})

    assert done.report is not None
    spent = world.clock.monotonic() - 30 * 60
    assert done.report["minRemainingSeconds"] == pytest.approx(10 * 60 - spent, abs=1)


def test_at_the_lowest_log_level_the_function_shows_no_more_of_a_key(world: Scene) -> None:
    function = WatchedFunction(world, world.clock, POWERTOOLS_LOG_LEVEL="DEBUG")
    world.add_demo_accounts(world.clock.now())

    assert function.invoke(TICK).report is not None  # and searched, as every invocation is

    assert function.app.logger.log_level == logging.DEBUG
    for library in ("botocore", "urllib3"):
        assert not logging.getLogger(library).isEnabledFor(logging.DEBUG)
    function.search_world()


@pytest.mark.parametrize("event", [TICK, SWEEP], ids=["tick", "sweep"])
def test_an_account_with_another_product_is_renewed_at_once(world: Scene, event: dict[str, Any]) -> None:
    world.live("alice", minutes=1)
    of_usdm = world.current("alice")
    world.put_row("alice", product="coinm")
    world.exchange.fault(status=503)
    world.invoke(event)
    failed = world.current("alice")
    assert failed["outcome"] == "FAILED"
    for known in ("listenKey", "product", "expiresAt"):  # a bot opens the stream by these
        assert failed[known] == of_usdm[known]

    world.exchange.clear_faults()
    world.clock.advance(minutes=1)
    world.invoke(event)
    current = world.current("alice")
    assert current["product"] == "coinm"
    assert current["listenKey"] == world.exchange.live_key(api_key_of("alice"), "coinm")
    world.exchange.requests.clear()
    world.clock.advance(minutes=1)
    world.invoke(event)
    assert world.exchange.requests == []
