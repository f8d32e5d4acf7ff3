"""A run's requests: in which order, which of them another run has made unnecessary, what is given back."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .aws.budget import Budget
from .aws.records import Records
from .binance.dispatcher import Dispatcher
from .binance.lanes import NEVER, Task
from .binance.workers import renew_all
from .clock import Clock
from .errors import Unavailable
from .model import NOTHING, Current, Outcome, Result
from .products import PRODUCTS
from .renewal import Renewal
from .selection import Judge
from .trigger import MANUAL

if TYPE_CHECKING:
    from .binance.client import BinanceClient


@dataclass(slots=True)
class Sending:
    """Sends renewals in the order they come in.

    Nothing new starts after `deadline` (monotonic). A host may fail for `patience` seconds.
    """

    binance: "BinanceClient"
    budget: Budget
    records: Records
    clock: Clock
    judge: Judge
    deadline: float
    patience: float
    max_concurrency: int
    _read_in: int = field(init=False)  # the clock minute in which the run read the records, or an earlier one

    def __post_init__(self) -> None:
        self._read_in = self.budget.minute()

    def send(self, renewals: Sequence[Renewal], every: float) -> Generator[list[Result], None, None]:
        """Yield results as they come, at least every `every` seconds; close it and nothing more is sent."""
        tasks = [self._task(rank, renewal) for rank, renewal in enumerate(renewals)]
        workers = min(self.max_concurrency, len(tasks))
        dispatcher = Dispatcher(
            tasks, self.budget, self._screen, self.clock, self.deadline, self.patience, workers
        )
        return renew_all(dispatcher, self.binance, self.clock, workers, self.deadline, every)

    def give_back(self, results: Iterable[Result]) -> None:
        """Return the weight that was not used, and the claims on accounts that were not renewed."""
        groups: dict[str, list[str]] = {}
        for result in results:
            if result.product:
                unrenewed = groups.setdefault(PRODUCTS[result.product].group, [])
                if result.outcome in (Outcome.FAILED, Outcome.DEFERRED, Outcome.REJECTED):
                    unrenewed.append(result.account_id)
        for group, unrenewed in groups.items():
            self.budget.give_back(group, unrenewed)

    def dies_at(self, before: Current) -> float:
        """Return the monotonic time at which a live key dies; infinite if there is none to save.

        A person waits for a manual run, so it does not take longer for the sake of a key.
        """
        if before.expires_at is None or self.judge.trigger.name == MANUAL:
            return NEVER
        left = (before.expires_at - self.clock.now()).total_seconds()
        return self.clock.monotonic() + left if left > 0 else NEVER

    def _task(self, rank: int, renewal: Renewal) -> Task:
        name = renewal.account.product
        product, host = PRODUCTS[name], self.binance.host_of(name)
        weight = min(product.weight, self.budget.caps[product.group])
        suspect = renewal.before.consecutive_failures > 0
        return Task(rank, renewal, host, product.group, weight, self.dies_at(renewal.before), suspect)

    def _screen(self, portion: list[Task], claimed: set[str]) -> dict[Task, Result]:
        """Return the results of those that another run is renewing, or has renewed in the meantime.

        Claims are of this clock minute. Records that were read in an earlier one are read again.
        """
        if self.judge.trigger.name == MANUAL:
            return {}  # a person asked for them
        settled = {task: task.renewal.skipped() for task in portion if task.id in claimed}
        rest = [task for task in portion if task not in settled]
        if self._read_in == self.budget.minute() or not rest:
            return settled
        try:
            fresh = self.records.current([task.id for task in rest])
        except Unavailable:
            return settled  # go by what was read first
        judge = replace(self.judge, now=self.clock.now())
        for task in rest:
            known, task.renewal.before = task.renewal.before, fresh.get(task.id, NOTHING)
            renewed = task.renewal.before.renewed_at != known.renewed_at
            if renewed and not judge(task.renewal.account, task.renewal.before)[0]:
                settled[task] = task.renewal.skipped()
        return settled
