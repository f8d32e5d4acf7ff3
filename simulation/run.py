"""`make simulate`: simulate a month of troubles with this program, and with the loops that it replaces.

It measures two things of each schedule.

The longest outage survived: in many short timelines, one service is down for a while and the others work. The
outage is shortened until no timeline loses a key. The timelines begin the outage just before a renewal is due
and at other times, give the sweeps every phase, and let EventBridge fire as early and as late as it may. The
service is Binance (5xx, or no answer) or, if the schedule uses them, Secrets Manager or DynamoDB.

The month: four outages a day, one of each of these kinds, which grow from day to day up to an hour. Between
them, and at least an hour away from them, there are smaller faults of every kind. A key is lost when its 60
minutes run out. Key-minutes are counted until its account has a live key again, and are shown by the length
of the outage.

The same seed gives the same table. schedules.py describes how the other programs are modelled.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import time
from bisect import bisect_right
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from local.terminal import wait_for
from simulation.schedules import LATE, Jitter, Schedule, schedules
from simulation.world import (
    BAN,
    DYNAMODB,
    EVENTS,
    MINUTE,
    ONE_ACCOUNT,
    RATE_LIMIT,
    RESETS,
    SECRETS,
    SERVER_ERRORS,
    TIMEOUTS,
    WRITES,
    Trouble,
    World,
    api_key_of,
    neighbours_troubles,
)

HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE
OUTAGES = (SERVER_ERRORS, SECRETS, TIMEOUTS, DYNAMODB)
REFUSALS = (RATE_LIMIT, BAN)
LOOP_OUTAGES = (SERVER_ERRORS, TIMEOUTS)
LONGEST = 60  # minutes
PHASES = 60  # how many phases of the sweep are tried in the timelines that begin just before a tick
CHANCES = 300  # timelines in which everything is random
# A few accounts whose run takes as long as one over 200: the last is renewed two seconds after the first.
FEW, FEW_LATENCY = 3, 0.6
BUCKETS = (25, 45, LONGEST)  # minutes


@dataclass(frozen=True, slots=True)
class Timeline:
    """When an outage begins (`start`, seconds), the phase of the sweep, and the jitter of both rules."""

    seed: str
    start: float
    phase: float | None = None
    jitter: Jitter | None = None


def survives(schedule: Schedule, kind: str, minutes: int, timeline: Timeline) -> bool:
    """Return whether no key is lost if `kind` is down for this many minutes."""
    bots = schedule.loop is not None
    end = timeline.start + minutes * MINUTE
    troubles = [Trouble(kind, timeline.start, end)]
    if schedule.neighbours:
        troubles += neighbours_troubles(timeline.start, end + HOUR)
    latency = schedule.latency if bots else FEW_LATENCY
    world = World(40 if bots else FEW, troubles, timeline.seed, latency, schedule.neighbours)
    schedule.play(world, end + HOUR, timeline.jitter, timeline.phase)
    return not world.lapses()


def worst_timelines(phases: int) -> list[Timeline]:
    """Return timelines in which a renewal was early, and the outage begins just before a late next one.

    For the tick: sweeps are early and late in turn, so that some gaps between them are as long as possible.
    For the sweep: it is late twice and then early twice, so that it comes early for a key renewed late.
    """
    found = []
    for late in range(2):

        def in_turn(name: str, number: int, late: int = late) -> float:
            return LATE * ((number + (late if name == "sweep" else 0)) % 2)

        start = 3 * 30 * MINUTE + LATE + 0.5
        found += [Timeline("worst", start, 5 * MINUTE * n / phases, in_turn) for n in range(phases)]
    for late in range(4):

        def in_pairs(name: str, number: int, late: int = late) -> float:
            return LATE * ((number + late) % 4 < 2)

        for phase in (0.0, 75.0, 150.0, 225.0):
            starts = [phase + 5 * MINUTE * n + in_pairs("sweep", n) + 0.5 for n in range(18, 24)]
            found += [Timeline("worst", start, phase, in_pairs) for start in starts]
    return found


def random_timelines(seed: str, count: int) -> list[Timeline]:
    """Return timelines with random phase and jitter, more often extreme. Most begin just before a firing."""
    found = []
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        phase = rng.uniform(0, 5 * MINUTE)
        late = {
            (name, firing): rng.choice([0.0, LATE, 0.0, LATE, rng.uniform(0, LATE)])
            for name in ("tick", "sweep")
            for firing in range(60)
        }
        firings = [30 * MINUTE * n + late["tick", n] for n in (3, 4)]
        firings += [phase + 5 * MINUTE * n + late["sweep", n] for n in range(12, 26)]
        start = rng.choice(firings) + 0.5 if rng.random() < 0.8 else rng.uniform(3600, 7200)
        found.append(Timeline(f"{seed}/{number}", start, phase, lambda *firing, late=late: late[firing]))
    return found


def longest_survived(schedule: Schedule, kind: str, seed: str) -> int:
    """Return the longest outage, in whole minutes, in which no timeline loses a key."""
    timelines = random_timelines(seed, 40 if schedule.loop else CHANCES)
    if not schedule.loop:
        timelines += worst_timelines(PHASES)
    longest = LONGEST
    for timeline in timelines:
        while longest and not survives(schedule, kind, longest, timeline):
            longest -= 1
    return longest


def month_of_troubles(days: int, accounts: int, seed: str) -> list[Trouble]:
    """Return a month's outages and smaller faults, in the order in which they begin."""
    rng = random.Random(seed)
    troubles = []
    for day in range(days):
        for slot, kind in enumerate(OUTAGES):
            begin = day * DAY + slot * 6 * HOUR
            start = begin + rng.uniform(0, 2 * HOUR)
            troubles.append(Trouble(kind, start, start + LONGEST * MINUTE * (day + 1) / days))
            kind = rng.choice((*OUTAGES, RESETS, RATE_LIMIT, ONE_ACCOUNT, WRITES, EVENTS))
            start = begin + 4 * HOUR + rng.uniform(0, 0.5 * HOUR)
            length = {RATE_LIMIT: 1.0, ONE_ACCOUNT: 20.0}.get(kind, 5.0) * MINUTE * rng.random()
            alone = api_key_of(rng.randrange(accounts)) if kind == ONE_ACCOUNT else None
            troubles.append(Trouble(kind, start, start + length, alone))
    return troubles


