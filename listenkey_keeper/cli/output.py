"""How the command speaks: tables for a person, plain text for a pipe, JSON for a program."""

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_NO_WRAPPING = 100_000  # in a pipe a line is a record, however long


def console() -> Console:
    """Return the console of standard output as it is now: no colour where NO_COLOR is set, or in a pipe."""
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()
    return Console(
        color_system=None if plain else "auto",
        force_terminal=False if not sys.stdout.isatty() else None,
        width=None if sys.stdout.isatty() else _NO_WRAPPING,
        highlight=False,
    )


def show(*renderables: RenderableType) -> None:
    """Print to standard output."""
    to = console()
    for renderable in renderables:
        if to.is_terminal:
            to.print(renderable)
            continue
        with to.capture() as captured:
            to.print(renderable)
        for line in captured.get().splitlines():
            typer.echo(line.rstrip())


def show_json(data: Any) -> None:
    """Print data as JSON."""
    typer.echo(json.dumps(data, indent=2))


def columns(*names: str, right: Iterable[str] = ()) -> Table:
    """Return an empty table whose last column alone may wrap."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(
            name, justify="right" if name in right else "left", no_wrap=name != names[-1], overflow="fold"
        )
    return table


def problem(code: str | None, message: str | None) -> Text:
    """Return what is wrong, in one piece."""
    return Text.assemble((f"{code}", "red"), f": {message}")


def problems(found: Iterable[tuple[str, str | None, str | None]]) -> Table:
    """Return a table of what is wrong: account, error code, message."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, code, message in found:
        table.add_row(Text(name, style="bold"), problem(code, message))
    return table
