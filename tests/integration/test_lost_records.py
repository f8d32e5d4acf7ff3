"""A new key whose record was lost: where PUT answers {}, nothing but POST tells which key lives."""

import pytest

from local.binance.exchange import PATHS
from tests.faults.matrix import TICK
from tests.scene import Scene

API_KEY = "a".ljust(64, "0")


@pytest.mark.parametrize("product", ["portfolio", "options"])
def test_a_dead_recorded_key_is_not_taken_for_the_extended_one(world: Scene, product: str) -> None:
    world.add_account("alice", API_KEY, product=product)
    world.invoke(TICK)
    world.clock.advance(minutes=70)
    # Another run's POST, which died before it could record it.
    live = world.exchange.rotate(API_KEY, product)
    world.clock.advance(minutes=5)

    assert world.invoke(TICK).error is None

    current = world.current("alice")
    assert (current["listenKey"], current["outcome"]) == (live, "CHANGED")
    assert world.ledger("alice")[-1]["attempts"] == 2
    assert "Listen Key Changed" in [event["detail-type"] for event in world.aws.account_events()[1:]]


@pytest.mark.parametrize("product", ["portfolio", "options"])
def test_a_key_that_lives_on_unrecorded_stays_what_it_is(world: Scene, product: str) -> None:
    world.add_account("alice", API_KEY, product=product)
    world.invoke(TICK)
    for _ in range(3):
        world.clock.advance(minutes=30)
        world.exchange.handle("PUT", PATHS[product], {"X-MBX-APIKEY": API_KEY})
    before = world.current("alice")["listenKey"]

    assert world.invoke(TICK).error is None

    current = world.current("alice")
    assert (current["listenKey"], current["outcome"]) == (before, "EXTENDED")
    assert world.exchange.live_key(API_KEY, product) == before
