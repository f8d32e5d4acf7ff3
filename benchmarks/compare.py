"""`make bench OTHER=checkout`: compares this checkout's function with another's, in turns, as ratios.

Each checkout is measured with its own benchmarks, because the tables of the responders may differ, and with
its own built function: run `make build .venv-runtime/.installed` there first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# Runs in the checkout, with its benchmarks. Prints CPU seconds and peak MB of each subject.
SUBJECT = """
import json, sys
from pathlib import Path
from benchmarks.cold_start import measure
from benchmarks.run import run
weight = {"MAX_WEIGHT_PER_MINUTE": "2400"}
found = {}
for accounts, *how in ((1,), (16,), (1000,), (10_000, "--unpaced"), (2000, "--sweep")):
    name = "a sweep with nothing to do" if "--sweep" in how else "whole cycle"
    found[f"{name}, {accounts:,}"] = run(accounts, "whole_cycle", *how, variables=weight)
for name, [each] in measure(1, Path(".aws-sam/build/KeepaliveFunction")).items():
    found[name] = each
figures = {name: {key: each[key] for key in ("cpu", "peak_mb")} for name, each in found.items()}
print("\\n" + json.dumps(figures))
"""
FIGURES = {"cpu": "CPU", "peak_mb": "peak memory"}


def measure(checkout: Path) -> dict[str, dict[str, float]]:
    """Measure a checkout once. Returns CPU seconds and peak MB of each subject."""
    variables = {**os.environ, "PYTHONPATH": f"{checkout}/functions/keepalive{os.pathsep}{checkout}"}
    command = [sys.executable, "-c", SUBJECT]
    done = subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout}:\n{done.stderr}")
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(pairs: list[tuple[Any, Any]]) -> list[str]:
    """Return a table of the medians of both, and of the ratios of each pair with their range in brackets."""
    lines = ["| | | other | this | ratio |", "|---|---|--:|--:|--:|"]
    for name in pairs[0][0]:
        if name.startswith("bare"):
            continue
        for key, what in FIGURES.items():
            ours, theirs = ([each[side][name][key] for each in pairs] for side in (0, 1))
            ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
            middle = statistics.median(ratios)
            lines.append(
                f"| {name} | {what} | {statistics.median(theirs):.3f} | {statistics.median(ours):.3f} "
                f"| {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("other", type=Path, help="the other checkout, built")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    arguments = parser.parse_args()
    load = f"{os.getloadavg()[0]:.1f}"
    pairs = []
    for number in range(arguments.rounds):
        print(f"{number + 1}/{arguments.rounds}", file=sys.stderr)
        pairs.append((measure(ROOT), measure(arguments.other.resolve())))
    print(f"{os.cpu_count()} cores, load average, before and after: {load}, {os.getloadavg()[0]:.1f}")
    print(*table(pairs), sep="\n")


if __name__ == "__main__":
    main()
