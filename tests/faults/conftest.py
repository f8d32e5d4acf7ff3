"""The fault matrix: `@pytest.mark.row(7)` puts row07 into the test's id, so that `pytest -k row` counts."""

from __future__ import annotations

import pytest

from tests.faults.matrix import rows_of


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(number): the row of the fault matrix that the test proves")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rows = rows_of(metafunc.definition)
    if rows:
        metafunc.fixturenames.append("row")
        metafunc.parametrize("row", rows, ids=[f"row{number:02}" for number in rows])
