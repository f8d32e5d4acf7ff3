"""The current status of every account, from the two tables: for the terminal, the page and the widget."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..aws.accounts import Accounts
from ..aws.clients import DynamoDB, scan
from ..aws.record_items import READ, read
from ..clock import SYSTEM_CLOCK
from ..model import NOTHING, Account, Current, Outcome
from ..timing import AT_RISK_MINUTES
from .remedies import remedy

# Trouble first. The name is also the row's CSS class on the page, the words are for the totals.
STATES = {
    "dead": "without a live listenKey",
    "risk": f"with less than {AT_RISK_MINUTES} min left",
    "failing": "failing, listenKey not yet expired",
    "ok": "ok",
    "disabled": "disabled",
}
# The attributes of a record that are read: all that is shown, never the listenKey.
ATTRIBUTES = tuple(n for n in READ if n not in ("listenKey", "onlyErrorCode", "unannounced", "product"))
LATE_MINUTES, OLD_MINUTES = 24, 20  # left of a key: below, a tick and a sweep, or any run, should have come


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account: its row, its record, its key's minutes left (None: no key), the last attempt's age.

    `host_error`: the error of the newest attempt at the account's host, if that failed. A run that gets this
    error tries a few accounts, and records nothing for the others.
    """

    account: Account
    current: Current
    minutes_left: float | None
    tried_minutes_ago: float | None = None
    host_error: str | None = None

    @property
    def at_risk(self) -> bool:
        """Whether an enabled account has no key, or one that dies within AT_RISK_MINUTES."""
        return self.account.enabled and (self.minutes_left is None or self.minutes_left < AT_RISK_MINUTES)

    @property
    def problem(self) -> tuple[str, str] | None:
        """What is wrong with the row, or else the last attempt's error, as code and message."""
        if self.account.problem:
            return self.account.problem.code, self.account.problem.message
        if self.current.error_code:
            return self.current.error_code, self.current.error_message or ""
        if self.host_error and (self.minutes_left or 0.0) < LATE_MINUTES:
            return self.host_error, "not tried since the runs met this error"
        return None

    @property
    def state(self) -> str:
        """Which of STATES the account is in."""
        if not self.account.enabled:
            return "disabled"
        if self.minutes_left is None or self.minutes_left <= 0:
            return "dead"
        if self.at_risk:
            return "risk"
        return "failing" if self.problem or (self.minutes_left or 0.0) < OLD_MINUTES else "ok"

    @property
    def to_do(self) -> str | None:
        """What to do about the account, as a phrase; None if nothing."""
        if not self.account.enabled:
            return None
        if self.problem:
            return remedy(self.problem[0], self.account.id)
        if self.tried_minutes_ago is None:
            return "wait for the next sweep, which creates the listenKey, or run listenkeys renew"
        if self.state != "ok":
            return "wait for the next sweep, or run listenkeys renew; if that fails, see listenkeys check"
        return None

    @property
    def outcome(self) -> str:
        """The last outcome; NEW if there is none, DISABLED for a disabled account."""
        return (self.current.outcome or "NEW") if self.account.enabled else "DISABLED"


def by_urgency(rows: Iterable[AccountStatus]) -> list[AccountStatus]:
    """Return the accounts by state, the worst first, then by whole minutes left. Ties keep their order."""
    order = list(STATES)
    return sorted(rows, key=lambda row: (order.index(row.state), int(row.minutes_left or 0)))


def ago(minutes: float) -> str:
    """Return as text how long ago something was."""
    if minutes < 1:
        return "just now"
    if minutes < 120:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.0f} h ago" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days ago"


def read_status(
    dynamodb: DynamoDB, accounts_table: str, listen_keys_table: str, now: datetime
) -> list[AccountStatus]:
    """Return every account's status, by id, without reading a listenKey. Raises Unavailable."""
    rows = Accounts(dynamodb, accounts_table, "", SYSTEM_CLOCK.sleep).pages()
    accounts = [account for page in rows for account in page]
    only: Any = {"ProjectionExpression": ",".join(ATTRIBUTES)}
    pages = scan(dynamodb, listen_keys_table, "ListenKeysTable", ConsistentRead=True, **only)
    current = {item["accountId"]["S"]: read(item) for page in pages for item in page}

    tried = sorted(accounts, key=lambda account: current.get(account.id, NOTHING).attempted or "")
    newest = {account.endpoint: current.get(account.id, NOTHING) for account in tried if account.enabled}

    def status(account: Account) -> AccountStatus:
        known = current.get(account.id, NOTHING)
        left, tried, last = known.expires_at, known.attempted_at, newest.get(account.endpoint, NOTHING)
        return AccountStatus(
            account,
            known,
            (left - now).total_seconds() / 60 if left else None,
            (now - tried).total_seconds() / 60 if tried else None,
            last.error_code if account.enabled and last.outcome == Outcome.FAILED else None,
        )

    return sorted(map(status, accounts), key=lambda row: row.account.id)
