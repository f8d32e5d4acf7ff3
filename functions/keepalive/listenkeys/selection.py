"""Decides which accounts are due, why and in which order; the others get a result at once. No I/O."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from .errors import AccountError, ErrorCode
from .model import LEASE, NOTHING, SUCCESSES, Account, Current, Outcome, Result, fingerprint
from .timing import CLOCK_SLACK, FRESH, LAST_TRY, REJECTED_AGAIN
from .trigger import EXPIRED, MANUAL, SWEEP, TICK, Trigger

# Bots' events have no effect for this long after an attempt: many bots, and copies of events, ask at once.
TRIED = timedelta(seconds=30)
EVER = datetime(2000, 1, 1, tzinfo=UTC)
_DISABLED = AccountError(ErrorCode.ACCOUNT_DISABLED, "enabled is false: set it to true to renew it")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Selection:
    """The accounts to renew, most urgent first, why each is due, and the results of the others."""

    due: list[Account] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)
    settled: list[Result] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DueRule:
    """Decides whether an account is due for this trigger and run at the time `now`. `overdue`: see Keeper."""

    trigger: Trigger
    run_id: str
    now: datetime
    overdue: Callable[[int | None], timedelta]

    def __call__(self, account: Account, before: Current) -> tuple[bool, str]:
        """Return whether the account is due, and why or why not."""
        if self.trigger.force:
            return True, "asked for with force"
        if self.trigger.name == EXPIRED:
            if fingerprint(before.listen_key or "") != self.trigger.fingerprint:
                return False, "another listenKey is recorded than the one that is said to be dead"
            tried = self.now - (before.attempted_at or EVER)
            return not -TRIED < tried < TRIED, f"said to be dead, tried {tried.total_seconds():.0f} s ago"
        sweep, rejected = self.trigger.name == SWEEP, before.outcome == Outcome.REJECTED
        retry = before.attempted_at is None or self.now - before.attempted_at >= REJECTED_AGAIN
        other = before.product not in (None, account.product)
        if before.renewed_at is None or before.listen_key is None or other:
            if sweep and rejected and not retry:
                return False, "rejected, without a listenKey: tried once an hour and by the next tick"
            return True, "no listenKey of this product yet" if other else "no listenKey yet"
        age = self.now - before.renewed_at
        said = f"renewed {age.total_seconds() / 60:.0f} min ago"
        if age < -CLOCK_SLACK:
            return True, "renewed in the future: a clock was wrong"
        failed = before.outcome == Outcome.FAILED and self.trigger.name != TICK
        if failed or (rejected and self.trigger.name == MANUAL):
            return True, f"the last attempt failed, {said}"
        if not sweep:
            # Lambda's retry and a shard's returned message have the same run id, but may come after FRESH.
            again = before.run_id == self.run_id and before.outcome in SUCCESSES and age < LAST_TRY
            return age >= FRESH and not (self.trigger.name == TICK and again), said
        overdue = age >= self.overdue(account.renew_after)
        if rejected:
            # It needs a person. Frequent tries make sense only while there is a live key to save.
            return (overdue if age < LEASE else retry), f"rejected, {said}"
        return overdue, said


def select(accounts: Iterable[Account], current: Mapping[str, Current], due_rule: DueRule) -> Selection:
    """Select the due accounts, live keys first, the soonest to expire before others. Settle the rest."""
    selection, trigger = Selection(), due_rule.trigger
    for account in accounts:
        before = current.get(account.id, NOTHING)
        settled = Result(account.id, account.product, Outcome.SKIPPED, due_rule.now, before, to_record=False)
        if not account.enabled:
            if trigger.accounts is None:
                continue
            settled.explain(_DISABLED)
        elif account.problem and not (trigger.name == SWEEP and before.outcome == Outcome.REJECTED):
            settled.outcome = Outcome.REJECTED
            settled.explain(account.problem)
            # A problem is not recorded if the id has no row, in a dry run, or for a bot's event.
            unknown = account.problem.code == ErrorCode.ACCOUNT_NOT_FOUND
            settled.to_record = not (unknown or trigger.dry_run or trigger.name == EXPIRED)
        else:
            due, why = (False, "invalid row") if account.problem else due_rule(account, before)
            _log.debug("due" if due else "not due", extra={"accountId": account.id, "why": why})
            if due:
                selection.due.append(account)
                selection.why[account.id] = why
                continue
            if before.outcome == Outcome.REJECTED:
                # It still needs a person: report the recorded error again, so that the alarm stays on.
                settled.outcome = Outcome.REJECTED
                settled.error_code, settled.error_message = before.error_code, before.error_message
        selection.settled.append(settled)

    def urgency(account: Account) -> tuple[bool, float]:
        expires_at = current.get(account.id, NOTHING).expires_at
        live = expires_at is not None and expires_at > due_rule.now
        return not live, expires_at.timestamp() if expires_at else 0.0

    selection.due.sort(key=urgency)
    return selection
