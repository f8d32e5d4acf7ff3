"""The four accounts of the demonstration, through the whole function."""

from local.clock import VirtualClock
from local.invoke import LocalFunction
from local.world import World

TICK = {"source": "aws.events", "detail-type": "Scheduled Event"}


def test_a_tick_extends_creates_recreates_and_rejects(
    world: World, function: LocalFunction, clock: VirtualClock
) -> None:
    world.add_demo_accounts(clock.now())
    done = function.invoke(TICK)
    assert done.error is None
    assert done.report is not None
    assert {name: world.current(name)["outcome"] for name in ("alice", "bob", "carol", "dave")} == {
        "alice": "EXTENDED",
        "bob": "CREATED",
        "carol": "RECREATED",
        "dave": "REJECTED",
    }
