"""The line of blocks above `listenkeys history`: what it makes of a day's ledger."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from listenkey_keeper.cli.day import Day, day_of
from listenkey_keeper.cli.history import expiry
from listenkeys.model import iso
from local.clock import VirtualClock
from local.invoke import LocalFunction
from local.world import World
from tests.faults.matrix import TICK

from .conftest import Start

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def tried(hours_ago: float, outcome: str = "EXTENDED", dies_after: float | None = 1) -> dict[str, Any]:
    """Return a ledger entry; `dies_after` is in hours from then."""
    at = NOW - hours_ago * HOUR
    dies = iso(at + dies_after * HOUR) if dies_after is not None else None
    return {"attemptedAt": iso(at), "outcome": outcome, "expiresAt": dies}


def hours(day: Day) -> str:
    """Return what each hour of the day was, by its first letter."""
    return "".join(day.block(NOW - n * HOUR, NOW - (n - 1) * HOUR)[0] for n in range(24, 0, -1))


def every_half_hour(since: float, until: float = 0.0) -> list[dict[str, Any]]:
    return [tried(n / 2) for n in range(int(since * 2), int(until * 2), -1)]


def test_a_healthy_day_is_renewed_throughout() -> None:
    day = day_of([*every_half_hour(25, 1), tried(1)], NOW)  # the key dies now
    assert (hours(day), day.dead) == ("r" * 24, [])


def test_before_the_first_attempt_nothing_is_known() -> None:
    assert hours(day_of(every_half_hour(6), NOW)) == "n" * 18 + "r" * 6
    assert hours(day_of([], NOW)) == "n" * 24


def test_an_outage_is_failed_then_dead_until_the_next_success() -> None:
    outage = [tried(7.9, "FAILED", 0.9), tried(7.4, "FAILED", 0.4), tried(5, "DEFERRED", -2)]
    day = day_of([*every_half_hour(25, 8), tried(8), *outage, *every_half_hour(3)], NOW)
    assert hours(day) == "r" * 16 + "f" + "dddd" + "rrr"
    assert day.dead == [(NOW - 7 * HOUR, NOW - 3 * HOUR)]


def test_a_key_that_nobody_renewed_is_dead_without_any_failure() -> None:
    assert hours(day_of(every_half_hour(25, 3.5), NOW)) == "r" * 21 + "ddd"


def test_an_account_without_a_key_is_dead_from_its_first_attempt_on() -> None:
    assert hours(day_of([tried(3, "REJECTED", None), tried(2, "REJECTED", None)], NOW)) == "n" * 21 + "ddd"


def test_a_failure_alone_tells_when_the_key_was_renewed() -> None:
    assert hours(day_of([tried(1.5, "FAILED", 0.25)], NOW)) == "n" * 21 + "rdd"


def test_with_the_changes_alone_a_success_holds_until_the_next_entry() -> None:
    ledger = [tried(30, "CREATED"), tried(10, "FAILED", 0.5), tried(9.5, "EXTENDED"), tried(4, "RECREATED")]
    assert hours(day_of(ledger, NOW, NOW + HOUR / 2)) == "r" * 14 + "f" + "r" * 9
    assert "d" in hours(day_of(ledger, NOW))  # in the other mode, what is not there has not happened
    # Its runs have stopped since.
    assert hours(day_of(ledger, NOW, NOW - 2 * HOUR)) == "r" * 14 + "f" + "r" * 7 + "dd"


BEFORE, SINCE = "· not known", "  █ renewed  ▄ failed  ▁ dead (60 min)  "


@pytest.mark.parametrize(
    ("width", "minutes", "legend", "blocks"),
    [
        (96, 15, SINCE + BEFORE, "·" * 72 + "█" * 13 + "▄▁▁▁▁" + "█" * 6),
        (95, 20, SINCE + BEFORE, "·" * 54 + "█" * 9 + "▄▁▁▁▁" + "█" * 4),
        (86, 20, SINCE + BEFORE, "·" * 54 + "█" * 9 + "▄▁▁▁▁" + "█" * 4),
        (85, 20, f"\n{SINCE}{BEFORE}", "·" * 54 + "█" * 9 + "▄▁▁▁▁" + "█" * 4),
        (72, 20, f"\n{SINCE}{BEFORE}", "·" * 54 + "█" * 9 + "▄▁▁▁▁" + "█" * 4),
        (71, 30, f"\n{SINCE}{BEFORE}", "·" * 36 + "█" * 6 + "▄▁▁███"),
        (48, 30, f"\n{SINCE}· not\nknown", "·" * 36 + "█" * 6 + "▄▁▁███"),
        (47, 60, f"\n  █ renewed  ▁ dead (60 min)  {BEFORE}", "·" * 18 + "███▁▁█"),
        (24, 60, f"\n  █ renewed  ▁ dead (60\nmin)  {BEFORE}", "·" * 18 + "███▁▁█"),
        (23, 60, f"\n  █ renewed  ▁ dead (60\nmin)  {BEFORE}", "·" * 18 + "███▁▁"),
    ],
)
def test_a_block_is_as_many_minutes_as_the_width_allows(
    width: int, minutes: int, legend: str, blocks: str
) -> None:
    shown = [*every_half_hour(6, 3), tried(2.75, "FAILED", 0.25), tried(1.5), tried(1), tried(0.5)]
    printed = StringIO()
    Console(file=printed, width=width).print(day_of(shown, NOW))
    heading = f"24 hours, the worst of each {minutes} min:{legend}"
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    if width > 24:
        assert lines == [
            *heading.split("\n"), blocks, f"01-01 00:00{' ' * (len(blocks) - 22)}01-02 00:00"
        ]  # fmt: skip
    assert blocks in lines


def test_the_legend_has_colours_and_tells_a_dead_key_from_none() -> None:
    none = tried(2, "REJECTED", None)
    for entry, dead in ((tried(2), "dead (60 min)"), (none, "no listenKey (120 min)")):
        parts = list(day_of([entry], NOW).__rich_console__(Console(), Console(width=200).options))
        legend, drawn, ends = [part for part in parts if isinstance(part, Text)]
        styles = [str(span.style) for span in drawn.spans]
        assert (styles[0], styles[-1], ends.style) == ("dim", "red", "dim")
        assert [(legend.plain[span.start : span.end], span.style) for span in legend.spans] == [
            *([("  █ renewed", "green")] if "dead" in dead else []),
            (f"  ▁ {dead}", "red"), ("  · not known", "dim"),
        ]  # fmt: skip


def test_until_when_the_key_lives_is_read_from_the_current_record(world: World, clock: VirtualClock) -> None:
    table, dynamodb = world.aws.outputs["ListenKeysTableName"], world.aws.client("dynamodb")
    assert expiry(dynamodb, table, "alice") is None
    world.put_current("alice", "k" * 64, clock.now())
    assert expiry(dynamodb, table, "alice") == clock.now() + HOUR


@pytest.mark.slow
def test_history_draws_the_last_day(
    start: Start, world: World, clock: VirtualClock, function: LocalFunction
) -> None:
    world.add_account("alice", "k" * 20)
    for number in range(24):
        down = 12 <= number < 14
        if down:
            world.exchange.fault(status=503)
        function.invoke(TICK)
        world.exchange.clear_faults()
        clock.advance(minutes=60 if number % 2 else 59)
    for columns, blocks in [(120, 96), (80, 72), (60, 48), (40, 24)]:
        terminal = start("history", "alice", columns=columns, NO_COLOR="1")
        assert terminal.end() == 0
        lines = terminal.output.splitlines()
        assert max(map(len, lines)) <= columns
        [drawn] = [line for line in lines if line.count("█") > 2]
        assert len(drawn) == blocks
        assert "▁" in drawn
        assert "dead (" in "".join(lines[:2])
