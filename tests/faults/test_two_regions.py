"""Two stacks with the same accounts, each with a heartbeat of its own: one is lost, and no key dies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from local.aws.stack import LocalAws
from local.binance.exchange import Exchange
from local.clock import VirtualClock
from local.world import World
from tests.faults.matrix import api_key_of, kept
from tests.integration.watched import Watched
from tests.leaks import WatchedFunction

PERIOD, GRACE = 30, 60  # minutes, as docs/messages.md advises
NAMES = ("alice", "bob", "carol")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("botocore_sleeps")]


def alerts(calls: Sequence[float], now: float) -> list[float]:
    """Return when a service like healthchecks.io alerts: no call has come for period and grace."""
    late = 60.0 * (PERIOD + GRACE)
    after = [*calls[1:], now]
    return [call + late for call, then in zip(calls, after, strict=True) if then - call > late]


class Region:
    """A stack with its own tables and heartbeat; Binance is the same for all."""

    def __init__(self, exchange: Exchange, clock: VirtualClock, prefix: str) -> None:
        self.aws = LocalAws({"SecretPrefix": prefix})
        self.world = World(exchange=exchange, aws=self.aws)
        self.watched = Watched(
            self.world, WatchedFunction(self.world, clock, HEARTBEAT_SECRET_ID="ops/beat"), clock
        )

    def add(self, *names: str) -> None:
        for name in names:
            self.world.add_account(name, api_key_of(name))

    @property
    def calls(self) -> list[float]:
        """When the heartbeat was called (epoch seconds)."""
        return [each.at for each in self.watched.messages if each.to == "Heartbeat"]

    def outcomes(self, name: str) -> list[str]:
        return [each["outcome"] for each in self.world.ledger(name)]


@pytest.fixture
def regions(clock: VirtualClock) -> Iterator[list[Region]]:
    """Two regions whose ticks are 7 minutes apart, an hour after the accounts were added to both."""
    exchange = Exchange(now=clock.timestamp)
    one = Region(exchange, clock, "here")
    clock.advance(minutes=7)
    other = Region(exchange, clock, "there")
    for region in (one, other):
        region.add(*NAMES)
    go([one, other], 60)
    yield [one, other]
    for region in (one, other):
        region.world.close()
    one.aws.close()
    other.aws.close()


def go(regions: Sequence[Region], minutes: float, *names: str) -> None:
    """Let time pass in these regions; at every moment these accounts must have their live listenKeys."""
    exchange = regions[0].world.exchange
    keys = {name: exchange.live_key(api_key_of(name), "usdm") for name in names}
    assert None not in keys.values()
    for _ in Watched.go_together([region.watched for region in regions], minutes):
        assert {name: exchange.live_key(api_key_of(name), "usdm") for name in names} == keys


def test_the_loss_of_a_region_costs_no_key_and_its_heartbeat_alerts(
    regions: list[Region], clock: VirtualClock
) -> None:
    one, other = regions
    go(regions, 180, *NAMES)
    for name in NAMES:
        assert one.world.current(name)["listenKey"] == other.world.current(name)["listenKey"]
        assert set(one.outcomes(name)[1:]) | set(other.outcomes(name)[1:]) == {"EXTENDED"}
    assert alerts(one.calls, clock.timestamp()) == alerts(other.calls, clock.timestamp()) == []

    lost, calls = clock.timestamp(), one.calls
    one.aws.close()  # nothing answers there any more
    go([other], 240, *NAMES)
    # Nothing else reports it: the lost stack's alarms are lost with it, and the other stack is ok.
    assert other.watched.alarms.firing() == set()
    assert [each.text for each in other.watched.messages if each.to == "AlarmTopic" and each.at > lost] == []

    fault = other.world.exchange.fault(status=503)  # what one stack survives, it survives without the other
    go([other], 25, *NAMES)
    fault.clear()
    go([other], 240, *NAMES)

    assert all(kept(other.world, name) for name in NAMES)
    [alert] = alerts(calls, clock.timestamp())
    assert GRACE <= (alert - lost) / 60 <= PERIOD + GRACE
    assert alerts(other.calls, clock.timestamp()) == []


def test_a_key_that_both_create_or_recreate_is_the_same_in_both(regions: list[Region]) -> None:
    one, other = regions
    for region in regions:
        region.add("dave")
    go(regions, 6, *NAMES)
    # The second stack finds the key of the first.
    assert sorted([one.outcomes("dave")[0], other.outcomes("dave")[0]]) == ["CREATED", "EXTENDED"]

    one.world.exchange.expire(api_key_of("alice"), "usdm")
    go(regions, 40, "bob", "carol", "dave")
    made = [
        [each for each in region.outcomes("alice") if each not in ("EXTENDED", "CREATED")]
        for region in regions
    ]
    assert sorted(made) == [["CHANGED"], ["RECREATED"]]
    for name in ("alice", "dave"):
        assert all(kept(region.world, name) for region in regions)
