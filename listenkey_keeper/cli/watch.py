"""`listenkeys status --watch`: the status on a full screen, refreshed every few seconds."""

import time
from collections.abc import Callable

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from listenkeys.aws.clients import AwsError
from listenkeys.errors import Unavailable

from .errors import explain
from .status import StatusTable, counted


class Screen:
    """A status cut to the height of the screen: the most urgent accounts, how many more, and the summary."""

    def __init__(self, title: str, table: StatusTable, warning: str = "") -> None:
        self.title = title
        self.table = table
        self.warning = warning

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        options = options.reset_height()

        def lines_of(*parts: RenderableType) -> list[list[Segment]]:
            return [line for part in parts for line in console.render_lines(part, options, pad=False)]

        warning = [Text(self.warning, style="yellow")] if self.warning else []
        top = lines_of(*warning, Text(self.title, style="dim"), "")
        problems, end = self.table.problems(), lines_of("", self.table.sum())
        errors = lines_of("", problems) if problems else []
        # Those that are ok are left out only by --not-ok: the screen cuts the list, and they are its end.
        rows = self.table.lines(options, self.table.listed if self.table.not_ok else self.table.rows)
        room = height - len(top) - len(end)
        # The accounts get at least half of the room, if they need it. If the errors do not fit into the rest,
        # each becomes one line.
        if problems and len(errors) > room - min(len(rows), room // 2):
            short = problems.short()
            errors = lines_of("", *_cut(short, room // 2 - 1, lambda n: f"{len(short) - n} more errors"))

        def more(shown: int) -> str:
            left_out = [line.row for line in rows[shown:] if line.row]
            return f"{len(left_out)} more: {counted(left_out)}"

        accounts = lines_of(*_cut([line.text for line in rows], room - len(errors), more))
        for line in [*top, *accounts, *errors, *end]:
            yield from line
            yield Segment.line()


def _cut(lines: list[Text], most: int, more: Callable[[int], str]) -> list[Text]:
    """Return at most `most` lines, at least one.

    If some have to be left out, the last line is `more(n)`, which says what follows the first n lines.
    """
    most = max(most, 1)  # even on a screen with no room at all
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], Text(f"... {more(most - 1)}", style="dim", no_wrap=True, overflow="ellipsis")]


def watch(
    console: Console, title: Callable[[], str], read: Callable[[], StatusTable], seconds: float
) -> None:
    """Refresh the status every few seconds until Ctrl-C. The last status stays on the terminal.

    An error of the first `read` is raised. A later one is shown above the last status that could be read.
    """
    heading, table = title(), read()
    live = Live(Screen(heading, table), console=console, screen=True, auto_refresh=False)
    try:
        live.start()
        while True:
            time.sleep(seconds)
            warning = ""
            try:
                heading, table = title(), read()
            except (*AwsError, Unavailable) as error:
                warning = explain(error)
            live.update(Screen(heading, table, warning), refresh=True)
    except KeyboardInterrupt:
        pass
    finally:
        live.stop()  # also if Ctrl-C interrupted the start, when Live does not restore the terminal itself
    console.print(Text(heading, style="dim"), "", table, sep="\n")
