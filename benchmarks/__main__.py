"""`make bench`: measures everything in one run on one machine. Prints tables and writes them to README.md."""

import argparse
import json
import os
import platform
import re
import ssl
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import certifi

from benchmarks import cold_start
from benchmarks.cold_start import COLD_SWEEP
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
# The most rounds of the measurements that take longest.
LONG = {
    ("the plain handler", 1000): 1,
    ("whole cycle", 10_000): 3,
    ("PUT alone: the floor", 10_000): 3,
    ("whole cycle, under the cap", 10_000): 1,
}
FLOOR, PLAIN = "PUT alone: the floor", "the plain handler"
BARE_OF = {COLD_SWEEP: "bare, with bytecode"}
Runs = list[dict[str, Any]]


def whole_cycle(accounts: int) -> dict[str, Any]:
    # With more than 2400 accounts, the run would wait for the next minute's budget; its CPU is the same.
    lift = ["--unpaced"] if accounts > int(WEIGHT["MAX_WEIGHT_PER_MINUTE"]) else []
    return run(accounts, "whole_cycle", *lift, variables=WEIGHT)


def sweep(accounts: int) -> dict[str, Any]:
    return run(accounts, "whole_cycle", "--sweep", variables=WEIGHT)


def paced(accounts: int) -> dict[str, Any]:
    return run(accounts, "whole_cycle", variables=WEIGHT)


def without_tls(accounts: int) -> dict[str, Any]:
    return run(accounts, "whole_cycle", tls=False, variables=WEIGHT)


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
        ("whole cycle", whole_cycle, [1, 16, 100, 1000, 2000] + [10_000] * (not quick)),
        ("whole cycle, without TLS", without_tls, [16]),
        *([] if quick else [("whole cycle, under the cap", paced, [10_000])]),
        ("a sweep with nothing to do", sweep, [2000]),
        (PLAIN, plain, [1, 100] if quick else [1, 100, 1000]),
        *((f"PUT alone: {name}", peer(name, shared=False), [200]) for name in PEERS),
        *((f"PUT alone: {name}, one client for all", peer(name, shared=True), [1000]) for name in PEERS),
        (FLOOR, floor, [100, 1000] if quick else [1, 100, 1000, 2000, 10_000]),
        ("the floor, no delay", floor_undelayed, [2000]),
    ]


def per_account(runs: Runs) -> list[float]:
    """Return the CPU per account of each run, in ms."""
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
        base = found.get((FLOOR, accounts)) or found[FLOOR, 1000]
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
        bare = [each["cpu"] for each in found[BARE_OF.get(name, name.replace("function", "bare"))]]
        init = [each["init_ms"] for each in runs]
        lines.append(
            f"| {name} | {spread(init, 0)} | {spread(cpu, 2)} | {middle(cpu) / middle(bare):.2f} "
            f"| {max(each['peak_mb'] for each in runs):.0f} |"
        )
    return lines


def bundle_seconds() -> float:
    """Return the CPU time that reading the CA bundle once takes on this machine."""

    def once() -> float:
        began = time.process_time()
        ssl.create_default_context(cafile=certifi.where())
        return time.process_time() - began

    return middle([once() for _ in range(9)])


def weight_used(minutes: dict[int, int]) -> float:
    """Return the smallest share of the cap that was used in a clock minute, except the first and the last."""
    full = [sent for _, sent in sorted(minutes.items())][1:-1]
    return min(full) / int(WEIGHT["MAX_WEIGHT_PER_MINUTE"])


def goals(found: dict[tuple[str, int], Runs], starts: dict[str, Runs], megabytes: float) -> list[str]:
    """Return a table of the goals, the measured values, and whether the goals are met."""

    def cpu(name: str, accounts: int) -> float:
        return middle(per_account(found[name, accounts]))

    def start(name: str) -> float:
        return middle([each["cpu"] for each in starts[name]])

    _, most = max(key for key in found if key[0] == PLAIN)
    bare, load = start("bare, with bytecode"), bundle_seconds()
    tls = (cpu("whole cycle", 16) - cpu("whole cycle, without TLS", 16)) * 16 / 1000
    _, largest = max(key for key in found if key[0] == "whole cycle")
    memory = max(each["peak_mb"] for each in found["whole cycle", largest])
    rows: list[tuple[str, float, float]] = [
        (
            "whole cycle to the plain handler, CPU",
            cpu("whole cycle", most) / cpu(PLAIN, most),
            1 / 8,
        ),
        *(
            (
                f"whole cycle at 1,000 to {name}'s PUT, a client an account, CPU",
                cpu("whole cycle", 1000) / cpu(f"PUT alone: {name}", 200),
                1 / 4,
            )
            # Only the two that read the CA bundle again for each client; README.md also compares ccxt.
            for name in ("python-binance", "Binance's SDK")
        ),
        ("a cold sweep with nothing to do, to the same bare INIT", start(COLD_SWEEP) / bare, 1.15),
        (f"TLS in a tick of 16, in loads of the CA bundle ({load * 1000:.0f} ms)", tls / load, 1.5),
        (f"peak MB at {largest:,} accounts", memory, 100),
        ("zip, MB", megabytes, 2),
    ]
    lines = [
        f"| {what} | {most:.3g} | {value:.3g} | {'met' if value <= most else '**missed**'} |"
        for what, value, most in rows
    ]
    if capped := found.get(("whole cycle, under the cap", 10_000)):
        used = weight_used(capped[0]["minutes"])
        lines.append(
            f"| 10,000 accounts: the cap's share used in every full minute | at least 0.97 | {used:.3g} "
            f"| {'met' if used >= 0.97 else '**missed**'} |"
        )
    return ["| goal | at most | measured | |", "|---|--:|--:|---|", *lines]


def machine(load: str, also: str = "") -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({model[1] if model else '?'}), "
        f"{int(memory[1]) / 2**20 if memory else 0:.0f} GB, {platform.system()}, Python "
        f"{platform.python_version()}{also}; load average, before and after: {load}."
    )


def write(tables: str, marks: tuple[str, str]) -> None:
    """Write tables to README.md, between their marks."""
    before, rest = README.read_text().split(marks[0])
    README.write_text(before + marks[0] + tables + marks[1] + rest.split(marks[1], 1)[1])


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
    for number in range(rounds):  # in turns, so that a busy minute affects all
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
    write(tables, MARKS)
    cycles = {accounts: runs for (name, accounts), runs in found.items() if name == "whole cycle"}
    # A run that stayed within a clock minute has the fewest calls.
    tick = min(cycles[2000], key=lambda each: sum(each["calls"].values()))
    warm = starts["function, with bytecode"]
    # The input of costs.py.
    measured = json.loads(MEASURED.read_text()) | {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "sweepInitCpuSeconds": round(middle([each["cpu"] for each in starts[COLD_SWEEP]]), 3),
        "initCpuSeconds": round(middle([each["cpu"] for each in warm]), 3),
        "cpuMsPerAccount": round(middle(per_account(cycles[2000])), 3),
        "cpuMsOfARun": round(middle(per_account(cycles[1])), 1),
        "sweepCpuMsPerAccount": round(middle(per_account(found["a sweep with nothing to do", 2000])), 3),
        "logBytesOfARun": tick["log_bytes"],
        "metrics": tick["metrics"],
        "accounts": 2000,
        "tickCalls": tick["calls"],
        "sweepCalls": found["a sweep with nothing to do", 2000][0]["calls"],
    }
    MEASURED.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
