"""A run: select who is due, renew them, record and announce what came of it. No AWS, no HTTP."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from .aws.accounts import Accounts
from .aws.announcements import Announcer
from .aws.clients import Deadline
from .aws.credentials import ApiKey, Credentials
from .aws.records import Records
from .aws.shards import Shard
from .clock import Clock
from .errors import AccountError, Unavailable
from .journal import Journal
from .model import NOTHING, Account, Current, Outcome, Result
from .pool import Pool
from .report import Report
from .selection import DueRule, select
from .sending.probe import probe
from .sending.renewal import Renewal
from .sending.send import Sending
from .sending.weight import Budget
from .timing import AT_RISK, END_EARLY, NEVER, RESERVE, SECRETS_AGAIN
from .trigger import Trigger

if TYPE_CHECKING:
    from .binance.client import BinanceClient


@dataclass(frozen=True, slots=True)
class Keeper:
    """The collaborators of a run. `overdue` says for a row's renewAfterMinutes when a sweep renews a key."""

    accounts: Accounts
    credentials: Credentials
    binance: "BinanceClient"
    records: Records
    announcer: Announcer
    budget: Budget
    clock: Clock
    overdue: Callable[[int | None], timedelta]
    max_concurrency: int
    aws_deadline: Deadline
    pool: Callable[[Clock], Pool] = Pool

    def run(self, trigger: Trigger, run_id: str, seconds: float, shard: Shard | None = None) -> Report:
        """Do one run, or one shard of it, within `seconds` and return its report."""
        self.aws_deadline.at = self.clock.monotonic() + seconds - END_EARLY
        self.budget.begin()
        return _Run(self, trigger, run_id, seconds, shard).run()