@dataclass(slots=True)
class Measured:
    """The results of a schedule.

    `requests` were sent in all, and `worst_minute` is the most in one minute. `lost` has the key-minutes lost
    for each of BUCKETS, and `survived` the longest outage in minutes for each kind.
    """

    requests: int = 0
    worst_minute: int = 0
    keys_lost: int = 0
    lost: list[float] = field(default_factory=lambda: [0.0] * len(BUCKETS))
    survived: dict[str, int] = field(default_factory=dict)


def month(schedule: Schedule, days: int, accounts: int, seed: str) -> Measured:
    """Play a month of troubles, and return all results but `survived`."""
    troubles = month_of_troubles(days, accounts, seed)
    theirs = []
    if schedule.neighbours:
        outages = [trouble for trouble in troubles if trouble.kind in OUTAGES]
        theirs = [own for outage in outages for own in neighbours_troubles(outage.start, outage.end)]
    world = World(
        accounts, troubles + theirs, f"{seed}/{schedule.name}", schedule.latency, schedule.neighbours
    )
    schedule.play(world, days * DAY)
    per_minute = world.wire.in_minute.values()
    measured = Measured(sum(per_minute), max(per_minute), len(world.lapses()))
    starts = [trouble.start for trouble in troubles]
    for lapse in world.lapses():
        trouble = troubles[bisect_right(starts, lapse.died) - 1]
        minutes = (trouble.end - trouble.start) / MINUTE
        bucket = next((n for n, most in enumerate(BUCKETS) if minutes <= most), -1)
        measured.lost[bucket] += (lapse.until - lapse.died) / MINUTE
    return measured


