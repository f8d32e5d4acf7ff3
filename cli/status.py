"""The status of every account, read from the two tables, and the table a person looks at."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from listenkeys.accounts import Account, Accounts
from listenkeys.records import NOTHING, Current, Records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

AT_RISK_MINUTES = 15  # KeyAtRiskAlarm's line
_COLOURS = {"REJECTED": "red", "FAILED": "red", "SKIPPED": "dim", "DISABLED": "dim"}


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account: its row, its current record, and the minutes its key still lives (None without a key)."""

    account: Account
    current: Current
    minutes_left: float | None

    @property
    def at_risk(self) -> bool:
        """Whether an enabled account has no key, or one that dies within AT_RISK_MINUTES."""
        return self.account.enabled and (self.minutes_left is None or self.minutes_left < AT_RISK_MINUTES)

    def outcome(self, run_id: str | None = None) -> str:
        """Return the last outcome; with a run's id, SKIPPED where that run left the account alone."""
        if not self.account.enabled:
            return "DISABLED"
        if run_id and self.current.run_id != run_id:
            return "SKIPPED"
        return self.current.outcome or "NEW"


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

    def minutes_left(id_: str) -> float | None:
        expires_at = current.get(id_, NOTHING).expires_at
        return (expires_at - now).total_seconds() / 60 if expires_at else None

    rows = [AccountStatus(a, current.get(a.id, NOTHING), minutes_left(a.id)) for a in accounts]
    return sorted(rows, key=lambda row: row.account.id)


def status_table(rows: list[AccountStatus], run_id: str | None = None) -> Table:
    """Return the table: account, product, outcome, minutes left, last error."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("account", "product", "outcome"):
        table.add_column(name, no_wrap=True)
    table.add_column("minutes left", justify="right", no_wrap=True)
    table.add_column("last error")
    for row in rows:
        outcome = row.outcome(run_id)
        error = row.account.problem or row.current
        message = getattr(error, "message", None) or row.current.error_message
        code = getattr(error, "code", None) or row.current.error_code
        table.add_row(
            Text(row.account.id),
            Text(row.account.product or "-"),
            Text(outcome, style=_COLOURS.get(outcome, "green")),
            _minutes(row),
            Text(f"{code}: {message}" if code else "-"),
        )
    return table


def _minutes(row: AccountStatus) -> Any:
    if row.minutes_left is None or row.minutes_left <= 0:
        return Text("none" if row.account.enabled else "-", style="red" if row.account.enabled else "dim")
    return Text(f"{row.minutes_left:.0f}", style="red" if row.at_risk else "green")
