"""What a run did: its results, and what is counted from them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .errors import ErrorCode
from .model import RETRYABLE, Outcome, Result

MAX_PROBLEMS = 50
MAX_PLAN = 1000


@dataclass(slots=True)
class Report:
    """The report of a run. `trouble` makes the run incomplete; `warnings` are for people to read."""

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
        """Set the run's duration, and how long the keys still live: 0 for a dead or missing one."""
        self.duration_ms = round(seconds * 1000)
        remaining = [
            max(0, int((result.expires_at - now).total_seconds())) if result.expires_at else 0
            for result in self.results
            if result.error_code not in (ErrorCode.ACCOUNT_DISABLED, ErrorCode.ACCOUNT_NOT_FOUND)
        ]
        self.min_remaining_seconds = min(remaining, default=None)
        self.keys_at_risk = sum(left < at_risk for left in remaining)

    def count(self) -> Counter[Outcome]:
        """Return how many accounts have each outcome."""
        return Counter(result.outcome for result in self.results)

    def problems(self) -> Iterator[Result]:
        """Yield the results that have an error code, first those that need a person."""
        for outcome in (Outcome.REJECTED, Outcome.FAILED, Outcome.DEFERRED, Outcome.SKIPPED):
            yield from (r for r in self.results if r.outcome is outcome and r.error_code)

    def incomplete(self) -> str | None:
        """Return in one line why the run is incomplete, or None if nothing is left to try again."""
        left = [r for r in self.results if r.outcome in RETRYABLE]
        codes = Counter(f"{r.outcome} {r.error_code}" for r in left)
        unread = [self.accounts_unread] if self.accounts_unread else []
        reasons = unread + [f"{n} {what}" for what, n in codes.most_common()] + self.trouble
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
            "problems": [result.as_problem() for result in list(self.problems())[:MAX_PROBLEMS]],
        }
        if self.dry_run:
            answer |= {"dryRun": True, "plan": self.plan[:MAX_PLAN]}
        if self.probe:
            answer["probe"] = self.probe
        return answer
