"""Faults that meet: hours of `make chaos`, with moto in place of DynamoDB Local.

The handler runs in processes of its own. What random days have found is tested by itself, under its row.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.day import Day


@pytest.mark.slow
@pytest.mark.row(96)
@pytest.mark.parametrize("seed", ["96", "97"])
def test_hours_of_chaos_break_no_promise(tmp_path: Path, seed: str) -> None:
    day = Day(seed, 2, tmp_path)

    day.play()

    assert ["\n".join([str(violation), *violation.story]) for violation in day.checks.violations] == []
