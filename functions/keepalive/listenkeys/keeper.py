"""A run: select who is due, renew them, record and announce what came of it. No AWS, no HTTP.

`Keeper` outlives a run, as a warm function does; what belongs to one run stands in `_Run`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import trigger as triggers
from .aws.accounts import Account, Accounts
from .aws.announcements import Announcer
from .aws.budget import Budget
from .aws.calls import Deadline
from .aws.credentials import ApiKey, Credentials
from .aws.records import NOTHING, Current, Records
from .aws.shards import Shard
from .binance.client import BinanceClient
from .binance.dispatcher import Dispatcher
from .binance.lanes import AT_RISK, Task
from .binance.workers import renew_all
from .clock import Clock
from .errors import AccountError, ErrorCode, Unavailable
from .journal import FLUSH_SECONDS, Journal
from .probe import probe
from .products import PRODUCTS
from .renewal import Renewal
from .report import Outcome, Report, Result
from .selection import Judge, select
from .trigger import Trigger

RESERVE = 30.0  # seconds kept for the requests under way and for recording them
END_EARLY = 5.0  # seconds before Lambda would end the run
# How long a dead host, or Secrets Manager, is tried before a run gives up; a person waits, so a manual run
# soon does. After an outage of 25 minutes a key may have 4 to live, and two sweeps may be 6 apart: a sweep
# that keeps trying for more than 2 covers the gap. It ends before the next one can begin, 4 minutes on.
PATIENCE = {triggers.TICK: 150.0, triggers.SWEEP: 150.0, triggers.MANUAL: 5.0}
_SECRETS_AGAIN = 5.0  # seconds, doubling; the last time when the patience ends
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keeper:
    """The collaborators of a run.

    `overdue` gives the age from which a sweep renews a key, by the row's renewAfterMinutes (None: the
    stack's). `aws_deadline` is kept by the AWS clients that the collaborators hold.
    """

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

    def run(self, trigger: Trigger, run_id: str, seconds: float, shard: Shard | None = None) -> Report:
        """Do one run, or one shard of it, within `seconds` and return its report.

        What one account does wrong stays with it.
        """
        self.aws_deadline.at = self.clock.monotonic() + seconds - END_EARLY
        self.budget.begin()
        return _Run(self, trigger, run_id, seconds, shard).run()


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
        self.read_in = 0  # the clock minute in which the records were read
        self.journal = Journal(keeper.records, keeper.announcer, keeper.clock, self.report)

    def run(self) -> Report:
        self.keeper.binance.forget_idle_connections()
        due = self._select()
        if self.trigger.probe:
            self.report.probe = probe(self.keeper.binance, self.keeper.budget, self.clock)
        if not self.trigger.dry_run:
            try:
                self._renew(due)
            finally:
                self._give_back()
            self.journal.close(self.current)
        now = self.clock.now()
        remaining = list(self._remaining(now))
        self.report.min_remaining_seconds = min(remaining, default=None)
        self.report.keys_at_risk = sum(seconds < AT_RISK for seconds in remaining)
        self.report.duration_ms = round((self.clock.monotonic() - self.started) * 1000)
        return self.report

    def _select(self) -> list[Account]:
        """Return the accounts that are due, most urgent first; report the others."""
        accounts = self._listed()
        self.read_in = self.keeper.budget.minute()
        try:
            self.current = self.keeper.records.current([a.id for a in accounts if a.enabled])
        except Unavailable as error:
            # Without the records nothing is known of who is due. The next try reads them again.
            self.report.accounts_unread = str(error)
            return []
        selection = select(accounts, self.current, self._judge())
        self.report.accounts = len(selection.due) + len(selection.settled)
        for result in selection.settled:
            self.journal.add(result)
        if self.trigger.dry_run:
            self._plan(selection.due, selection.why)
        return selection.due

    def _judge(self) -> Judge:
        return Judge(self.trigger, self.report.run_id, self.clock.now(), self.keeper.overdue)

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

    def _plan(self, due: list[Account], why: Mapping[str, str]) -> None:
        """Report what would be done, down to the secrets that could not be read."""
        now = self.clock.now()
        keys = self._fetch(due)
        for account in due:
            key, action, reason = keys[account.id], "renew", why[account.id]
            if isinstance(key, AccountError):
                action, reason = "none", key.message
                result = self._unkeyed(account, key, now)
                result.to_record = False
                self.journal.add(result)
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
                key = keys[account.id]
                if isinstance(key, ApiKey):
                    ready.append(Renewal(account, self._before(account), key, self._reread, self.clock.now))
                elif key.retryable:
                    unread.append((account, key))
                else:
                    self.journal.add(self._unkeyed(account, key, self.clock.now()))
            self._send(ready)
            due = [account for account, _ in unread]
            patient = any(self._dies_at(account) < self.deadline + AT_RISK for account in due)
            end = self.deadline if patient else min(self.deadline, self.started + self.patience)
            left = end - self.clock.monotonic()
            if left < 1.0:
                for account, error in unread:
                    self.journal.add(self._unkeyed(account, error, self.clock.now()))
                return
            if due:
                self.clock.sleep(min(wait, left))
                wait *= 2

    def _send(self, renewals: list[Renewal]) -> None:
        if not renewals:
            return
        keeper, tasks = self.keeper, []
        for rank, renewal in enumerate(renewals):
            name = renewal.account.product
            product = PRODUCTS[name]
            weight = min(product.weight, keeper.budget.caps[product.group])
            task = Task(rank, renewal, keeper.binance.host_of(name), product.group, weight)
            task.dies_at = self._dies_at(renewal.account)
            task.suspect = renewal.before.consecutive_failures > 0
            tasks.append(task)
        workers = min(keeper.max_concurrency, len(tasks))
        dispatcher = Dispatcher(
            tasks, keeper.budget, self._screen, self.clock, self.deadline, self.patience, workers
        )
        results = renew_all(dispatcher, keeper.binance, self.clock, workers, self.deadline, FLUSH_SECONDS)
        with closing(results):  # whatever is raised in here, nothing more is sent
            for batch in results:
                for result in batch:
                    self.journal.add(result)
                self.journal.flush()

    def _screen(self, portion: list[Task], claimed: set[str]) -> dict[Task, Result]:
        """Return the results of those that another run is renewing, or has renewed meanwhile.

        Claims are of this clock minute; what was read in an earlier one is read again.
        """
        if self.trigger.name == triggers.MANUAL:
            return {}  # a person asked for them
        settled = {task: task.renewal.skipped() for task in portion if task.id in claimed}
        rest = [task for task in portion if task not in settled]
        if self.read_in == self.keeper.budget.minute() or not rest:
            return settled
        try:
            fresh = self.keeper.records.current([task.id for task in rest])
        except Unavailable:
            return settled  # then by what was known at first
        judge = self._judge()
        for task in rest:
            known, task.renewal.before = task.renewal.before, fresh.get(task.id, NOTHING)
            renewed = task.renewal.before.renewed_at != known.renewed_at
            if renewed and not judge(task.renewal.account, task.renewal.before)[0]:
                settled[task] = task.renewal.skipped()
        return settled

    def _give_back(self) -> None:
        """Return the weight that was not used, and the accounts that were not renewed."""
        groups: dict[str, list[str]] = {}
        for result in self.report.results:
            if result.product:
                groups.setdefault(PRODUCTS[result.product].group, [])
                if result.outcome in (Outcome.FAILED, Outcome.DEFERRED, Outcome.REJECTED):
                    groups[PRODUCTS[result.product].group].append(result.account_id)
        for group, unrenewed in groups.items():
            self.keeper.budget.give_back(group, unrenewed)
        if self.keeper.budget.trouble:
            self.report.trouble.append(self.keeper.budget.trouble)

    def _fetch(self, accounts: Iterable[Account]) -> dict[str, ApiKey | AccountError]:
        fetched = self.keeper.credentials.fetch(accounts)
        if fetched.signing_secret_seen and not self.report.warnings:
            self.report.warnings.append("a secret holds an apiSecret or secretKey: never needed, take it out")
        return fetched.keys

    def _reread(self, account: Account) -> ApiKey | AccountError:
        return self.keeper.credentials.fetch([account]).keys[account.id]

    def _before(self, account: Account) -> Current:
        return self.current.get(account.id, NOTHING)

    def _dies_at(self, account: Account) -> float:
        """Return the monotonic time at which a live key dies; infinite where there is none to save.

        A person who waits for a manual run is not kept waiting for that.
        """
        expires_at = self._before(account).expires_at
        if expires_at is None or self.trigger.name == triggers.MANUAL:
            return float("inf")
        left = (expires_at - self.clock.now()).total_seconds()
        return self.clock.monotonic() + left if left > 0 else float("inf")

    def _remaining(self, now: datetime) -> Iterable[int]:
        """Yield the seconds each key still lives, excluding REJECTED accounts whose key is already dead.

        An account that is REJECTED counts until its key has died: then it has its own alarm, and must
        not hide from this one what happens to the others.
        """
        for result in self.report.results:
            expires_at = result.expires_at
            remaining = max(0, int((expires_at - now).total_seconds())) if expires_at else 0
            if remaining or (
                result.outcome is not Outcome.REJECTED and result.error_code != ErrorCode.ACCOUNT_DISABLED
            ):
                yield remaining

    def _unkeyed(self, account: Account, error: AccountError, now: datetime) -> Result:
        """Return the result of an account whose API key could not be had."""
        outcome = Outcome.FAILED if error.retryable else Outcome.REJECTED
        return Result(account.id, account.product, outcome, now, self._before(account)).explain(error)
