"""`make chaos`: days of the real handler under faults of every kind at once (SEEDS=1-3, HOURS=24)."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from chaos.audience import Audience
from chaos.day import Day
from chaos.plants import PLANTS, planted
from local.aws.dynamodb_local import dynamodb_local

MOST_STORIES = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seeds", default="1-3", help="such as 1-3 or 7 or 2,5")
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--bots", action="store_true", help="with ten bots that listen")
    parser.add_argument("--plant", choices=[*PLANTS, "all"], help="a bug that the days have to find")
    parser.add_argument("--story", action="store_true", help="print the whole story of each day")
    options = parser.parse_args()
    seeds, failed = _seeds(options.seeds), 0
    with ExitStack() as stack:
        if folder := os.environ.get("DYNAMODB_LOCAL"):
            os.environ["DYNAMODB_URL"] = stack.enter_context(dynamodb_local(Path(folder)))
        if options.plant:
            for name in PLANTS if options.plant == "all" else [options.plant]:
                failed += not any(_finds(name, seed, options.hours) for seed in seeds)
            return 1 if failed else 0
        for seed in seeds:
            failed += _play(seed, options.hours, Audience if options.bots else Day, options.story)
    return 1 if failed else 0


def _play(seed: str, hours: float, kind: type[Day], whole_story: bool) -> bool:
    """Play a day and print its results. Return whether a rule was broken."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        day = kind(seed, hours, Path(folder))
        day.play()
    violations, bots = day.checks.violations, " BOTS=1" if kind is Audience else ""
    for violation in violations[:MOST_STORIES]:
        print(*violation.story, sep="\n")
        print(f"  again: make chaos SEEDS={seed} HOURS={hours:g}{bots}")
    if whole_story:
        print(*day.world.story_of((), most=10**9), sep="\n")
    broken = Counter(violation.rule for violation in violations)
    verdict = ", ".join(f"{count} of {rule}" for rule, count in broken.items())
    settings = " ".join(f"{name}={value}" for name, value in day.world.parameters.items())
    print(f"seed {seed}, {hours:g} h ({settings}): {f'VIOLATIONS: {verdict}' if broken else 'no violation'}")
    counts = {**day.world.counts, "outages": len(day.plan.outages), "copies of events": day.checks.copies}
    print(f"  {', '.join(f'{count:,} {name}' for name, count in sorted(counts.items()))}")
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return bool(broken)


def _finds(name: str, seed: str, hours: float) -> bool:
    """Play a day with a bug until one of the bug's rules is broken, and print the result.

    Return whether one was broken.
    """
    plant, began = PLANTS[name], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        day = Day(seed, hours, Path(folder), program=planted(plant, Path(folder)))
        day.checks.awaited = plant.rules
        day.play()
    found = next((each for each in day.checks.violations if each.rule in plant.rules), None)
    others = {each.rule for each in day.checks.violations} - set(plant.rules)
    after = f"after {(day.keeper.now() - day.world.start) / 3600:.1f} h"
    print(f"bug {name}, {plant.what}, seed {seed}: ", end="")
    print(f"found {after}: {found}" if found else f"NOT found {after}", end="")
    print(f" (also broken: {', '.join(sorted(others))})" if others else "", end="")
    print(f", {time.monotonic() - began:.0f} s", flush=True)
    return found is not None


def _seeds(text: str) -> list[str]:
    seeds: list[str] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += [str(seed) for seed in range(int(first), int(last or first) + 1)]
    return seeds


if __name__ == "__main__":
    sys.exit(main())
