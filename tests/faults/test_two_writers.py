"""What a result means follows from the record that it replaces: two runs at once, answers that are lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from local.world import World
from tests.faults.matrix import (
    INCOMPLETE,
    SWEEP,
    TICK,
    api_key_of,
    kept,
    raised,
)
from tests.faults.refusals import Body, of_table
from tests.faults.sockets import Loser
from tests.scene import Scene

BY_HAND = {"accounts": ["alice"], "force": True}
pytestmark = pytest.mark.usefixtures("botocore_sleeps")


def told(world: World) -> list[str]:
    kinds = [event["detail-type"] for event in world.aws.sent_events()]
    return [kind.split()[-1] for kind in kinds if kind.startswith("Listen Key ")]


def during_the_first_request(world: Scene, meanwhile: Callable[[], None], then: Callable[[], None]) -> None:
    """Call `meanwhile` while the first request is under way, and `then` with the second of the same run."""
    calls = iter((meanwhile, then))
    busy = threading.Lock()

    def hook(_: str) -> None:
        if busy.acquire(blocking=False):  # not for the other run's requests
            try:
                next(calls, lambda: None)()
            finally:
                busy.release()

    world.exchange.hook = hook


def once(act: Callable[[Body], bool]) -> Callable[[Body], bool]:
    """Return a function that acts when it is called first, and always returns what came of that."""
    came: list[bool] = []

    def call(body: Body) -> bool:
        if not came:
            came.append(False)
            came[0] = act(body)
        return came[0]

    return call


@pytest.mark.row(92)
def test_a_success_after_another_runs_failure_announces_the_recovery(
    world: Scene,
) -> None:
    world.live("alice")
    person, fault = world.variant(), world.exchange.fault(status=500)

    def fails() -> None:
        done = person.invoke(BY_HAND)
        assert done.report
        assert done.report["failed"] == 1
        assert told(world) == ["Failing"]

    during_the_first_request(world, fails, fault.clear)
    assert not raised(world.invoke(TICK))

    assert told(world) == ["Failing", "Recovered"]
    current = world.current("alice")
    assert (current["outcome"], current["consecutiveFailures"]) == ("EXTENDED", 0)
    assert [entry["outcome"] for entry in world.ledger("alice")] == ["FAILED", "EXTENDED"]


@pytest.mark.row(92)
def test_a_failure_after_another_runs_recovery_announces_the_failure(world: Scene) -> None:
    world.live("alice")
    fault = world.exchange.fault(status=500)
    assert raised(world.invoke(TICK)) == INCOMPLETE
    person = world.variant()
    world.clock.advance(minutes=1)

    def succeeds() -> None:
        fault.clear()
        assert not raised(person.invoke(BY_HAND))
        world.exchange.fault(status=500)

    during_the_first_request(world, succeeds, lambda: None)
    assert raised(world.invoke(TICK)) == INCOMPLETE

    assert told(world) == ["Failing", "Recovered", "Failing"]
    current = world.current("alice")
    assert (current["outcome"], current["consecutiveFailures"]) == ("FAILED", 1)
    assert [entry["outcome"] for entry in world.ledger("alice")] == ["FAILED", "EXTENDED", "FAILED"]


@pytest.mark.row(92)
def test_a_key_that_another_run_has_recorded_meanwhile_is_no_change(world: Scene) -> None:
    world.live("alice")
    new = world.exchange.rotate(api_key_of("alice"), "usdm")
    person = world.variant()

    def learns() -> None:
        assert not raised(person.invoke(BY_HAND))
        world.exchange.fault(status=500, times=1)  # for the request that is under way

    during_the_first_request(world, learns, lambda: None)
    assert not raised(world.invoke(TICK))

    assert told(world) == ["Changed"]
    current = world.current("alice")
    assert (current["listenKey"], current["outcome"]) == (new, "EXTENDED")
    assert current["listenKeyChangedAt"] < current["renewedAt"]


@pytest.mark.row(92)
@pytest.mark.parametrize("ends", ["is overtaken", "never records"])
def test_a_first_key_is_announced_by_the_run_that_records_it(world: Scene, ends: str) -> None:
    world.add_account("alice", api_key_of("alice"))
    person = world.variant()

    def learns(_: object) -> bool:
        world.clock.advance(seconds=1)
        assert not raised(person.invoke(BY_HAND))
        return ends == "never records"

    world.refusals.refuse(
        "dynamodb", "TransactWriteItems", "InternalServerError", status=500, when=once(learns)
    )
    world.invoke(TICK)

    assert [request.method for request in world.exchange.requests] == ["PUT", "POST", "PUT"]
    assert kept(world, "alice")
    assert told(world) == ["Changed"]
    if ends == "is overtaken":  # what the earlier run did stays what it was
        assert [entry["outcome"] for entry in world.ledger("alice")] == ["CREATED", "EXTENDED"]


def dynamodb_url(world: World) -> str:
    return world.aws.dynamodb_url or world.aws.endpoint_url


def clears(body: Body) -> bool:
    updates = [item.get("Update", {}).get("UpdateExpression", "") for item in body["TransactItems"]]
    return all("REMOVE unannounced" in update for update in updates)


LOSSES: dict[str, tuple[Callable[[str, Body], bool], int]] = {
    "the accounts": (lambda name, body: name == "scan" and of_table("AccountsTable")(body), 1),
    "the records": (lambda name, body: name == "scan" and of_table("ListenKeysTable")(body), 1),
    "save": (lambda name, body: name == "transactwriteitems" and not clears(body), 1),
    "save, for good": (lambda name, body: name == "transactwriteitems" and not clears(body), 3),
    "the weight": (lambda name, body: name == "updateitem", 1),
    "clear": (lambda name, body: name == "transactwriteitems" and clears(body), 1),
}


@pytest.mark.row(93)
@pytest.mark.parametrize(("match", "times"), LOSSES.values(), ids=LOSSES)
def test_an_answer_of_dynamodb_that_is_lost_skips_and_repeats_nothing(
    world: Scene, match: Callable[[str, Body], bool], times: int
) -> None:
    names = ["alice", "bob", "carol"]
    world.live(*names)
    world.exchange.rotate(api_key_of("carol"), "usdm")
    with Loser(dynamodb_url(world), match, times) as loser:
        done = world.variant(AWS_ENDPOINT_URL_DYNAMODB=loser.url).invoke(TICK)
        assert loser.left == 0

    assert not raised(done)
    assert all(kept(world, name) for name in names)
    assert Counter(request.api_key for request in world.exchange.requests) == Counter(map(api_key_of, names))
    assert [len(world.ledger(name)) for name in names] == [1, 1, 1]
    assert told(world) == ["Changed"]
    assert not any("unannounced" in world.current(name) for name in names)
    [counter] = world.records("#weight:futures")
    assert counter["used"] == (6 if match is LOSSES["the weight"][0] else 3), (
        "twice: that is never over the cap"
    )


@pytest.mark.row(93)
def test_weight_whose_giving_back_is_not_answered_is_not_given_back_twice(world: Scene) -> None:
    """Two requests' weight is taken for it, and the first is refused."""
    world.live("alice", product="portfolio")
    world.exchange.revoke(api_key_of("alice"))

    def gives_back(name: str, body: Body) -> bool:
        return name == "updateitem" and body["ExpressionAttributeValues"][":weight"]["N"] == "-1"

    with Loser(dynamodb_url(world), gives_back, 3) as loser:
        assert not raised(world.variant(AWS_ENDPOINT_URL_DYNAMODB=loser.url).invoke(TICK))
        assert loser.left == 2, "tried once"

    [counter] = world.records("#weight:portfolio")
    assert counter["used"] == len(world.exchange.requests) == 1


