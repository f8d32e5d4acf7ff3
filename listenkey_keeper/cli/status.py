"""What a person sees of the accounts' status in the terminal."""

import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.text import Text

from listenkey_keeper.program.aws.calls import AwsError
from listenkey_keeper.program.aws.records import LEASE
from listenkey_keeper.program.errors import Unavailable
from listenkey_keeper.program.status import LATE_MINUTES, AccountStatus

from .errors import explain
from .output import columns, problems

_LEASE_MINUTES = LEASE.total_seconds() / 60
_BAR_CELLS = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"
_COLOURS = {"REJECTED": "red", "FAILED": "red", "DEFERRED": "red", "SKIPPED": "dim", "DISABLED": "dim"}


class StatusTable:
    """The accounts, those in danger first; what is wrong with them in full below; a line that sums up."""

    def __init__(self, rows: Sequence[AccountStatus], run_id: str | None = None) -> None:
        self.rows = sorted(rows, key=lambda row: (not row.at_risk, not (row.account.enabled and row.problem)))
        self.run_id = run_id

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        bars = options.is_terminal and not options.ascii_only  # in a pipe, the number says it all
        names = ("account", "product", "outcome", "minutes left", *["" for _ in range(bars)], "last try")
        table = columns(*names, right=("minutes left",))
        for row in self.rows:
            outcome = row.outcome(self.run_id)
            table.add_row(
                Text(row.account.id),
                Text(row.account.product or "-"),
                Text(outcome, style=_COLOURS.get(outcome, "green")),
                Text(_minutes(row), style=_colour(row)),
                *[Text(_bar(row.minutes_left or 0), style=_colour(row)) for _ in range(bars)],
                Text("-" if row.tried_minutes_ago is None else _ago(row.tried_minutes_ago), style="dim"),
            )
        yield table
        yield ""
        found = [(row.account.id, *row.problem) for row in self.rows if row.problem and row.account.enabled]
        if found:
            yield problems(found)
            yield ""
        yield self._sum()

    def _sum(self) -> Text:
        if not self.rows:
            return Text("no accounts yet: `listenkeys accounts add` adds one")
        enabled = [row for row in self.rows if row.account.enabled]
        danger = [row.account.id for row in enabled if row.at_risk]
        failing = [row.account.id for row in enabled if row.problem and not row.at_risk]
        well = len(enabled) - len(danger) - len(failing)
        text = Text(f"{len(enabled)} account{'s' * (len(enabled) != 1)}: {well} well")
        for what, ids, style in (("at risk", danger, "red"), ("failing", failing, "yellow")):
            if ids:
                more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
                text.append(f", {len(ids)} {what}", style=style).append(f" ({', '.join(ids[:5])}{more})")
        if len(self.rows) > len(enabled):
            text.append(f", {len(self.rows) - len(enabled)} disabled", style="dim")
        return text


def status_table(rows: Sequence[AccountStatus], run_id: str | None = None) -> StatusTable:
    """Return what to print; with a run's id, SKIPPED where that run left an account alone."""
    return StatusTable(rows, run_id)


def watch(
    console: Console, title: Callable[[], str], read: Callable[[], list[AccountStatus]], seconds: float
) -> None:
    """Show the status anew every few seconds, until Ctrl-C; the last one stays on the terminal.

    Raises what the first reading raises; later trouble is shown above the last status that could be read.
    """
    shown = _titled(title(), read())
    with Live(shown, console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(seconds)
                try:
                    shown = _titled(title(), read())
                    live.update(shown, refresh=True)
                except (*AwsError, Unavailable) as error:
                    live.update(Group(Text(explain(error), style="yellow"), shown), refresh=True)
        except KeyboardInterrupt:
            pass
    console.print(shown)


def _titled(title: str, rows: Sequence[AccountStatus]) -> Group:
    return Group(Text(title, style="dim"), "", StatusTable(rows))


def _colour(row: AccountStatus) -> str:
    if not row.account.enabled:
        return "dim"
    if row.at_risk:
        return "red"
    return "yellow" if (row.minutes_left or 0) < LATE_MINUTES else "green"


def _minutes(row: AccountStatus) -> str:
    if row.minutes_left is None:
        return "none" if row.account.enabled else "-"
    if row.minutes_left <= 0:
        return "dead" if row.account.enabled else "-"
    return f"{row.minutes_left:.0f}"


def _bar(minutes: float) -> str:
    eighths = round(min(1.0, max(0.0, minutes / _LEASE_MINUTES)) * _BAR_CELLS * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip().ljust(_BAR_CELLS, "·")


def _ago(minutes: float) -> str:
    if minutes < 1:
        return "just now"
    if minutes < 120:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.0f} h ago" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days ago"
