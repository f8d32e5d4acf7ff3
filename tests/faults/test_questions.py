"""A bot says that its listenKey is dead: the keeper believes the fingerprint alone, and asks Binance once."""

from __future__ import annotations

from typing import Any

import pytest

from listenkey_keeper import report_expired
from listenkeys.model import fingerprint
from tests.faults.matrix import SWEEP, TICK, api_key_of, events, kept, metrics, raised, summary
from tests.rules import Rules
from tests.scene import Scene


def question(account_id: Any, listen_key: str, **more: object) -> dict[str, Any]:
    """Return the event that the rule hands over."""
    detail = {"accountId": account_id, "fingerprint": fingerprint(listen_key), **more}
    return {"source": "listenkey-keeper.bot", "detail-type": "Listen Key Expired", "detail": detail}


@pytest.mark.row(81)
def test_a_key_that_dies_early_is_back_with_the_bots_event(world: Scene) -> None:
    world.live("alice", "bob", minutes=1)
    rules = Rules(world, lambda event, context: world.invoke(event, context), world.clock, tick=28, sweep=3)
    dead = world.current("alice")["listenKey"]
    world.exchange.expire(api_key_of("alice"), "usdm")
    for _ in range(20):  # as many bots listen to alice
        assert report_expired("alice", dead, eventbridge=world.aws.client("events"))

    runs = rules.go(1)

    assert len(runs) == 20
    assert {run.rule for run in runs} == {"KeepaliveFunctionExpired"}
    assert kept(world, "alice")
    current = world.current("alice")
    assert (current["outcome"], current["listenKey"] != dead) == ("RECREATED", True)
    assert [request.method for request in world.exchange.requests] == ["PUT", "POST"]
    assert [event["accountId"] for event in events(world)] == ["alice"]
    assert not any(metrics(run.done) for run in runs), "it does not show that the rules' schedules work"
    assert summary(runs[0].done)["trigger"] == "expired"


@pytest.mark.row(81)
def test_a_bot_can_have_binance_asked_every_30_seconds_and_no_more(world: Scene) -> None:
    world.live("alice", minutes=10)
    asked = question("alice", world.current("alice")["listenKey"])  # alive: the bot is wrong, or lies
    for _ in range(61):
        assert not raised(world.invoke(asked))
        world.clock.advance(seconds=1)
    assert len(world.exchange.requests) == 3


@pytest.mark.row(81)
def test_a_failure_is_asked_for_again_after_30_seconds_and_raises_nothing(world: Scene) -> None:
    world.live("alice", minutes=10)
    dead = world.current("alice")["listenKey"]
    world.exchange.expire(api_key_of("alice"), "usdm")
    down = world.exchange.fault(status=503)
    assert not raised(world.invoke(question("alice", dead)))
    assert world.current("alice")["outcome"] == "FAILED"
    down.clear()
    world.clock.advance(seconds=31)
    assert not raised(world.invoke(question("alice", dead)))
    assert kept(world, "alice")


@pytest.mark.row(81)
@pytest.mark.parametrize("refusal", [None, 503])
@pytest.mark.parametrize(("said", "at_risk"), [(True, 1), (False, 0), (None, 0), ("yes", 0)])
def test_a_dead_key_that_cannot_be_renewed_is_recorded_as_expired(
    world: Scene, said: object, at_risk: int, refusal: int | None
) -> None:
    world.live("alice", minutes=10)
    recorded = world.current("alice")
    key = api_key_of("alice")
    world.exchange.expire(key, "usdm")
    world.exchange.revoke(key)
    fault = world.exchange.fault(status=refusal) if refusal else None

    assert not raised(world.invoke(question("alice", recorded["listenKey"], dead=said)))

    current = world.current("alice")
    assert current["outcome"] == ("FAILED" if refusal else "REJECTED")
    assert current["expiresAt"] == (current["attemptedAt"] if at_risk else recorded["expiresAt"])
    assert world.ledger("alice")[-1]["expiresAt"] == current["expiresAt"]
    world.clock.advance(minutes=3)
    assert metrics(world.invoke(SWEEP))["KeysAtRisk"] == at_risk
    assert world.current("alice")["expiresAt"] == current["expiresAt"]

    if fault:
        fault.clear()
    world.exchange.add_account(key)
    world.clock.advance(minutes=25)
    assert not raised(world.invoke(TICK))
    assert kept(world, "alice")


NO_QUESTIONS: list[Any] = [
    None, [], "alice", {}, {"accountId": "alice"}, {"fingerprint": "0" * 12},
    {"accountId": "alice", "fingerprint": ""}, {"accountId": "alice", "fingerprint": 5},
    {"accountId": "alice", "fingerprint": "0" * 12}, {"accountId": "alice", "fingerprint": "F" * 100_000},
    {"accountId": "alice", "fingerprint": fingerprint("")}, {"accountId": ["alice"], "fingerprint": "0"},
    {"accountId": "", "fingerprint": "0"}, {"accountId": "a" * 65, "fingerprint": "0"},
    {"accountId": "nobody", "fingerprint": fingerprint("")}, {"accountId": "<b>\n", "fingerprint": "0"},
    {"accountId": "off", "fingerprint": fingerprint("")}, {"accountId": "new", "fingerprint": "0"},
    {"accountId": "broken", "fingerprint": fingerprint("")},
    {"accountId": "alice", "fingerprint": "0", "force": True, "accounts": ["alice"], "overdueOnly": True},
]  # fmt: skip


@pytest.mark.row(81)
def test_an_event_of_that_shape_that_no_bot_of_ours_sends_changes_nothing(world: Scene) -> None:
    world.live("alice", minutes=10)
    world.add_account("off", api_key_of("off"), enabled=False)
    world.put_row("broken", product="spot")
    world.put_row("new")
    before = list(world.all_records())
    for detail in NO_QUESTIONS:
        event = question("alice", "") | {"detail": detail}
        for asked in (event, {**event, "force": True, "accounts": ["alice"]}):
            assert not raised(world.invoke(asked)), detail
            assert not world.exchange.requests, detail
            assert list(world.all_records()) == before, detail
    assert not world.aws.sent_events()


@pytest.mark.row(81)
def test_with_shards_the_function_that_is_asked_answers_by_itself(world: Scene) -> None:
    world.live("alice", minutes=1)
    dead = world.current("alice")["listenKey"]
    world.exchange.expire(api_key_of("alice"), "usdm")
    queue = world.aws.resources["DeadLetterQueue"]
    function = world.variant(SHARD_COUNT="2", WORK_QUEUE_URL=queue)
    assert not raised(function.invoke(question("alice", dead)))
    assert kept(world, "alice")


@pytest.mark.row(81)
def test_another_runs_claim_on_the_minute_does_not_make_a_bot_wait(world: Scene) -> None:
    world.live("alice")
    assert not raised(world.invoke(TICK))  # in this minute it has claimed alice
    world.clock.advance(seconds=31)
    dead = world.current("alice")["listenKey"]
    world.exchange.expire(api_key_of("alice"), "usdm")
    began = world.clock.monotonic()
    assert not raised(world.invoke(question("alice", dead)))
    assert kept(world, "alice")
    assert world.clock.monotonic() - began < 1
