"""Whatever happens to key, sockets and table: each event is yielded once, or lies in a Gap.

Real sockets to the stand-in, through a relay that can freeze them, and the table in moto. Hypothesis says
what happens and in which order; time is moved by hand, and only once everybody has come to rest.
"""

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from listenkey_keeper.stream.gaps import Gap
from local.binance.exchange import Exchange
from local.binance.stream import StreamServer
from local.clock import VirtualClock
from local.world import World

from .conftest import ALICE, bounds
from .relay import Relay
from .troubles import Troubles

SECONDS = 20  # real ones, for one example


def unaccounted(orders: dict[int, datetime], items: list[Any]) -> list[str]:
    """Say which orders were yielded twice, or neither yielded nor in a gap. Its margins do not count."""
    heard = Counter(item["o"]["i"] for item in items if not isinstance(item, Gap))
    gaps = [bounds(item) for item in items if isinstance(item, Gap)]
    twice = [f"order {number} came {times} times" for number, times in heard.items() if times > 1]
    lost = [
        f"order {number} is lost"
        for number, at in orders.items()
        if number not in heard and not any(since <= at <= until for since, until in gaps)
    ]
    return twice + lost


async def play(world: World, script: list[str | int]) -> list[str]:
    clock = VirtualClock()
    exchange = Exchange(now=clock.timestamp)
    exchange.add_account(ALICE)
    with StreamServer(exchange) as streams:
        async with asyncio.timeout(SECONDS), Relay(streams.port) as relay:
            troubles = Troubles(world, relay, streams, clock)
            async with troubles.bot:
                await troubles.rest()
                for what in script:
                    await troubles.happen(what)
                await troubles.end_well()
    return unaccounted(troubles.orders, troubles.bot.items)


HAPPENINGS = st.sampled_from(
    ["order", "order", "order", "repeat", "start_key", "record", "renew", "rotate", "delete", "expire",
     "table_down", "table_up", "drop", "close", "binance_down", "binance_up", "freeze", "thaw", "grow_old",
     "look", 1, 5, 20, 20, 66, 600, 1800, 3600]
)  # fmt: skip


def each_event_is_accounted_for(world: World, examples: int, steps: int) -> None:
    @given(st.lists(HAPPENINGS, max_size=steps))
    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def play_one(script: list[str | int]) -> None:
        assert asyncio.run(play(world, script)) == []

    play_one()


def test_each_event_is_yielded_once_or_lies_in_a_gap(world: World) -> None:
    each_event_is_accounted_for(world, examples=25, steps=20)


@pytest.mark.slow
def test_each_event_is_yielded_once_or_lies_in_a_gap_in_many_lives(world: World) -> None:
    each_event_is_accounted_for(world, examples=600, steps=40)
