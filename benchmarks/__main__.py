"""`make bench`: everything in one run on one machine; prints tables and writes them to README.md."""

import argparse
import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import cold_start
from benchmarks.run import run
from local.aws.runtime import BUILD

ROOT = Path(__file__).parent
README = ROOT / "README.md"
MEASURED = ROOT / "measured.json"
MARKS = "<!-- measured -->\n", "<!-- end -->\n"
CONCURRENCY = 16
WEIGHT = {"MAX_WEIGHT_PER_MINUTE": "2400"}
PEERS = {
    "python-binance": ("python_binance_put", ".venv-python-binance"),
    "Binance's SDK": ("binance_sdk_put", ".venv-binance-sdk"),
    "ccxt (async)": ("ccxt_put", ".venv-ccxt"),
}
# How often what takes longest is measured, at most.
LONG = {("the plain handler", 1000): 1, ("whole cycle", 10_000): 3, ("PUT alone: the floor", 10_000): 3}
Runs = list[dict[str, Any]]


def whole_cycle(accounts: int) -> dict[str, Any]:
    # Above 2400 accounts the budget would have the run wait for the next minute; its CPU is the same.
    lift = ["--unpaced"] if accounts > int(WEIGHT["MAX_WEIGHT_PER_MINUTE"]) else []
    return run(accounts, "whole_cycle", *lift, variables=WEIGHT)


def sweep(accounts: int) -> dict[str, Any]:
    return run(accounts, "whole_cycle", "--sweep", variables=WEIGHT)


def plain(accounts: int) -> dict[str, Any]:
    return run(accounts, "plain")


def floor(accounts: int) -> dict[str, Any]:
    return run(accounts, "floor", CONCURRENCY)


def floor_undelayed(accounts: int) -> dict[str, Any]:
    return run(accounts, "floor", CONCURRENCY, delays=(0.0, 0.0))


def peer(name: str, shared: bool) -> Callable[[int], dict[str, Any]]:
    subject, environment = PEERS[name]
    python = str(ROOT.parent / environment / "bin/python")

    def once(accounts: int) -> dict[str, Any]:
        how = ["--shared"] if shared else []
        return run(accounts, subject, CONCURRENCY, *how, python=python, close=not shared)

    return once


def subjects(quick: bool) -> list[tuple[str, Callable[[int], dict[str, Any]], list[int]]]:
    return [
        ("whole cycle", whole_cycle, [1, 100, 1000, 2000] if quick else [1, 100, 1000, 2000, 10_000]),
        ("a sweep with nothing to do", sweep, [2000]),
        ("the plain handler", plain, [1, 100] if quick else [1, 100, 1000]),
        *((f"PUT alone: {name}", peer(name, shared=False), [200]) for name in PEERS),
        *((f"PUT alone: {name}, one client for all", peer(name, shared=True), [1000]) for name in PEERS),
        ("PUT alone: the floor", floor, [100, 1000] if quick else [1, 100, 1000, 2000, 10_000]),
        ("the floor, no delay", floor_undelayed, [2000]),
    ]


def per_account(runs: Runs) -> list[float]:
    """Return each run's CPU an account, in ms."""
    return [found["cpu"] / found["accounts"] * 1000 for found in runs]


def middle(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], digits: int) -> str:
    return f"{middle(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"  # noqa: RUF001