@pytest.mark.row(94)
@pytest.mark.parametrize("answer", [{"status": 401, "code": -2015}, {"status": 403}], ids=["-2015", "403"])
def test_a_failure_is_as_old_as_its_last_request(world: Scene, answer: dict[str, Any]) -> None:
    world.live("alice")
    person = world.variant()

    def succeeds() -> None:
        world.clock.advance(seconds=1)
        assert not raised(person.invoke(BY_HAND))
        world.clock.advance(seconds=1)
        world.exchange.fault(**answer, times=1)  # for the request that is under way

    during_the_first_request(world, succeeds, lambda: None)
    world.invoke(TICK)

    current = world.current("alice")
    assert (current["outcome"], current["consecutiveFailures"]) == ("EXTENDED", 0)
    assert kept(world, "alice")
    assert told(world) == []
    assert [entry["outcome"] for entry in world.ledger("alice")][1:] == ["EXTENDED"], "and then succeeded"


@pytest.mark.row(95)
def test_unprocessed_keys_are_read_to_the_end_in_many_rounds(world: Scene) -> None:
    names = [f"account{number:02}" for number in range(40)]
    world.live(*names)
    rounds: list[int] = []

    def partly(answer: Body) -> None:
        for table, items in answer["Responses"].items():
            done = len(items) // 2 or 1
            rounds.append(len(items))
            left = [{n: item[n] for n in ("accountId", "record") if n in item} for item in items[done:]]
            answer["Responses"][table] = items[:done]
            answer["UnprocessedKeys"] = {table: {"Keys": left}} if left else {}

    world.refusals.half_do("dynamodb", "BatchGetItem", partly)
    done = world.invoke({"accounts": names})

    assert len(rounds) >= 10
    assert done.report
    assert done.report["extended"] == len(names)


@pytest.mark.row(95)
def test_accounts_whose_records_were_read_are_renewed_without_the_rest(
    world: Scene,
) -> None:
    names = [f"account{number:02}" for number in range(8)]
    world.live(*names, minutes=0)
    for name in names:  # 1 MB is a page
        world.put_current(name, world.current(name)["listenKey"], world.clock.now(), note="x" * 300_000)
    world.add_account("new", api_key_of("new"))
    world.clock.advance(minutes=30)
    world.refusals.refuse(
        "dynamodb", "Scan", "InternalServerError", status=500, when=lambda body: "ExclusiveStartKey" in body
    )

    done = world.invoke(TICK)

    assert raised(done) == INCOMPLETE
    assert "ListenKeysTable could not be read" in str(done.error)
    renewed = {request.api_key for request in world.exchange.requests}
    assert 0 < len(renewed) < len(names)
    assert renewed <= set(map(api_key_of, names)), "whether the other one is new nobody knows"
    written = [name for name in names if world.current(name)["runId"] != "earlier"]
    assert len(written) == len(renewed)
    assert all(kept(world, name) for name in written)


@pytest.mark.row(97)
def test_the_same_news_twice_has_the_same_id(world: Scene) -> None:
    world.live("alice")
    world.exchange.rotate(api_key_of("alice"), "usdm")
    refusal = world.refusals.refuse(
        "dynamodb", "TransactWriteItems", "InternalServerError", status=500, when=clears
    )
    world.invoke(TICK)
    refusal.end()
    world.clock.advance(minutes=5)
    world.invoke(SWEEP)
    world.clock.advance(minutes=30)
    world.invoke(TICK)

    sent = world.aws.sent_events()
    details: list[Any] = [event["detail"] for event in sent if event["detail-type"] == "Listen Key Changed"]
    assert len(details) == 2
    assert details[0] == details[1]
    assert details[0]["id"]
