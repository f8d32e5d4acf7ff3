"""The picture: how long a key lives on while Binance is down, under this program and under a plain loop."""

from __future__ import annotations

import importlib
from bisect import bisect_right
from pathlib import Path
from typing import Any

from simulation.schedules import LATE, Schedule, default_settings, thirty_minutes
from simulation.world import MINUTE, SERVER_ERRORS, Trouble, World

OUTAGE, LEASE, ALARM = 25, 60, 15  # minutes
BEFORE, AFTER = 35, 70  # minutes drawn around the outage's beginning
# No background, and colours that can be read on a white page and on a dark one.
_INK, _FAINT, _ALARM, _OURS, _THEIRS = "#7a7a7a", "#8a8a8a", "#a07818", "#2f86a6", "#cc6238"


def remaining(schedule: Schedule, seed: str) -> tuple[list[float], list[float]]:
    """Return minutes since an outage of OUTAGE minutes began, and the minutes the account's key then lives.

    The outage begins 30 s before a renewal, about two hours into the timeline: the worst moment.
    """

    def play(troubles: list[Trouble]) -> list[float]:
        world = World(1, troubles, seed, latency=0.1)
        world.exchange.renewals = []
        schedule.play(world, 6 * 60 * MINUTE, jitter=lambda rule, number: LATE / 2, sweep_phase=100.0)
        return [at for at, _ in world.exchange.renewals]

    begin = next(at for at in play([]) if at > 110 * MINUTE) - 30
    renewed = play([Trouble(SERVER_ERRORS, begin, begin + OUTAGE * MINUTE)])
    times, left = [], []
    for tenth in range(-BEFORE * 10, AFTER * 10 + 1):
        at = begin + tenth / 10 * MINUTE
        last = renewed[bisect_right(renewed, at) - 1]
        times.append(tenth / 10)
        left.append(max(0.0, LEASE - (at - last) / MINUTE))
    return times, left


def draw(path: Path) -> None:
    """Draw the picture; the suffix of the path says how (.svg, .png). Needs matplotlib."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError:
        raise SystemExit("matplotlib is needed to draw: requirements/simulate.txt") from None
    matplotlib.use("Agg")
    # Text stays text, and the same run writes the same file.
    matplotlib.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "outage", "font.size": 10, "savefig.transparent": True,
        "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK,
        "xtick.color": _INK, "ytick.color": _INK,
    })  # fmt: skip
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(9, 4.2))
    axes.axvspan(0, OUTAGE, color="#8a8a8a", alpha=0.2, linewidth=0, zorder=0)
    axes.text(OUTAGE / 2, LEASE + 4.6, f"Binance is down, {OUTAGE} min", ha="center", va="top", color=_INK)
    axes.axhline(LEASE, color=_FAINT, linewidth=0.9, linestyle="-")
    axes.text(AFTER - 0.5, LEASE + 0.8, "60 min: all a key gets", ha="right", va="bottom", color=_FAINT)
    axes.axhline(ALARM, color=_ALARM, linewidth=1.0, linestyle="--")
    axes.text(-BEFORE + 0.5, ALARM - 1.0, "15 min: KeyAtRiskAlarm", ha="left", va="top", color=_ALARM)
    plain = Schedule("plain", loop=thirty_minutes)
    for schedule, color, name, width in (
        (plain, _THEIRS, "a plain 30-minute loop", 1.8),
        (Schedule("ours", default_settings()), _OURS, "listenkey-keeper, tick and sweep", 2.2),
    ):
        times, left = remaining(schedule, "picture")
        axes.plot(times, left, color=color, linewidth=width, label=name)
        if 0.0 in left:
            lost_at = times[left.index(0.0)]
            axes.plot(lost_at, 0, marker="X", markersize=9, color=color, clip_on=False, zorder=5)
            axes.annotate(
                "this key dies: the next is another,\nand bots still listen to this one", (lost_at, 0),
                (lost_at + 2.5, 7), color=color, va="center",
            )  # fmt: skip
    axes.set(
        xlim=(-BEFORE, AFTER), ylim=(0, LEASE + 6), xticks=range(-30, AFTER + 1, 10),
        yticks=range(0, LEASE + 1, 15), xlabel="minutes since the outage began",
        ylabel="minutes the key still lives",
    )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], names[::-1], loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=2, frameon=False
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