def _month(index: int, days: int, accounts: int, seed: str) -> Measured:
    return month(schedules()[index], days, accounts, seed)


def _longest(index: int, kind: str, seed: str) -> int:
    return longest_survived(schedules()[index], kind, seed)


def _begin() -> None:
    """Prepare a worker process: it ends at once at Ctrl-C, and discards the program's log."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.getLogger("listenkeys").addHandler(logging.NullHandler())


def measure(days: int, accounts: int, seed: str) -> list[Measured]:
    """Measure every schedule, in as many processes as there are processors."""
    compared = schedules()
    with ProcessPoolExecutor(os.cpu_count(), initializer=_begin) as pool:
        # Those that take longest go first.
        order = sorted(range(len(compared)), key=lambda n: compared[n].loop is None)
        months = {n: pool.submit(_month, n, days, accounts, seed) for n in order}
        survived = {
            (n, kind): pool.submit(_longest, n, kind, seed)
            for n, schedule in enumerate(compared)
            for kind in (LOOP_OUTAGES if schedule.loop else (*OUTAGES, *REFUSALS))
        }
        wait_for([*months.values(), *survived.values()], "parts played")
        found = [months[n].result() for n in range(len(compared))]
        for (n, kind), minutes in survived.items():
            found[n].survived[kind] = minutes.result()
    return found


def table(days: int, accounts: int, seed: str, measured: list[Measured]) -> str:
    """Return the results as a text table."""
    compared = schedules()
    lines = [
        f"{days} days, {accounts} accounts, seed {seed}; {4 * days} outages of up to {LONGEST} minutes and "
        f"{4 * days} smaller faults",
        "",
        f"{'':46} {'longest':>8} {'key-minutes lost in outages of':>32} {'keys':>7} {'':>9} {'most in':>8}",
        f"{'schedule':46} {'outage':>8} {'<= 25 min':>10} {'<= 45 min':>10} {'longer':>10} {'lost':>7} "
        f"{'requests':>9} {'a minute':>8}",
    ]
    for schedule, one in zip(compared, measured, strict=True):
        outage = min(minutes for kind, minutes in one.survived.items() if kind not in REFUSALS)
        lost = " ".join(f"{minutes:10,.1f}" for minutes in one.lost)
        lines.append(
            f"{schedule.label:46} {f'{outage} min':>8} {lost} {one.keys_lost:7,} {one.requests:9,} "
            f"{one.worst_minute:8,}"
        )
    lines += [
        "",
        "Most in a minute: the weight that all runs together sent to the futures group in any clock minute.",
        "Two accounts that Binance refuses: one revoked as an outage begins, one that the firewall refuses;",
        "they have keys of their own, which do not count.",
        "",
        "Longest outage of each kind, in minutes. 429 and ban are refusals, not outages: a run",
        "gives up early and leaves the accounts to the next.",
        "",
    ]
    lines += [f"{'':46} " + " ".join(f"{kind:>15}" for kind in (*OUTAGES, *REFUSALS))]
    for schedule, one in zip(compared, measured, strict=True):
        if not schedule.loop:
            by_kind = " ".join(f"{one.survived[kind]:15}" for kind in (*OUTAGES, *REFUSALS))
            lines.append(f"{schedule.label:46} {by_kind}")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="make simulate", description="Play a month of troubles against this program and others."
    )
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--accounts", type=int, default=200)
    parser.add_argument("--seed", default="1")
    options = parser.parse_args(arguments)
    if options.days < 1 or options.accounts < 1:
        parser.error("--days and --accounts must be at least 1")
    began = time.monotonic()
    measured = measure(options.days, options.accounts, options.seed)
    print(table(options.days, options.accounts, options.seed, measured))
    print(f"\nplayed in {time.monotonic() - began:.0f} s")
    return 0
