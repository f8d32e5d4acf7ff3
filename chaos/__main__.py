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
from local.aws.dynamodb_local import dynamodb_local

MOST_STORIES = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seeds", default="1-3", help="such as 1-3 or 7 or 2,5")
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--bots", action="store_true", help="with ten bots that listen")
    parser.add_argument("--story", action="store_true", help="print the whole story of each day")
    options = parser.parse_args()
    total, failed = Counter[str](), 0
    with ExitStack() as stack:
        if folder := os.environ.get("DYNAMODB_LOCAL"):
            os.environ["DYNAMODB_URL"] = stack.enter_context(dynamodb_local(Path(folder)))
        for seed in _seeds(options.seeds):
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                day = (Audience if options.bots else Day)(seed, options.hours, Path(folder))
                day.play()
                for violation in day.checks.violations[:MOST_STORIES]:
                    print(*violation.story, sep="\n")
                    print(f"  again: make chaos SEEDS={seed} HOURS={options.hours:g}")
                broken = Counter(violation.rule for violation in day.checks.violations)
                failed += bool(broken)
                verdict = ", ".join(f"{n} of {rule}" for rule, n in broken.items())
                verdict = f"VIOLATIONS: {verdict}" if broken else "no violation"
                if options.story:
                    print(*day.world.story_of((), most=10**9), sep="\n")
                total += day.world.counts
                what = ", ".join(f"{n} {name}" for name, n in sorted(day.world.counts.items()))
                settings = " ".join(f"{name}={value}" for name, value in day.world.parameters.items())
                print(f"seed {seed} ({settings}): {verdict}")
                print(
                    f"  {len(day.world.plan.outages)} outages, {what}, {day.checks.copies} copies of events;",
                    end=" ",
                )
                print(f"{time.monotonic() - began:.0f} s", flush=True)
    print("all days:", ", ".join(f"{n} {name}" for name, n in sorted(total.items())))
    return 1 if failed else 0


def _seeds(text: str) -> list[str]:
    seeds: list[str] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += [str(seed) for seed in range(int(first), int(last or first) + 1)]
    return seeds


if __name__ == "__main__":
    sys.exit(main())
