"""A run: select who is due, renew them, record and announce what came of it. No AWS, no HTTP.

`Keeper` outlives a run, as a warm function does; what belongs to one run stands in `_Run`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from . import trigger as triggers
from .aws.accounts import Account, Accounts
from .aws.announcements import Announcer
from .aws.credentials import ApiKey, Credentials
from .aws.records import LEASE, NOTHING, Current, Records
from .aws.shards import Shard
from .binance.client import IP_WEIGHT_LIMIT, BinanceClient
from .binance.pacing import Clock, Lane, Task, WeightBudget
from .binance.workers import renew_all
from .errors import AccountError, Unavailable
from .journal import FLUSH_SECONDS, Journal
from .renewal import Renewal
from .report import SUCCESSES, Outcome, Report, Result
from .selection import select
from .trigger import Trigger

RESERVE = 30.0  # seconds kept for the requests under way and for recording them
# How long a dead host, or Secrets Manager, is tried before a run gives up; a person waits, so a manual run
# soon does. After an outage of 25 minutes a key may have 4 to live, and two sweeps may be 6 apart: a sweep
# that keeps trying for more than 2 covers the gap. It ends before the next one can begin, 4 minutes on.
PATIENCE = {triggers.TICK: 150.0, triggers.SWEEP: 150.0, triggers.MANUAL: 5.0}
_SECRETS_AGAIN = 5.0  # seconds, doubling; the last time when the patience ends


@dataclass(frozen=True, slots=True)
class Keeper:
    """The collaborators of a run. `overdue` is the age from which a sweep renews a key."""

    accounts: Accounts
    credentials: Credentials
    binance: BinanceClient
    records: Records
    announcer: Announcer
    clock: Clock
    overdue: timedelta
    max_concurrency: int
    max_weight_per_minute: int
    budgets: dict[tuple[str, int, bool], WeightBudget] = field(default_factory=dict)

    def run(self, trigger: Trigger, run_id: str, seconds: float, shard: Shard | None = None) -> Report:
        """Do one run, or one shard of it, within `seconds` and return its report.

        What one account does wrong stays with it.
        """
        return _Run(self, trigger, run_id, seconds, shard).run()

    def budget_of(self, host: str, shard: Shard | None) -> WeightBudget:
        """Return the host's weight budget, which outlives the run; a shard's is its share, spread evenly."""
        per_minute = shard.weight if shard else self.max_weight_per_minute
        key = (host, per_minute, shard is not None)
        if key not in self.budgets:
            self.budgets[key] = WeightBudget(per_minute, IP_WEIGHT_LIMIT, self.clock, even=shard is not None)
        return self.budgets[key]


class _Run:
    def __init__(
        self, keeper: Keeper, trigger: Trigger, run_id: str, seconds: float, shard: Shard | None
    ) -> None:
        self.keeper = keeper
        self.shard = shard
        self.clock = keeper.clock
        self.trigger = trigger
        self.report = Report(run_id, trigger.name, trigger.dry_run)
        self.started = self.clock.monotonic()
        self.deadline = self.started + seconds - RESERVE
        self.patience = PATIENCE[trigger.name]
        self.current: Mapping[str, Current] = {}
        self.journal = Journal(keeper.records, keeper.announcer, keeper.clock, self.report)

    def run(self) -> Report:
        self.keeper.binance.forget_idle_connections()
        due = self._select()
        if self.trigger.dry_run:
            self._plan(due)
        else:
            self._renew(due)
            self.journal.close(self.current)
        now = self.clock.now()
        self.report.min_remaining_seconds = min(self._remaining(now), default=None)
        self.report.duration_ms = round((self.clock.monotonic() - self.started) * 1000)
        return self.report

    def _select(self) -> list[Account]:
        """Return the accounts that are due, most urgent first; report the others."""
        accounts = self._listed()
        try:
            self.current = self.keeper.records.current([a.id for a in accounts if a.enabled])
        except Unavailable as error:
            # Without the records nothing is known of who is due. The next try reads them again.
            self.report.accounts_unread = str(error)
            return []
        selection = select(
            accounts, self.current, self.trigger, self.clock.now(), self.keeper.overdue, self.report.run_id
        )
        self.report.accounts = len(selection.due) + len(selection.settled)
        for result in selection.settled:
            self.journal.add(result, self.current.get(result.account_id, NOTHING))
        return selection.due

    def _listed(self) -> list[Account]:
        accounts: list[Account] = []
        try:
            if self.trigger.accounts is None:
                segment = (self.shard.segment, self.shard.total) if self.shard else (0, 1)
                for page in self.keeper.accounts.pages(*segment):
                    accounts += page
            else:
                accounts = self.keeper.accounts.named(self.trigger.accounts)
        except Unavailable as error:
            # What was read is renewed; what was not is no "no accounts".
            self.report.accounts_unread = str(error)
        return accounts

    def _plan(self, due: list[Account]) -> None:
        """Report what would be done, down to the secrets that could not be read."""
        now = self.clock.now()
        keys = self._fetch(due)
        for account in due:
            key, renewed_at = keys[account.id], self._before(account).renewed_at
            action, reason = "renew", "no key yet"
            if renewed_at:
                reason = f"renewed {(now - renewed_at).total_seconds() / 60:.0f} min ago"
            if isinstance(key, AccountError):
                action, reason = "none", key.message
                result = _unkeyed(account, key, now)
                result.attempted = False
                self.journal.add(result, self._before(account))
            self.report.plan.append(
                {"accountId": account.id, "product": account.product, "action": action, "reason": reason}
            )

    def _renew(self, due: list[Account]) -> None:
        """Renew the due accounts; while the patience lasts, again those whose secret could not be read."""
        wait = _SECRETS_AGAIN
        while due:
            keys = self._fetch(due)
            ready: list[Renewal] = []
            unread: list[tuple[Account, AccountError]] = []
            for account in due:
                key, before = keys[account.id], self._before(account)
                if isinstance(key, ApiKey):
                    ready.append(Renewal(account, before, key, self._reread))
                elif key.retryable:
                    unread.append((account, key))
                else:
                    self.journal.add(_unkeyed(account, key, self.clock.now()), before)
            self._send(ready)
            left = min(self.deadline, self.started + self.patience) - self.clock.monotonic()
            if left < 1.0:
                for account, error in unread:
                    self.journal.add(_unkeyed(account, error, self.clock.now()), self._before(account))
                return
            due = [account for account, _ in unread]
            if due:
                self.clock.sleep(min(wait, left))
                wait *= 2

    def _send(self, renewals: list[Renewal]) -> None:
        keeper = self.keeper

        def open_lane(host: str, tasks: list[Task]) -> Lane:
            return Lane(tasks, keeper.budget_of(host, self.shard), self.clock, self.deadline, self.patience)

        for result, before in renew_all(
            renewals, keeper.binance, open_lane, self.clock, keeper.max_concurrency, self.deadline,
            self.journal.flush, FLUSH_SECONDS,
        ):  # fmt: skip
            self.journal.add(result, before)

    def _fetch(self, accounts: Iterable[Account]) -> dict[str, ApiKey | AccountError]:
        fetched = self.keeper.credentials.fetch(accounts)
        if fetched.signing_secret_seen and not self.report.warnings:
            self.report.warnings.append("a secret holds an apiSecret or secretKey: never needed, take it out")
        return fetched.keys

    def _reread(self, account: Account) -> ApiKey | AccountError:
        return self.keeper.credentials.fetch([account]).keys[account.id]

    def _before(self, account: Account) -> Current:
        return self.current.get(account.id, NOTHING)

    def _remaining(self, now: datetime) -> Iterable[int]:
        """Yield the seconds each key still lives, without those that are a person's to bring back.

        An account that is REJECTED counts until its key has died: then it has its own alarm, and must
        not hide from this one what happens to the others.
        """
        for result in self.report.results:
            expires_at = self.current.get(result.account_id, NOTHING).expires_at
            if result.outcome in SUCCESSES:
                expires_at = result.at + LEASE
            remaining = max(0, int((expires_at - now).total_seconds())) if expires_at else 0
            if remaining or (
                result.outcome is not Outcome.REJECTED and result.error_code != "ACCOUNT_DISABLED"
            ):
                yield remaining


def _unkeyed(account: Account, error: AccountError, now: datetime) -> Result:
    """Return the result of an account whose API key could not be had."""
    outcome = Outcome.FAILED if error.retryable else Outcome.REJECTED
    return Result(account.id, account.product, outcome, now).explain(error)
