"""An account, the record of its listenKey, and its result in a run. No AWS, no HTTP."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from .errors import AccountError, ListenKeyNotFound, Rejected
from .products import LIVE, endpoint_name
from .timing import LEASE_MINUTES

LEASE = timedelta(minutes=LEASE_MINUTES)


def fingerprint(listen_key: str) -> str:
    """Return 12 hex digits that stand for a listenKey in the ledger and in events and do not reveal it."""
    return hashlib.sha256(listen_key.encode()).hexdigest()[:12]


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with milliseconds and Z: it sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Outcome(StrEnum):
    """What happened to one account in one run."""

    EXTENDED = "EXTENDED"  # PUT ok: the recorded key, or none was recorded
    CHANGED = "CHANGED"  # PUT ok, but Binance extended another key than the recorded one
    CREATED = "CREATED"  # no key existed: POST made the first one
    RECREATED = "RECREATED"  # Binance had forgotten the recorded key: POST made a new one
    SKIPPED = "SKIPPED"  # nothing to do yet
    FAILED = "FAILED"  # transient, retries used up
    DEFERRED = "DEFERRED"  # not attempted: rate limit, ban, exchange down, deadline
    REJECTED = "REJECTED"  # needs a person


SUCCESSES = frozenset({Outcome.EXTENDED, Outcome.CHANGED, Outcome.CREATED, Outcome.RECREATED})
RETRYABLE = frozenset({Outcome.FAILED, Outcome.DEFERRED})


@dataclass(frozen=True, slots=True)
class Account:
    """A row of AccountsTable. If it has a `problem` (invalid or missing), only `id` and `enabled` count."""

    id: str
    product: str = ""
    secret_id: str = ""
    secret_field: str = ""
    create_if_missing: bool = True
    enabled: bool = True
    renew_after: int | None = None  # minutes; None: the stack's RenewAfterMinutes
    environment: str = LIVE
    problem: Rejected | None = None

    @property
    def endpoint(self) -> str:
        """The name of the product's endpoint in its environment."""
        return endpoint_name(self.product, self.environment) or ""


@dataclass(frozen=True, slots=True)
class Current:
    """The record of an account's listenKey; None stands for what is not recorded."""

    listen_key: str | None = field(default=None, repr=False)
    outcome: str | None = None
    attempted_at: datetime | None = None
    renewed_at: datetime | None = None
    expires_at: datetime | None = None
    consecutive_failures: int = 0
    error_code: str | None = None
    error_message: str | None = None
    only_error: str | None = None  # the code of all failures in a row, or of the last REJECTED one; or empty
    unannounced: tuple[str, ...] = ()
    run_id: str | None = None
    attempted: str | None = None  # attemptedAt as recorded, even if it is not a valid time
    product: str | None = None  # the key's

    @property
    def rejected(self) -> bool:
        """Whether one of the failures in a row was REJECTED, so that people know that they are needed."""
        return self.outcome == Outcome.REJECTED or self.only_error not in (None, "", self.error_code)


NOTHING = Current()


@dataclass(slots=True)
class Result:
    """What happened to one account.

    `at` is when the last request was sent; without one, when the outcome was known. `before` is the record
    that the outcome is derived from, `expires_at` when the key dies as far as is known now. `latency_ms` is
    that of the last request; `attempts` counts all requests. `stream_url` is the scheme and host of the key's
    stream, empty if not known. `unannounced` holds the announcements to record with it, as JSON texts.
    """

    account_id: str
    product: str
    outcome: Outcome
    at: datetime
    before: Current
    listen_key: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    error_code: str | None = None
    error_message: str | None = None
    http_status: int | None = None
    attempts: int = 0
    latency_ms: int | None = None
    stream_url: str = ""
    to_record: bool = True
    unannounced: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.expires_at = self.expires_at or self.before.expires_at

    @property
    def late(self) -> bool:
        """Whether a later attempt is recorded. One over an hour later is a clock error and does not count."""
        recorded = self.before.attempted_at
        return recorded is not None and self.at < recorded <= self.at + timedelta(hours=1)

    @property
    def renews(self) -> bool:
        """Whether this is a success and no later success is recorded."""
        renewed_at = self.before.renewed_at
        return self.outcome in SUCCESSES and (renewed_at is None or renewed_at <= self.at)

    def against(self, record: Current) -> None:
        """Set `before` to another record and derive the outcome from it: is the key the recorded one?"""
        self.before = record
        key, known = self.listen_key or record.listen_key, record.listen_key
        same = known and record.product in (None, self.product)
        if self.outcome not in SUCCESSES:
            self.expires_at = record.expires_at
        elif self.late and not self.renews:
            pass  # the outcome was right before the recorded success
        elif key == known:
            self.outcome = Outcome.EXTENDED
        elif self.outcome in (Outcome.CREATED, Outcome.RECREATED):
            self.outcome = Outcome.RECREATED if same else Outcome.CREATED
        else:
            self.outcome = Outcome.CHANGED if known else Outcome.EXTENDED

    def explain(self, error: AccountError, dead: bool = False) -> "Result":
        """Copy an error into the result. `dead`: the key is known to be. Return the result itself."""
        self.error_code, self.error_message = error.code, error.message
        self.http_status = error.http_status
        if (dead or isinstance(error, ListenKeyNotFound)) and self.expires_at:
            self.expires_at = min(self.at, self.expires_at)
        return self

    def as_problem(self) -> dict[str, Any]:
        """Return the report's entry for an account that was not renewed."""
        return {
            "accountId": self.account_id,
            "outcome": str(self.outcome),
            "errorCode": self.error_code,
            "errorMessage": self.error_message,
            "expiresAt": iso(self.expires_at) if self.expires_at else None,
        }