class _Run:
    def __init__(
        self, keeper: Keeper, trigger: Trigger, run_id: str, seconds: float, shard: Shard | None
    ) -> None:
        self.keeper = keeper
        self.shard = shard
        self.clock = clock = keeper.clock
        self.trigger = trigger
        self.report = Report(run_id, trigger.name, trigger.dry_run)
        self.started = clock.monotonic()
        self.deadline = self.started + seconds - RESERVE
        self.current: dict[str, Current] = {}
        self.pool = keeper.pool(clock)
        self.journal = Journal(keeper.records, keeper.announcer, self.pool, clock, self.report)
        self.sending = Sending(
            keeper.binance, keeper.budget, keeper.records, self.journal, self.pool, clock,
            DueRule(trigger, run_id, clock.now(), keeper.overdue),
            self.deadline, keeper.max_concurrency,
        )  # fmt: skip

    def run(self) -> Report:
        keeper, report = self.keeper, self.report
        due, why = self._select()
        if due or self.trigger.probe:
            keeper.binance.forget_idle_connections()
        if self.trigger.probe:
            report.probe = probe(keeper.binance, keeper.budget, self.clock)
        try:
            if self.trigger.dry_run:
                self._plan(due, why)
            else:
                self._renew(due)
                self.journal.close(self.current)
        finally:
            self.pool.close()
        report.close(self.clock.now(), AT_RISK, self.clock.monotonic() - self.started)
        if not self.trigger.dry_run:
            self.journal.conclude()
        return report

    def _select(self) -> tuple[list[Account], Mapping[str, str]]:
        accounts = self._listed()
        everything = self.trigger.accounts is None and not self.shard
        ids = None if everything else [a.id for a in accounts if a.enabled]
        try:
            self.current.update(self.keeper.records.read(ids))
        except Unavailable as error:
            # Without its record nobody knows whether an account is due. Lambda's retry reads the rest.
            self.report.accounts_unread = self.report.accounts_unread or str(error)
            accounts = [a for a in accounts if a.id in self.current or not a.enabled]
        selection = select(accounts, self.current, self.sending.due_rule)
        self.report.accounts = len(selection.due) + len(selection.settled)
        for result in selection.settled:
            self.journal.add(result)
        return selection.due, selection.why

    def _listed(self) -> list[Account]:
        accounts: list[Account] = []
        try:
            if self.trigger.accounts is not None:
                return self.keeper.accounts.named(self.trigger.accounts)
            segment = (self.shard.segment, self.shard.total) if self.shard else (0, 1)
            for page in self.keeper.accounts.pages(*segment):
                accounts += page
        except Unavailable as error:
            self.report.accounts_unread = self.report.accounts_unread or str(error)
        return accounts

    def _plan(self, due: list[Account], why: Mapping[str, str]) -> None:
        keys = self._fetch(due)
        for account in due:
            key, action, reason = keys[account.id], "renew", why[account.id]
            if isinstance(key, AccountError):
                action, reason = "none", key.message
                self.journal.add(self._unkeyed(account, key, to_record=False))
            self.report.plan.append(
                {"accountId": account.id, "product": account.product, "action": action, "reason": reason}
            )

    def _renew(self, due: list[Account]) -> None:
        """Renew the due accounts; while a key is at risk, go on with those whose secret could not be read."""
        wait = SECRETS_AGAIN
        try:
            while due:
                unread = self._send(due)
                due = [account for account, _ in unread]
                left = self.deadline - self.clock.monotonic()
                soonest = min((self._dies_at(self._before(account)) for account in due), default=NEVER)
                if left < 1.0 or soonest >= self.deadline + AT_RISK:
                    for account, error in unread:
                        self.journal.add(self._unkeyed(account, error))
                    break
                self.journal.drain()
                self.clock.sleep(min(wait, left))
                wait *= 2
        finally:
            self.sending.close()
            if self.keeper.budget.trouble:
                self.report.trouble.append(self.keeper.budget.trouble)

    def _send(self, due: list[Account]) -> list[tuple[Account, AccountError]]:
        """Renew those whose API key can be read; return the others."""
        keys = self._fetch(due)
        ready: list[Renewal] = []
        unread: list[tuple[Account, AccountError]] = []
        for account in due:
            key = keys[account.id]
            if isinstance(key, ApiKey):
                before, now = self._before(account), self.clock.now
                dies_at = self._dies_at(before)
                ready.append(Renewal(len(ready), account, before, key, self._reread, now, dies_at))
            elif key.retryable:
                unread.append((account, key))
            else:
                self.journal.add(self._unkeyed(account, key))
        self.sending.add(ready)
        while (wake := self.sending.go()) is not None:
            self.pool.land(max(0.0, min(wake, self.journal.flush()) - self.clock.monotonic()))
        self.sending.settle()
        return unread

    def _fetch(self, accounts: Iterable[Account]) -> dict[str, ApiKey | AccountError]:
        fetched = self.keeper.credentials.fetch(accounts)
        if fetched.signing_secret_seen and not self.report.warnings:
            self.report.warnings.append("a secret holds an apiSecret or secretKey: never needed, take it out")
        return fetched.keys

    def _reread(self, account: Account) -> ApiKey | AccountError:
        return self.keeper.credentials.fetch([account]).keys[account.id]

    def _dies_at(self, before: Current) -> float:
        """Return when (monotonic) a live key dies; NEVER if none is to save, or somebody waits."""
        if before.expires_at is None or not self.trigger.scheduled:
            return NEVER
        left = (before.expires_at - self.clock.now()).total_seconds()
        return self.clock.monotonic() + left if left > 0 else NEVER

    def _before(self, account: Account) -> Current:
        return self.current.get(account.id, NOTHING)

    def _unkeyed(self, account: Account, error: AccountError, to_record: bool = True) -> Result:
        outcome = Outcome.FAILED if error.retryable else Outcome.REJECTED
        before, now = self._before(account), self.clock.now()
        result = Result(account.id, account.product, outcome, now, before, to_record=to_record)
        return result.explain(error)
