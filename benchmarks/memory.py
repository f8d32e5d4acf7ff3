"""Which memory size is best: measures a cold start and a first tick with each size's share of a processor.

This is the last part of `make bench`. It prints a table, writes it to README.md, and draws docs/memory.svg.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

from benchmarks import prices
from benchmarks.__main__ import MEASURED, machine, write
from benchmarks.cold_start import SWEEP, TICK, cold_start, variants
from benchmarks.costs import ROUND_TRIP, SWEEPS, TICKS
from benchmarks.responders import responders
from benchmarks.share import FULL, usable
from local.aws.runtime import BUILD
from local.aws.stack import expand

MARKS = "<!-- memory -->\n", "<!-- end of memory -->\n"
GOAL = 5.0  # seconds from the event to the last PUT, with the default memory
PICTURE = Path(__file__).parent.parent / "docs/memory.svg"
SIZES = (128, 256, 512, 1024, 1769)
ACCOUNTS = (1, 16, 100, 1000)
TYPICAL = 100  # accounts, for the picture and the default
WITHIN = 1.1  # of the fastest
# The picture has no background. These colours can be read on white and on black.
_INK, _TIME, _COST = "#7a7a7a", "#2f86a6", "#cc6238"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 320, 50, 590, 50, 270
# Median seconds until the end and until the last PUT, by memory and accounts (0: a sweep with nothing to do).
Measured = dict[tuple[int, int], tuple[float, float]]


def measure(rounds: int, built: Path) -> Measured:
    """Measure cold starts with all sizes `rounds` times, in turns, with TLS and Binance 100 ms away."""
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    with variants(built) as directories:
        code = directories["function, with bytecode"]
        for number in range(rounds):
            for memory in SIZES:
                print(f"{number + 1}/{rounds} {memory} MB", file=sys.stderr)
                for accounts in (0, *ACCOUNTS):
                    with responders(accounts or TYPICAL, ROUND_TRIP) as up:
                        once = cold_start(code, TICK if accounts else SWEEP, up, memory)
                    if up.calls.get("PUT listenKey", 0) != accounts:
                        raise SystemExit(f"{up.calls} for {accounts} accounts with {memory} MB")
                    last = up.last_put - once["began"] if accounts else 0.0
                    found.setdefault((memory, accounts), []).append((once["wall"], last))
    return {
        key: (statistics.median(w for w, _ in runs), statistics.median(p for _, p in runs))
        for key, runs in found.items()
    }


def dollars(found: Measured, memory: int) -> float:
    """Return the list price of a month of ticks and sweeps of the typical stack if all of them are cold."""
    seconds = TICKS * found[memory, TYPICAL][0] + SWEEPS * found[memory, 0][0]
    return prices.LAMBDA_GB_SECOND.of(seconds * memory / 1024, False)


def default(found: Measured) -> int:
    """Return the cheapest size with which a typical tick takes at most a tenth longer than the fastest."""
    fastest = min(found[memory, TYPICAL][0] for memory in SIZES)
    fast = [memory for memory in SIZES if found[memory, TYPICAL][0] <= fastest * WITHIN]
    return min(fast, key=lambda memory: dollars(found, memory))


def table(found: Measured) -> list[str]:
    """Return the table: wall seconds, the billed GB-seconds of a typical tick, dollars a month."""
    heads = [f"tick, {accounts:,}" for accounts in ACCOUNTS]
    lines = [
        f"| MB | processors | sweep | {' | '.join(heads)} | last PUT of {TYPICAL} | its GB-s | $ a month |",
        "|--:|" + "--:|" * (len(ACCOUNTS) + 5),
    ]
    for memory in SIZES:
        walls = " | ".join(f"{found[memory, accounts][0]:.2f}" for accounts in (0, *ACCOUNTS))
        wall, last = found[memory, TYPICAL]
        lines.append(
            f"| {memory} | {memory / FULL:.3f} | {walls} | {last:.2f} | {wall * memory / 1024:.2f} "
            f"| {dollars(found, memory):.3f} |"
        )
    return lines


def picture(found: Measured) -> str:
    """Return a chart of time and cost over memory, as SVG."""
    curves: list[tuple[str, str, dict[int, float]]] = [
        (_TIME, f"seconds, a cold tick of {TYPICAL} accounts", {m: found[m, TYPICAL][0] for m in SIZES}),
        (_COST, "dollars a month, every run cold", {m: dollars(found, m) for m in SIZES}),
    ]
    step = (_RIGHT - _LEFT) / (len(SIZES) - 1)
    parts = [f'<path d="M{_LEFT} {_BOTTOM}H{_RIGHT}" stroke="{_INK}"/>']
    for place, memory in enumerate(SIZES):
        parts.append(_text(_LEFT + place * step, _BOTTOM + 20, f"{memory} MB", _INK))
    for row, (colour, name, values) in enumerate(curves):
        most = max(values.values())
        points = [
            (_LEFT + place * step, _BOTTOM - value / most * (_BOTTOM - _TOP - 10))
            for place, value in enumerate(values.values())
        ]
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        digits = 1 if row == 0 else 2
        for (x, y), value in zip(points, values.values(), strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
            parts.append(_text(x, y - 9 if row == 0 else y + 18, f"{value:.{digits}f}", colour))
        parts.append(_text(_LEFT, 16 + 18 * row, name, colour, "start"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"'
    font = 'font-family="system-ui, sans-serif" font-size="13" role="img"'
    title = "<title>Time and cost of a run over the memory of the function</title>"
    return "\n".join([f"{head} {font}>", title, *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, colour: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{text}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the median counts")
    parser.add_argument("--built", type=Path, default=BUILD / "KeepaliveFunction", help="the built function")
    arguments = parser.parse_args()
    if not usable():
        print("the share of a processor that memory brings is not measured: only root may limit it")
        return
    load = f"{os.getloadavg()[0]:.1f}"
    found = measure(arguments.rounds, arguments.built)
    deployed = int(expand()["Parameters"]["MemorySize"]["Default"])
    last = found[deployed, TYPICAL][1]
    tables = [
        machine(f"{load}, {os.getloadavg()[0]:.1f}", " (the function: 3.13)"),
        f"Seconds of wall time, medians of {arguments.rounds} runs.",
        "",
        *table(found),
        "",
        f"The cheapest within a tenth of the fastest is {default(found)} MB. `MemorySize` is {deployed}: "
        f"the last of {TYPICAL} keys is renewed {last:.1f} s after the event; the goal is {GOAL:.0f} s: "
        f"{'met' if last <= GOAL else '**missed**'}.",
        "",
    ]
    print("\n".join(tables))
    write("\n".join(tables), MARKS)
    # costs.py writes these to README.md.
    measured = json.loads(MEASURED.read_text())
    measured["wallSeconds"] = {
        str(memory): {"sweep": round(found[memory, 0][0], 2), "tick of 16": round(found[memory, 16][0], 2)}
        for memory in (512, 1769)
    }
    MEASURED.write_text(json.dumps(measured, indent=2) + "\n")
    PICTURE.write_text(picture(found))


if __name__ == "__main__":
    main()
