"""The matrix has a test for each of its rows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROWS = 98


def marked_rows(path: Path) -> Iterator[int]:
    """Yield the row numbers that a file's tests are marked with."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(attr="row"), args=numbers):
                yield from map(ast.literal_eval, numbers)


def test_every_row_has_a_test_and_no_test_has_a_row_that_there_is_not() -> None:
    found = {row for path in Path(__file__).parents[1].rglob("test_*.py") for row in marked_rows(path)}

    assert found == set(range(1, ROWS + 1))
