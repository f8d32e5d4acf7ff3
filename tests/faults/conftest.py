"""The fault matrix: `@pytest.mark.row(7)` puts row07 into the test's id, so that `pytest -k row` counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.aws.stack import LocalAws
from local.clock import ScaledClock
from local.world import World
from tests.faults.matrix import HookedExchange, rows_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rows = rows_of(metafunc.definition)
    if rows:
        metafunc.fixturenames.append("row")
        metafunc.parametrize("row", rows, ids=[f"row{number:02}" for number in rows])


@pytest.fixture
def exchange_class() -> type[HookedExchange]:
    """A stand-in that a test can hook."""
    return HookedExchange


@pytest.fixture
def fast() -> ScaledClock:
    """The clock that processes of their own share: a minute takes three seconds."""
    return ScaledClock(20.0)


@pytest.fixture
def busy(aws: LocalAws, fast: ScaledClock) -> Iterator[World]:
    """A world by the fast clock, for handlers in processes of their own."""
    aws.reset()
    with World(exchange=HookedExchange(now=fast.timestamp), aws=aws) as made:
        yield made
