"""Fixtures of the fault matrix. `@pytest.mark.row(7)` puts row07 into a test's id, for `pytest -k row`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.aws.stack import LocalAws
from local.clock import ScaledClock
from tests.faults.matrix import rows_of
from tests.scene import Scene


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rows = rows_of(metafunc.definition)
    if rows:
        metafunc.fixturenames.append("row")
        metafunc.parametrize("row", rows, ids=[f"row{number:02}" for number in rows])


@pytest.fixture
def fast() -> ScaledClock:
    """A clock that several processes share. It runs 20 times as fast: a minute takes three seconds."""
    return ScaledClock(20.0)


@pytest.fixture
def busy(aws: LocalAws, fast: ScaledClock) -> Iterator[Scene]:
    """A world that uses the fast clock, for handlers in processes of their own."""
    aws.reset()
    with Scene(fast, aws) as made:
        yield made
