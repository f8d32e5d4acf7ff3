"""A run: select the due accounts, renew their keys, record and announce the results. No AWS, no HTTP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from .aws.accounts import Accounts
from .aws.announcements import Announcer
from .aws.clients import Deadline
from .aws.credentials import ApiKey, Credentials
from .aws.records import Records
from .aws.shards import Shard
from .binance.client import BinanceClient
from .clock import Clock
from .errors import AccountError, Unavailable
from .journal import Journal
from .model import NOTHING, RETRYABLE, Account, Current
from .pool import Pool
from .report import Report
from .selection import DueRule, select
from .sending.admission import Admission
from .sending.probe import probe
from .sending.renewal import Renewal
from .sending.send import Sending
from .sending.weight import Budget
from .timing import AT_RISK, END_EARLY, NEVER, RESERVE, SECRETS_AGAIN
from .trigger import EXPIRED, Trigger


@dataclass(frozen=True, slots=True)
class Keeper:
    """What all runs share. `overdue`: from a row's renewAfterMinutes, the age when a sweep renews a key."""

    accounts: Accounts
    credentials: Credentials
    binance: BinanceClient
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
        self.budget.begin(run_id if trigger.scheduled else None)
        return _Run(self, trigger, run_id, seconds, shard).run()


class _Run:
    def __init__(
        self, keeper: Keeper, trigger: Trigger, run_id: str, seconds: float, shard: Shard | None
    ) -> None:
        self.keeper, self.trigger, self.shard = keeper, trigger, shard
        self.clock = clock = keeper.clock
        self.report = Report(run_id, trigger.name, trigger.dry_run)
        self.started = clock.monotonic()
        self.deadline = self.started + seconds - RESERVE
        self.current: dict[str, Current] = {}
        self.due_rule = DueRule(trigger, run_id, clock.now(), keeper.overdue)
        self.pool = keeper.pool(clock)
        self.journal = Journal(keeper.records, keeper.announcer, self.pool, clock, self.report)
        admission = Admission(
            keeper.budget, keeper.records, self.journal, self.pool, clock, self.due_rule,
            keeper.max_concurrency,
        )  # fmt: skip
        self.sending = Sending(
            keeper.binance, keeper.budget, admission, self.journal, self.pool, clock, self.deadline
        )

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
                self.journal.close({} if self.trigger.name == EXPIRED else self.current)
        finally:
            keeper.budget.end(leave=any(result.outcome in RETRYABLE for result in report.results))
            self.pool.close()
        if keeper.budget.trouble:
            report.trouble.append(keeper.budget.trouble)
        report.used_weight = keeper.budget.used_weight
        report.close(self.clock.now(), AT_RISK, self.clock.monotonic() - self.started)
        # In an outage each bot reports its listenKey: the next sweep sends people one digest of all.
        if not self.trigger.dry_run and self.trigger.name != EXPIRED:
            self.journal.conclude()
        return report

    def _select(self) -> tuple[list[Account], Mapping[str, str]]:
        rows, names, accounts, unread = self.keeper.accounts, self.trigger.accounts, list[Account](), None
        try:
            for page in rows.pages(self.shard) if names is None else [rows.named(names)]:
                accounts += page
        except Unavailable as error:
            unread = str(error)
        ids = None if names is None and not self.shard else [a.id for a in accounts if a.enabled]
        try:
            self.current.update(self.keeper.records.read(ids))
        except Unavailable as error:
            # Whether an account is due cannot be known without its record. Lambda's retry reads the rest.
            unread = unread or str(error)
            accounts = [a for a in accounts if a.id in self.current or not a.enabled]
        self.report.accounts_unread = unread
        selection = select(accounts, self.current, self.due_rule)
        self.report.accounts = len(selection.due) + len(selection.settled)
        for result in selection.settled:
            self.journal.add(result)
        return selection.due, selection.why

    def _plan(self, due: list[Account], why: Mapping[str, str]) -> None:
        for renewal in _keyed(self._renewals(due), self.keeper.credentials, self.report):
            account, action, reason = renewal.account, "renew", why[renewal.id]
            if renewal.error:
                action, reason = "none", renewal.error.message
                self.journal.add(renewal.failure(to_record=False))
            self.report.plan.append(
                {"accountId": account.id, "product": account.product, "action": action, "reason": reason}
            )

    def _renew(self, due: list[Account]) -> None:
        """Renew the due accounts. While a live key is at risk, retry those whose secret could not be read."""
        wait, left = SECRETS_AGAIN, self._renewals(due)
        while left:
            left = self._send(_keyed(left, self.keeper.credentials, self.report))
            seconds = self.deadline - (now := self.clock.monotonic())
            if seconds < 1.0 or not any(now < each.dies_at < self.deadline + AT_RISK for each in left):
                for renewal in left:
                    self.journal.add(renewal.failure())
                break
            self.journal.drain()
            self.clock.sleep(min(wait, seconds))
            wait *= 2

    def _send(self, renewals: list[Renewal]) -> list[Renewal]:
        """Renew those whose API key could be read. Return those whose secret may be readable later."""
        unread = [renewal for renewal in renewals if renewal.error and renewal.error.retryable]
        refused = [renewal for renewal in renewals if renewal.error and not renewal.error.retryable]
        for renewal in refused:
            self.journal.add(renewal.failure())
        self.sending.add(renewal for renewal in renewals if not renewal.error)
        while (wake := self.sending.go()) is not None:
            self.pool.land(max(0.0, min(wake, self.journal.flush()) - self.clock.monotonic()))
        self.sending.settle()
        return unread

    def _renewals(self, due: list[Account]) -> list[Renewal]:
        """Return the accounts' renewals. Only scheduled runs set `dies_at`: nobody waits for their answer."""
        now, monotonic, made = self.clock.now(), self.clock.monotonic(), list[Renewal]()
        for rank, account in enumerate(due):
            before, dies_at = self.current.get(account.id, NOTHING), NEVER
            if before.expires_at and before.expires_at > now and self.trigger.scheduled:
                dies_at = monotonic + (before.expires_at - now).total_seconds()
            how = (self.keeper.credentials, self.clock.now, dies_at, self.trigger.dead)
            made.append(Renewal(rank, account, before, *how))
        return made


def _keyed(renewals: list[Renewal], credentials: Credentials, report: Report) -> list[Renewal]:
    """Read the renewals' API keys. If one cannot be read, set the renewal's `error`."""
    fetched = credentials.fetch(renewal.account for renewal in renewals)
    for renewal in renewals:
        key = fetched.keys[renewal.id]
        renewal.error = key if isinstance(key, AccountError) else None
        if isinstance(key, ApiKey):
            renewal.api_key = key
    if fetched.signing_secret_seen and not report.warnings:
        report.warnings.append("a secret holds an apiSecret or secretKey: never needed, take it out")
    return renewals
