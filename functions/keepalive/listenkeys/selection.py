"""Who is due in a run, and in which order; what is said of the others. Reads and sends nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .aws.accounts import Account
from .aws.records import LEASE, NOTHING, Current
from .errors import AccountError
from .report import SUCCESSES, Outcome, Result
from .trigger import SWEEP, TICK, Trigger

FRESH = timedelta(minutes=5)  # renewed less than this ago: a duplicate or a retry, nothing to do
CLOCK_SLACK = timedelta(minutes=1)
LAST_TRY = timedelta(minutes=25)  # no try of an event comes later: the template's MaximumEventAgeInSeconds
_DISABLED = AccountError("ACCOUNT_DISABLED", "enabled is false: set it to true to renew it")


@dataclass(slots=True)
class Selection:
    """The accounts to renew, most urgent first, and the results of the others."""

    due: list[Account] = field(default_factory=list)
    settled: list[Result] = field(default_factory=list)


def select(
    accounts: Iterable[Account],
    current: Mapping[str, Current],
    trigger: Trigger,
    now: datetime,
    overdue: timedelta,
    run_id: str,
) -> Selection:
    """Divide the accounts of a run. `overdue` is the age from which a sweep renews a key.

    What the same tick has already renewed is left alone.
    Order: live keys first, soonest to expire first; then those that have none to lose.
    """
    selection = Selection()
    for account in accounts:
        before = current.get(account.id, NOTHING)
        settled = Result(account.id, account.product, Outcome.SKIPPED, now, attempted=False)
        if not account.enabled:
            if trigger.accounts is None:
                continue
            settled.explain(_DISABLED)
        elif account.problem and not (trigger.name == SWEEP and before.outcome == Outcome.REJECTED):
            settled.outcome = Outcome.REJECTED
            settled.explain(account.problem)
            # A name that nobody has is not recorded, nor is what a dry run finds.
            settled.attempted = account.problem.code != "ACCOUNT_NOT_FOUND" and not trigger.dry_run
        elif not account.problem and is_due(before, trigger, now, overdue):
            if not (trigger.name == TICK and is_done(before, now, run_id)):
                selection.due.append(account)
                continue
        elif before.outcome == Outcome.REJECTED:
            # It still needs a person: reported as it stands, so that its alarm stays on.
            settled.outcome = Outcome.REJECTED
            settled.error_code, settled.error_message = before.error_code, before.error_message
        selection.settled.append(settled)

    def urgency(account: Account) -> tuple[bool, float]:
        expires_at = current.get(account.id, NOTHING).expires_at
        return not (expires_at and expires_at > now), expires_at.timestamp() if expires_at else 0.0

    selection.due.sort(key=urgency)
    return selection


def is_done(before: Current, now: datetime, run_id: str) -> bool:
    """Say whether this very run has renewed the account, in an earlier try.

    Lambda's retry and a shard's message that comes back carry the run's id, and what a long run
    renewed first is no longer fresh by then.
    """
    again = before.run_id == run_id and before.outcome in SUCCESSES
    return again and before.renewed_at is not None and now - before.renewed_at < LAST_TRY


def is_due(before: Current, trigger: Trigger, now: datetime, overdue: timedelta) -> bool:
    """Say whether a run renews an account with this record."""
    if trigger.force:
        return True
    sweep = trigger.name == SWEEP
    rejected = before.outcome == Outcome.REJECTED
    if before.renewed_at is None or before.listen_key is None:
        return not (sweep and rejected)
    age = now - before.renewed_at
    if age < -CLOCK_SLACK:
        return True  # renewed in the future: a clock was wrong, so believe none of it
    if not sweep:
        return age >= FRESH
    if rejected:
        # A person is needed, and asking goes on only while there is a key to save.
        return overdue <= age < LEASE
    return age >= overdue or before.outcome == Outcome.FAILED
