"""Faults that meet: hours of `make chaos`, with moto in place of DynamoDB Local.

The handler runs in processes of its own. What random days have found is tested by itself, under its row.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from chaos.audience import never_deaf
from chaos.day import Day
from chaos.plants import PLANTS, planted
from chaos.rules import Violation


@pytest.mark.slow
@pytest.mark.row(96)
@pytest.mark.parametrize("seed", ["96", "97"])
def test_hours_of_chaos_break_no_promise(tmp_path: Path, seed: str) -> None:
    day = Day(seed, 2, tmp_path)

    day.play()

    assert ["\n".join([str(violation), *violation.story]) for violation in day.checks.violations] == []


def _knowing_at(at: float) -> list[dict[str, Any]]:
    return [{"interrupted": 90.0, "at": at}, {"gap": [90.0, at + 20], "at": at, "why": ""}]


@pytest.mark.row(96)
@pytest.mark.parametrize(
    ("items", "replaced", "broken"),
    [
        ([{"order": 1, "at": 100.0}], [], None),
        ([], [], "is told of no gap"),
        ([{"interrupted": 90.0, "at": 110.0}], [], None),
        (_knowing_at(110.0), [], None),
        (_knowing_at(400.0), [], "300 s later"),
        (_knowing_at(400.0), [(95.0, 320.0)], None),
        (_knowing_at(400.0), [(95.0, 300.0)], "later"),
        (_knowing_at(400.0), [(101.0, 320.0)], "later"),
        ([{"order": 1, "at": 100.0}, {"order": 1, "at": 101.0}], [], "twice"),
    ],
)
def test_a_bot_that_is_deaf_unawares_is_seen(
    items: list[dict[str, Any]], replaced: list[tuple[float, float]], broken: str | None
) -> None:
    with pytest.raises(Violation, match=broken) if broken else nullcontext():
        never_deaf("alice", [(100.0, 1)], items, 1000.0, replaced)


@pytest.mark.parametrize("name", PLANTS)
def test_each_bug_still_fits_into_the_program(tmp_path: Path, name: str) -> None:
    program = planted(PLANTS[name], tmp_path)

    for file in program.rglob("*.py"):
        compile(file.read_text(), file.name, "exec")
