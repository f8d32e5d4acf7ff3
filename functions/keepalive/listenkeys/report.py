"""What a run did: outcomes, one result per account, the report."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .errors import AccountError, ErrorCode

if TYPE_CHECKING:
    from .aws.items import Current

MAX_PROBLEMS = 50
MAX_PLAN = 1000


class Outcome(StrEnum):
    """What became of one account in one run."""

    EXTENDED = "EXTENDED"  # PUT ok: the same key, or the first time it is learnt
    CHANGED = "CHANGED"  # PUT ok, but Binance extended another key than the recorded one
    CREATED = "CREATED"  # no key existed: POST made the first one
    RECREATED = "RECREATED"  # Binance had forgotten the recorded key: POST made a new one
    SKIPPED = "SKIPPED"  # nothing to do yet
    FAILED = "FAILED"  # transient, retries used up
    DEFERRED = "DEFERRED"  # not attempted: rate limit, ban, exchange down, deadline
    REJECTED = "REJECTED"  # needs a person


SUCCESSES = frozenset({Outcome.EXTENDED, Outcome.CHANGED, Outcome.CREATED, Outcome.RECREATED})
RETRYABLE = frozenset({Outcome.FAILED, Outcome.DEFERRED})


@dataclass(slots=True)
class Result:
    """What became of one account.

    `at` is when the last request was sent; without one, when the outcome was known. `before` is the record
    that the run began from, `expires_at` when the key dies by what is known after it. `latency_ms` is of
    the last request, `attempts` counts all of them. `unannounced` are the announcements to be recorded with
    it, as JSON texts.
    """

    account_id: str
    product: str
    outcome: Outcome
    at: datetime
    before: "Current"
    listen_key: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    error_code: str | None = None
    error_message: str | None = None
    http_status: int | None = None
    attempts: int = 0
    latency_ms: int | None = None
    used_weight: int = 0
    to_record: bool = True
    unannounced: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.expires_at = self.expires_at or self.before.expires_at

    def explain(self, error: AccountError) -> "Result":
        """Take over what an error says; returns the result itself."""
        self.error_code, self.error_message = error.code, error.message
        self.http_status = error.http_status
        return self

    def as_problem(self) -> dict[str, Any]:
        """Return what the report says of an account that did not come out well."""
        return {
            "accountId": self.account_id,
            "outcome": str(self.outcome),
            "errorCode": self.error_code,
            "errorMessage": self.error_message,
        }


@dataclass(slots=True)
class Report:
    """A run: its results and what can be counted from them.

    `trouble` holds what went wrong beside the accounts (a page that could not be read, an event not
    sent); `warnings` what a person should know and nothing needs to be tried again for.
    """

    run_id: str
    trigger: str
    dry_run: bool = False
    accounts: int = 0
    results: list[Result] = field(default_factory=list)
    min_remaining_seconds: int | None = None
    keys_at_risk: int = 0
    used_weight: int = 0
    duration_ms: int = 0
    plan: list[dict[str, Any]] = field(default_factory=list)
    probe: dict[str, Any] | None = None
    accounts_unread: str | None = None
    trouble: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def close(self, now: datetime, at_risk: float, seconds: float) -> None:
        """Note how long the run took, and how long the keys live: `at_risk` is the line, in seconds.

        A REJECTED account counts until its key has died. Then it has its own alarm, and would hide the other
        accounts from KeyAtRiskAlarm.
        """
        self.duration_ms = round(seconds * 1000)
        remaining = []
        for result in self.results:
            left = max(0, int((result.expires_at - now).total_seconds())) if result.expires_at else 0
            hides = result.outcome is Outcome.REJECTED or result.error_code == ErrorCode.ACCOUNT_DISABLED
            if left or not hides:
                remaining.append(left)
        self.min_remaining_seconds = min(remaining, default=None)
        self.keys_at_risk = sum(left < at_risk for left in remaining)

    def count(self) -> Counter[Outcome]:
        """Return how many accounts came to each outcome."""
        return Counter(result.outcome for result in self.results)

    def problems(self) -> Iterator[Result]:
        """Yield the results that are no success, those that need a person first."""
        for outcome in (Outcome.REJECTED, Outcome.FAILED, Outcome.DEFERRED, Outcome.SKIPPED):
            yield from (r for r in self.results if r.outcome is outcome and r.error_code)

    def incomplete(self) -> str | None:
        """Return why the run is not complete, in one line; None where nothing is left worth another try."""
        left = [r for r in self.results if r.outcome in RETRYABLE]
        codes = Counter(f"{r.outcome} {r.error_code}" for r in left)
        reasons = [f"{n} {what}" for what, n in codes.most_common()] + self.trouble
        if self.accounts_unread:
            reasons.insert(0, self.accounts_unread)
        if not reasons:
            return None
        return f"{len(left)} of {self.accounts} accounts left for another try: {', '.join(reasons)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as the function returns it."""
        counts = self.count()
        answer: dict[str, Any] = {
            "runId": self.run_id,
            "trigger": self.trigger,
            "accounts": self.accounts,
            **{outcome.lower(): counts[outcome] for outcome in Outcome},
            "minRemainingSeconds": self.min_remaining_seconds,
            "usedWeight": self.used_weight,
            "durationMs": self.duration_ms,
            "problems": [
                result.as_problem() for _, result in zip(range(MAX_PROBLEMS), self.problems(), strict=False)
            ],
        }
        if self.dry_run:
            answer |= {"dryRun": True, "plan": self.plan[:MAX_PLAN]}
        if self.probe:
            answer["probe"] = self.probe
        return answer
