"""The promise, at small scale: what the simulation must find, and that it finds the same twice."""

from dataclasses import replace

import pytest

from simulation import run as simulate
from simulation.run import Timeline, month, random_timelines, survives, worst_timelines
from simulation.schedules import Schedule, default_settings, five_minutes, schedules, thirty_minutes
from simulation.timeline import Timeline as Clock
from simulation.world import (
    DYNAMODB,
    MINUTE,
    SECRETS,
    SERVER_ERRORS,
    TIMEOUTS,
    WRITES,
    Trouble,
    World,
)

DEFAULT = Schedule("default", default_settings())
SOONER = Schedule("sooner", default_settings(10))
TICKS_ONLY = Schedule("ticks only", default_settings(), sweep=False)
PLAIN = Schedule("plain", loop=thirty_minutes)


def lost_in(schedule: Schedule, kind: str, minutes: int, timelines: list[Timeline]) -> list[Timeline]:
    return [timeline for timeline in timelines if not survives(schedule, kind, minutes, timeline)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SERVER_ERRORS, TIMEOUTS, SECRETS, DYNAMODB, WRITES])
def test_no_outage_of_25_minutes_loses_a_key_by_default(kind: str) -> None:
    timelines = worst_timelines(phases=20)[:40] + random_timelines("test", 10)
    assert lost_in(DEFAULT, kind, 25, timelines) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SERVER_ERRORS, TIMEOUTS, SECRETS, DYNAMODB])
def test_no_outage_of_45_minutes_loses_a_key_that_is_renewed_every_10(kind: str) -> None:
    timelines = worst_timelines(phases=4)[8::2] + random_timelines("test", 10)
    assert lost_in(SOONER, kind, 45, timelines) == []


def test_an_outage_that_is_longer_than_promised_is_noticed() -> None:
    assert not all(survives(DEFAULT, SERVER_ERRORS, 31, timeline) for timeline in worst_timelines(phases=4))
    assert not all(survives(SOONER, SERVER_ERRORS, 50, timeline) for timeline in worst_timelines(phases=4))


def test_ticks_alone_and_a_plain_loop_lose_keys_in_the_same_outages() -> None:
    assert lost_in(TICKS_ONLY, SERVER_ERRORS, 25, worst_timelines(phases=2)[:1])
    assert lost_in(PLAIN, SERVER_ERRORS, 25, random_timelines("test", 1))


def test_a_key_counts_as_lost_from_its_60th_minute_until_there_is_another() -> None:
    world = World(1, [Trouble(SERVER_ERRORS, 0, 100 * MINUTE)], "seed", latency=0)
    [api_key] = world.api_keys
    world.exchange.handle("POST", "/fapi/v1/listenKey", {"X-MBX-APIKEY": api_key})
    Schedule("loop", loop=five_minutes).play(world, 120 * MINUTE)
    [lapse] = world.exchange.lapses
    assert lapse.died == 60 * MINUTE
    assert 100 * MINUTE <= lapse.until <= 105 * MINUTE


def test_a_month_plays_the_same_twice_and_otherwise_with_another_seed() -> None:
    first, again, other = (month(DEFAULT, days=1, accounts=5, seed=seed) for seed in ("1", "1", "2"))
    assert first == again
    assert first != other


def test_a_healthy_system_sends_one_request_an_account_and_tick() -> None:
    world = World(5, [], "seed", latency=0.01)
    DEFAULT.play(world, 24 * 60 * MINUTE)
    assert sum(world.wire.in_minute.values()) == 5 * (48 + 1)  # one more each: -1125, then POST
    assert world.exchange.lapses == []


def test_the_table_has_a_line_for_every_schedule() -> None:
    measured = [simulate.Measured(survived=dict.fromkeys((*simulate.OUTAGES, *simulate.REFUSALS), 25))]
    measured *= len(schedules())
    lines = simulate.table(1, 5, "1", measured).splitlines()
    for schedule in schedules():
        assert any(line.startswith(schedule.label) for line in lines)
    assert max(map(len, lines)) <= 150


def test_runs_that_overlap_take_turns_by_the_clock() -> None:
    timeline, told = Clock(), []

    def tell(name: str, *pauses: float) -> None:
        for pause in pauses:
            timeline.sleep(pause)
            told.append((name, timeline.monotonic()))

    timeline.at(0, lambda: tell("one", 10, 10, 10))
    timeline.at(5, lambda: tell("two", 10, 20))
    timeline.at(40, lambda: tell("never", 1))
    timeline.play(until=40)
    assert told == [("one", 10), ("two", 15), ("one", 20), ("one", 30), ("two", 35)]


def test_what_an_overlapping_run_raises_ends_the_play() -> None:
    timeline = Clock()

    def fail() -> None:
        timeline.sleep(1)
        raise ValueError("a bug")

    timeline.at(0, lambda: timeline.sleep(100))
    timeline.at(0, fail)
    with pytest.raises(ValueError, match="a bug"):
        timeline.play(until=10)


BESIDE = replace(DEFAULT, neighbours=True)
SOONER_BESIDE = replace(SOONER, neighbours=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SERVER_ERRORS, TIMEOUTS, SECRETS, DYNAMODB, WRITES])
def test_two_accounts_that_binance_refuses_cost_the_others_nothing(kind: str) -> None:
    timelines = worst_timelines(phases=20)[:40] + random_timelines("test", 10)
    assert lost_in(BESIDE, kind, 25, timelines) == []
    assert lost_in(SOONER_BESIDE, kind, 45, timelines[8::4]) == []


@pytest.mark.parametrize("phase", [0.0, 60.0, 120.0, 240.0])
def test_runs_at_the_same_time_stay_under_the_cap_together(phase: float) -> None:
    """After an outage a tick's retry and a sweep have the same 60 accounts to renew, at most 20 a minute."""
    cap = 20
    schedule = Schedule("capped", replace(default_settings(), max_weight_per_minute=cap))
    world = World(60, [Trouble(SERVER_ERRORS, 88 * MINUTE, 95 * MINUTE)], "seed", latency=0.1)
    schedule.play(world, 110 * MINUTE, sweep_phase=phase)
    assert max(world.wire.in_minute.values()) == cap
    assert world.lapses() == []
