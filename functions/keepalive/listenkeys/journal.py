"""A run's results on their way out: reported, recorded in batches as they come, then announced."""

from collections.abc import Mapping

from .aws.announcements import Announcer, news
from .aws.records import BATCH, Current, Records, Save
from .binance.pacing import Clock
from .errors import Unavailable
from .report import SUCCESSES, Outcome, Report, Result

FLUSH_SECONDS = 1.0
GIVE_UP_AFTER = 3  # batches that DynamoDB did not take: the rest is tried once more, at the end of the run


class Journal:
    """Takes in results as they come, records them in batches and then announces what changed."""

    def __init__(self, records: Records, announcer: Announcer, clock: Clock, report: Report) -> None:
        self._records = records
        self._announcer = announcer
        self._clock = clock
        self._report = report
        self._unsaved: list[Save] = []
        self._told: set[str] = set()
        self._flushed_at = clock.monotonic()
        self._write_failures = 0
        self._bus_works = True
        self._why = ""

    def add(self, result: Result, before: Current) -> None:
        """Report a result, and record it soon."""
        self._report.results.append(result)
        self._report.used_weight = max(self._report.used_weight, result.used_weight)
        if result.attempted:
            self._unsaved.append(Save(result, before, news(result, before)))
            age = self._clock.monotonic() - self._flushed_at
            if len(self._unsaved) >= BATCH or age >= FLUSH_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Record what has come in. What DynamoDB does not take now is tried again at the end of the run."""
        self._flushed_at = self._clock.monotonic()
        while self._unsaved and self._write_failures < GIVE_UP_AFTER:
            if not self._save():
                self._write_failures += 1
                return

    def close(self, current: Mapping[str, Current]) -> None:
        """Record the rest, and announce what earlier runs could not."""
        while self._unsaved:
            if not self._save():
                self._give_up()
        self._announce(
            {
                id_: list(c.unannounced)
                for id_, c in current.items()
                if c.unannounced and id_ not in self._told
            }
        )

    def _save(self) -> bool:
        batch = self._unsaved[:BATCH]
        try:
            lost = self._records.save(batch, self._report.run_id)
        except Unavailable as error:
            self._why = str(error)
            return False
        del self._unsaved[: len(batch)]
        for save in batch:
            if save.result.account_id in lost:
                _not_recorded(save.result, "its record in ListenKeysTable does not take the write")
        self._announce(
            {
                save.result.account_id: [*save.before.unannounced, *save.unannounced]
                for save in batch
                if save.unannounced or save.before.unannounced
            }
        )
        return True

    def _give_up(self) -> None:
        for save in self._unsaved:
            _not_recorded(save.result, self._why)
        self._unsaved.clear()
        self._report.trouble.append(self._why)

    def _announce(self, unannounced: dict[str, list[str]]) -> None:
        self._told.update(unannounced)
        if not unannounced or not self._bus_works:
            return
        try:
            sent = self._announcer.send(unannounced)
            if len(sent) < len(unannounced):
                self._report.trouble.append(f"{len(unannounced) - len(sent)} accounts' changes not announced")
            self._records.announced(sent)
        except Unavailable as error:
            self._bus_works = False
            self._report.trouble.append(str(error))


def _not_recorded(result: Result, why: str) -> None:
    """What is not recorded has not happened for whoever reads the record: another run does it again."""
    if result.outcome in SUCCESSES:
        result.outcome, result.error_code, result.error_message = Outcome.FAILED, "RECORD_UNAVAILABLE", why