def cycle_table(found: dict[tuple[str, int], Runs]) -> list[str]:
    lines = [
        "| | accounts | CPU ms an account | to floor | wall s | to floor | peak MB | responders ms |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (name, accounts), runs in found.items():
        cpu, wall = per_account(runs), [each["wall"] for each in runs]
        base = found.get(("PUT alone: the floor", accounts)) or found["PUT alone: the floor", 1000]
        times = middle(cpu) / middle(per_account(base))
        same = base[0]["accounts"] == accounts
        longer = f"{middle(wall) / middle([each['wall'] for each in base]):.2f}" if same else ""
        peak = max(each["peak_mb"] for each in runs)
        theirs = middle([each["responder_cpu"] for each in runs]) / accounts * 1000
        lines.append(
            f"| {name} | {accounts:,} | {spread(cpu, 3)} | {times:.1f} | {spread(wall, 2)} | {longer} "
            f"| {peak:.0f} | {theirs:.2f} |"
        )
    return lines


def start_table(found: dict[str, Runs]) -> list[str]:
    lines = ["| | INIT ms | CPU s | to bare | peak MB |", "|---|--:|--:|--:|--:|"]
    for name, runs in found.items():
        cpu = [each["cpu"] for each in runs]
        bare = [each["cpu"] for each in found[name.replace("function", "bare")]]
        init = [each["init_ms"] for each in runs]
        lines.append(
            f"| {name} | {spread(init, 0)} | {spread(cpu, 2)} | {middle(cpu) / middle(bare):.2f} "
            f"| {max(each['peak_mb'] for each in runs):.0f} |"
        )
    return lines


def goals(found: dict[tuple[str, int], Runs], starts: dict[str, Runs], megabytes: float) -> list[str]:
    """Return what was aimed at and what came out."""
    cycle = middle(per_account(found["whole cycle", 2000]))
    most_plain = max(key for key in found if key[0] == "the plain handler")
    own = min((middle(per_account(found[f"PUT alone: {name}", 200])), name) for name in PEERS)
    shared = min(
        (middle(per_account(found[f"PUT alone: {name}, one client for all", 1000])), name) for name in PEERS
    )
    walls = [
        middle([each["wall"] for each in found[name, 1000]])
        for name in ("whole cycle", "PUT alone: the floor")
    ]
    warm, bare = (
        middle([each["cpu"] for each in starts[f"{name}, with bytecode"]]) for name in ("function", "bare")
    )
    largest = max(key for key in found if key[0] == "whole cycle")
    memory = max(each["peak_mb"] for each in found[largest])
    rows = [
        ("whole cycle at 2,000 accounts, CPU ms an account", cycle, 0.9),
        (
            "whole cycle to the plain handler, CPU",
            cycle / middle(per_account(found[most_plain])),
            1 / 6,
        ),
        (
            f"whole cycle to the cheapest peer's PUT ({own[1]}), CPU",
            cycle / own[0],
            1,
        ),
        (f"the same, were one client used for all accounts ({shared[1]})", cycle / shared[0], 1),
        ("wall at 1,000 accounts to the floor's", walls[0] / walls[1], 1.5),
        ("INIT CPU to the bare imports and clients", warm / bare, 1.15),
        (f"peak MB at {largest[1]:,} accounts", memory, 160),
        ("zip, MB", megabytes, 2),
    ]
    return [
        "| goal | at most | measured | |",
        "|---|--:|--:|---|",
        *(
            f"| {what} | {most:.3g} | {value:.3g} | {'met' if value <= most else '**missed**'} |"
            for what, value, most in rows
        ),
    ]


def machine(load: str, also: str = "") -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({model[1] if model else '?'}), "
        f"{int(memory[1]) / 2**20 if memory else 0:.0f} GB, {platform.system()}, Python "
        f"{platform.python_version()}{also}; load average, before and after: {load}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured; the median counts")
    parser.add_argument("--quick", action="store_true", help="leave out the largest, and write nothing")
    parser.add_argument("--built", type=Path, default=BUILD / "KeepaliveFunction", help="the built function")
    arguments = parser.parse_args()
    rounds, quick = arguments.rounds, arguments.quick
    load = f"{os.getloadavg()[0]:.1f}"
    found: dict[tuple[str, int], Runs] = {}
    plan = [(name, once, accounts) for name, once, sizes in subjects(quick) for accounts in sizes]
    for name, _, accounts in plan:
        found[name, accounts] = []
    for number in range(rounds):  # in turns, so that a busy minute is everybody's
        for name, once, accounts in plan:
            if number >= LONG.get((name, accounts), rounds):
                continue
            print(f"{number + 1}/{rounds} {name}, {accounts:,} accounts", file=sys.stderr)
            found[name, accounts].append(once(accounts))
    print("cold starts", file=sys.stderr)
    starts = cold_start.measure(rounds, arguments.built)
    megabytes = cold_start.zip_mb(arguments.built)
    load += f", {os.getloadavg()[0]:.1f}"
    tables = "\n".join(
        [
            machine(load, " (cold start: 3.13)"),
            f"Medians of {rounds} runs (the longest fewer), least and most in brackets.",
            "",
            *goals(found, starts, megabytes),
            "",
            *cycle_table(found),
            "",
            *start_table(starts),
            "",
        ]
    )
    print(tables)
    if quick:
        return
    text = README.read_text()
    before, rest = text.split(MARKS[0])
    README.write_text(before + MARKS[0] + tables + MARKS[1] + rest.split(MARKS[1])[1])
    cycles = {accounts: runs for (name, accounts), runs in found.items() if name == "whole cycle"}
    warm = starts["function, with bytecode"]
    # What costs.py computes with.
    measured = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "initCpuSeconds": round(middle([each["cpu"] for each in warm]), 3),
        "cpuMsPerAccount": round(middle(per_account(cycles[2000])), 3),
        "cpuMsOfARun": round(middle(per_account(cycles[1])), 1),
        "sweepCpuMsPerAccount": round(middle(per_account(found["a sweep with nothing to do", 2000])), 3),
        "logBytesOfARun": cycles[2000][0]["log_bytes"],
        "metrics": cycles[2000][0]["metrics"],
        "accounts": 2000,
        "tickCalls": cycles[2000][0]["calls"],
        "sweepCalls": found["a sweep with nothing to do", 2000][0]["calls"],
    }
    MEASURED.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
