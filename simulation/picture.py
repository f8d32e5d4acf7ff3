"""The documentation's picture: how long a key lives in an outage, with this program and with a plain loop."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from listenkeys.timing import AT_RISK_MINUTES as ALARM
from listenkeys.timing import LEASE_MINUTES as LEASE
from simulation.schedules import LATE, Schedule, default_settings, thirty_minutes
from simulation.world import MINUTE, SERVER_ERRORS, Trouble, World

OUTAGE = 25  # minutes
BEFORE, AFTER = 35, 70  # minutes drawn around the outage's beginning
# No background, and colours that are readable on a white page and on a dark one.
_INK, _ALARM, _OURS, _THEIRS = "#7a7a7a", "#a07818", "#2f86a6", "#cc6238"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 420, 56, 890, 60, 370  # pixels: the size, the plot
Point = tuple[float, float]  # minutes since the outage began, minutes left on the key


def remaining(schedule: Schedule, seed: str) -> tuple[list[float], list[float]]:
    """Return two lists: minutes since an outage of OUTAGE minutes began, minutes left on the key then.

    The outage begins 30 s before a renewal, which is the worst moment, about two hours into the timeline.
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


def svg() -> str:
    """Return the picture as SVG. The same code always returns the same text."""
    parts = [*_frame()]
    plain = Schedule("plain", loop=thirty_minutes), _THEIRS, "a plain 30-minute loop", 6
    ours = Schedule("ours", default_settings()), _OURS, "listenkey-keeper, tick and sweep", 2.5
    for row, (schedule, colour, name, width) in enumerate((plain, ours)):
        points = list(zip(*remaining(schedule, "picture"), strict=True))
        corners = " ".join(f"{_x(at):.1f},{_y(left):.1f}" for at, left in _corners(points))
        style = f'fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="bevel"'
        parts.append(f'<polyline points="{corners}" {style}/>')
        parts.append(_text(_LEFT + 4, 18 + 18 * row, name, colour, ' font-weight="bold"'))
        died = next((at for at, left in points if left == 0.0), None)
        if died is not None:
            x, y = _x(died), _y(0)
            cross = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0-10l-10 10"
            parts.append(f'<path d="{cross}" stroke="{colour}" stroke-width="3"/>')
            parts.append(_text(x + 16, y - 30, "this key dies, the next one differs,", colour))
            parts.append(_text(x + 16, y - 14, "and bots still listen to this one", colour))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"'
    font = 'font-family="system-ui, sans-serif" font-size="13" role="img"'
    title = f"<title>Minutes left on a key through an outage of {OUTAGE} minutes</title>"
    return "\n".join([f"{head} {font}>", title, *parts, "</svg>", ""])


def _frame() -> Iterator[str]:
    """Yield the parts that do not depend on a schedule: the outage, the axes and the levels."""
    width = _x(OUTAGE) - _x(0)
    outage = f'x="{_x(0):.1f}" y="{_TOP}" width="{width:.1f}" height="{_BOTTOM - _TOP}"'
    yield f'<rect {outage} fill="#8a8a8a" fill-opacity="0.2"/>'
    yield _text(_x(OUTAGE / 2), _TOP - 8, f"Binance is down, {OUTAGE} min", anchor="middle")
    for minutes, colour, dashes in (
        (0, _INK, ""),
        (ALARM, _ALARM, ' stroke-dasharray="6 4"'),
        (LEASE, _INK, ""),
    ):
        y = f"{_y(minutes):.1f}"
        yield f'<path d="M{_LEFT} {y}H{_RIGHT}" stroke="{colour}"{dashes}/>'
    yield _text(_RIGHT, _y(LEASE) - 6, f"{LEASE} min: all a key gets", anchor="end")
    yield _text(_LEFT + 6, _y(ALARM) + 16, f"{ALARM} min: KeyAtRiskAlarm", _ALARM)
    for minutes in range(0, LEASE + 1, 15):
        yield _text(_LEFT - 8, _y(minutes) + 4, str(minutes), anchor="end")
    for minutes in range(-30, AFTER + 1, 10):
        yield _text(_x(minutes), _BOTTOM + 20, str(minutes), anchor="middle")
    yield _text((_LEFT + _RIGHT) / 2, _BOTTOM + 42, "minutes since the outage began", anchor="middle")
    middle = (_TOP + _BOTTOM) / 2
    yield _text(
        12, middle, "minutes left on the key", anchor="middle", more=f' transform="rotate(-90 12 {middle})"'
    )


def _corners(points: Iterable[Point]) -> Iterator[Point]:
    """Yield the ends of the line and the points at which it turns. It is straight between them."""
    kept = list(points)
    yield kept[0]
    for before, at, after in zip(kept, kept[1:], kept[2:], strict=False):
        if abs((at[1] - before[1]) - (after[1] - at[1])) > 1e-6:
            yield at
    yield kept[-1]


def _x(minutes: float) -> float:
    return _LEFT + (minutes + BEFORE) / (BEFORE + AFTER) * (_RIGHT - _LEFT)


def _y(minutes: float) -> float:
    return _BOTTOM - minutes / LEASE * (_BOTTOM - _TOP - 20)


def _text(x: float, y: float, text: str, colour: str = _INK, more: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{more}>{text}</text>'
