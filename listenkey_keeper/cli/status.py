"""The status of every account, read from the two tables, and what a person sees of it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.text import Text

from listenkey_keeper.program.aws.accounts import Account, Accounts
from listenkey_keeper.program.aws.calls import AwsError
from listenkey_keeper.program.aws.records import LEASE, NOTHING, Current, Records, iso
from listenkey_keeper.program.errors import Unavailable

from .errors import explain
from .output import columns, problems

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

AT_RISK_MINUTES = 15  # KeyAtRiskAlarm's line
LATE_MINUTES = 24  # a tick and a sweep have come and gone without renewing it
_LEASE_MINUTES = LEASE.total_seconds() / 60
_BAR_CELLS = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"
_COLOURS = {"REJECTED": "red", "FAILED": "red", "DEFERRED": "red", "SKIPPED": "dim", "DISABLED": "dim"}


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account: its row, its current record, and the minutes its key still lives (None without a key).

    `tried_minutes_ago` is the age of the last attempt, None where there was none.
    """

    account: Account
    current: Current
    minutes_left: float | None
    tried_minutes_ago: float | None = None

    @property
    def at_risk(self) -> bool:
        """Whether an enabled account has no key, or one that dies within AT_RISK_MINUTES."""
        return self.account.enabled and (self.minutes_left is None or self.minutes_left < AT_RISK_MINUTES)

    @property
    def problem(self) -> tuple[str, str] | None:
        """What is wrong, as code and message: the row as it is now, or else what the last attempt met."""
        if self.account.problem:
            return self.account.problem.code, self.account.problem.message
        if self.current.error_code:
            return self.current.error_code, self.current.error_message or ""
        return None

    def outcome(self, run_id: str | None = None) -> str:
        """Return the last outcome; with a run's id, SKIPPED where that run left the account alone."""
        if not self.account.enabled:
            return "DISABLED"
        if run_id and self.current.run_id != run_id:
            return "SKIPPED"
        return self.current.outcome or "NEW"

    def to_dict(self) -> dict[str, Any]:
        """Return it as `status --json` gives it: never with the key."""
        current, problem = self.current, self.problem or (None, None)
        times = {
            "expiresAt": current.expires_at,
            "renewedAt": current.renewed_at,
            "attemptedAt": current.attempted_at,
        }
        return {
            "accountId": self.account.id,
            "product": self.account.product or None,
            "enabled": self.account.enabled,
            "outcome": self.outcome(),
            "atRisk": self.at_risk,
            "minutesLeft": None if self.minutes_left is None else round(max(0.0, self.minutes_left), 1),
            **{name: iso(moment) if moment else None for name, moment in times.items()},
            "consecutiveFailures": current.consecutive_failures,
            "errorCode": problem[0],
            "errorMessage": problem[1],
        }


def no_wait(_seconds: float) -> None:
    """Do not sleep: a person asks again sooner than a back-off would."""


def read_status(
    dynamodb: "DynamoDBClient", accounts_table: str, listen_keys_table: str, now: datetime
) -> list[AccountStatus]:
    """Return every account's status, by account id.

    Raises listenkeys.errors.Unavailable when a table cannot be read.
    """
    accounts = [a for page in Accounts(dynamodb, accounts_table, "", no_wait).pages() for a in page]
    current = Records(dynamodb, listen_keys_table, "all", 1, no_wait).current([a.id for a in accounts])

    def status(account: Account) -> AccountStatus:
        known = current.get(account.id, NOTHING)
        left, tried = known.expires_at, known.attempted_at
        return AccountStatus(
            account,
            known,
            (left - now).total_seconds() / 60 if left else None,
            (now - tried).total_seconds() / 60 if tried else None,
        )

    return sorted(map(status, accounts), key=lambda row: row.account.id)


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
