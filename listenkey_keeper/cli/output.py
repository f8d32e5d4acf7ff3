"""The command's output: tables in a terminal, plain text in a pipe, JSON with --json."""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from listenkeys.view.remedies import REMEDIES, as_argument

_NO_WRAPPING = 100_000  # the width in a pipe, where a line is a record, however long
_MOST_NAMES = 100  # the most accounts that are listed under one error
MOST_NAMED = 5  # the most names in a sentence
MOST_LISTED = 20  # of more accounts than this, a terminal gets only counts


def console() -> Console:
    """Return a console for the current standard output, without colour in a pipe or if NO_COLOR is set."""
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()
    return Console(
        color_system=None if plain else "auto",
        force_terminal=False if not sys.stdout.isatty() else None,
        width=None if sys.stdout.isatty() else _NO_WRAPPING,
        highlight=False,
    )


def plain(text: str) -> str:
    """Return a text with each unprintable character replaced by a question mark.

    A terminal could act on a text that comes from a table, a secret's name or an answer.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def some_of(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def show(*renderables: RenderableType) -> None:
    """Print to standard output."""
    to = console()
    for renderable in renderables:
        if isinstance(renderable, str):
            renderable = Text(plain(renderable))
        if to.is_terminal:
            # A command that is to be copied must not be broken into lines.
            to.print(renderable, soft_wrap=isinstance(renderable, Text) and "aws " in renderable.plain)
            continue
        with to.capture() as captured:
            to.print(renderable)
        for line in captured.get().splitlines():
            typer.echo(line.rstrip())


def show_done(line: str) -> None:
    """Print a line while more is to be done: that is finished even if nobody reads the output any more."""
    try:
        show(line)
    except BrokenPipeError:
        unread()


def unread() -> None:
    """Discard all further output. Otherwise Python would fail again when it flushes it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Print a line to standard error."""
    typer.echo(plain(text), err=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on standard error what the command waits for, and the time so far. Only in a terminal."""
    to = Console(stderr=True)
    moving = SpinnerColumn("line"), TextColumn(what), TimeElapsedColumn()
    with Progress(*moving, console=to, transient=True, disable=not to.is_terminal) as progress:
        progress.add_task("")
        yield


def show_json(data: Any) -> None:
    """Print data as JSON."""
    typer.echo(json.dumps(data, indent=2))


def confirmed(question: str) -> bool:
    """Ask on standard error, and return whether the answer is yes. Raises EOFError if there is no answer."""
    typer.echo(f"{question} [y/N]: ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer:
        raise EOFError
    return answer.strip().lower() in ("y", "yes")


class Columns:
    """A table that drops `optional` columns, in the order given, until it fits into the terminal.

    If it is still too wide, its cells are cut; nothing wraps.
    """

    def __init__(self, *names: str, right: Iterable[str] = (), optional: Iterable[str] = ()) -> None:
        self._names = names
        self._right = set(right)
        self._optional = tuple(optional)
        self.rows: list[tuple[Text, ...]] = []

    def add(self, *cells: Text) -> None:
        """Add a row."""
        for cell in cells:
            cell.plain = plain(cell.plain)
        self.rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for count in range(len(self._optional) + 1):
            table = self._without(self._optional[:count])
            if (
                console.measure(table, options=options.update(max_width=_NO_WRAPPING)).maximum
                <= options.max_width
            ):
                break
        yield table

    def _without(self, names: Iterable[str]) -> Table:
        shown = [number for number, name in enumerate(self._names) if name not in names]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number in shown:
            name = self._names[number]
            table.add_column(name, justify="right" if name in self._right else "left", overflow="ellipsis")
        for row in self.rows:
            table.add_row(*(row[number] for number in shown))
        return table


def problem(code: str | None, message: str | None) -> Text:
    """Return an error's code and message as one text."""
    return Text.assemble((plain(f"{code}"), "red"), plain(f": {message}"))


def advice(code: str, message: str | None, names: Sequence[str]) -> Iterator[RenderableType]:
    """Yield an error and, below it, what to do about it for these accounts, a line for each step."""
    yield problem(code, message)
    if remedy := REMEDIES.get(code):
        what = remedy.replace("NAME", as_argument(names[0])) if len(names) == 1 else remedy
        steps = Table.grid(padding=(0, 1, 0, 0))
        said = re.search(r"code -\d+", message or "")
        # A step that names Binance's code comes first.
        for step in sorted(what.split("; "), key=lambda step: not (said and said[0] in step)):
            steps.add_row("-", Text(plain(f"{step[0].upper()}{step[1:]}")))
        yield Padding(steps, (0, 0, 0, 2), expand=False)


def can_draw(options: ConsoleOptions) -> bool:
    """Return whether bars and blocks can be shown. A pipe gets only words and numbers."""
    return options.is_terminal and not options.ascii_only


def ellipsis(options: ConsoleOptions) -> str:
    """Return the mark for text that was left out."""
    return "..." if options.ascii_only else "…"


def abbreviate(name: str, width: int, mark: str = "…") -> str:
    """Return a name cut to `width` characters in the middle: its ends distinguish similar names."""
    name = plain(name)
    if len(name) <= width:
        return name
    kept = max(1, width - len(mark))
    return name[: kept - kept // 2] + mark + name[len(name) - kept // 2 :]


class Problems:
    """A list of errors, each once: what happened, what to do, and which accounts have it.

    `found` has an account id, an error code and a message for each. If the code is None, only the message and
    the accounts are shown. Of each, `most` accounts are named, and `rest` says where the others are.
    """

    def __init__(
        self, found: Iterable[tuple[str, str | None, str | None]], most: int = _MOST_NAMES, rest: str = ""
    ) -> None:
        self._most, self._rest = most, rest
        self._names: dict[tuple[str | None, str | None], list[str]] = {}
        for name, code, message in found:
            self._names.setdefault((code, message), []).append(name)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        room = options.max_width - 3  # an indent and a comma
        said_what_to_do = set[str]()  # of codes whose steps name no account
        for number, ((code, message), names) in enumerate(self._names.items()):
            if number and options.is_terminal:
                yield ""
            if code in said_what_to_do:
                yield problem(code, message)
            elif code:
                yield from advice(code, message, names)
                if "NAME" not in REMEDIES.get(code, ""):
                    said_what_to_do.add(code)
            elif message:
                yield Text(plain(f"{message[0].upper()}{message[1:]}."))
            said = some_of([abbreviate(name, room, ellipsis(options)) for name in sorted(names)], self._most)
            rest = self._rest if len(names) > self._most else ""
            count = f"{len(names)} accounts: " if len(names) > 1 else ""
            yield _indented(f"{count}{said}{rest}", "bold")

    def short(self) -> list[Text]:
        """Return each error as one line, for a screen without room for more."""
        lines = []
        for (code, message), names in self._names.items():
            who = names[0] if len(names) == 1 else f"{len(names)} accounts"
            what = problem(code, message) if code else Text(plain(message or ""))
            lines.append(Text(f"{plain(who)}: ", no_wrap=True, overflow="ellipsis").append_text(what))
        return lines


def _indented(text: str, style: str = "") -> Padding:
    return Padding(Text(plain(text), style=style), (0, 0, 0, 2), expand=False)
