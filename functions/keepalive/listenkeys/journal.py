"""A run's results on their way out: reported, recorded in batches as they come, then announced."""

from collections.abc import Mapping

from .aws.announcements import Announcer
from .aws.records import BATCH, Records
from .clock import Clock
from .errors import ErrorCode, Unavailable
from .model import SUCCESSES, Current, Outcome, Result
from .report import Report

FLUSH_SECONDS = 1.0
_PAUSE_CAP = 30.0  # seconds between two tries while DynamoDB takes nothing
_GIVE_UP_AFTER = 3  # failures in a row at the end of the run


class Journal:
    """Takes in results as they come, records them in batches and then announces what changed."""

    def __init__(self, records: Records, announcer: Announcer, clock: Clock, report: Report) -> None:
        self._records = records
        self._announcer = announcer
        self._clock = clock
        self._report = report
        self._unsaved: list[Result] = []
        self._announced: set[str] = set()
        self._next_flush = clock.monotonic() + FLUSH_SECONDS
        self._failures = 0  # to record, in a row
        self._bus_works = True
        self._why = ""

    def add(self, result: Result) -> None:
        """Report a result; `flush` and `close` record it."""
        self._report.results.append(result)
        self._report.used_weight = max(self._report.used_weight, result.used_weight)
        if result.to_record:
            self._unsaved.append(result)

    def flush(self) -> None:
        """Record what has come in, if it is enough for a batch or a second has passed.

        What DynamoDB does not take is tried again later, ever more rarely, so that it holds up nothing.
        """
        full = len(self._unsaved) >= BATCH and not self._failures
        while self._unsaved and (full or self._clock.monotonic() >= self._next_flush):
            saved = self._save()
            pause = FLUSH_SECONDS if saved else min(_PAUSE_CAP, FLUSH_SECONDS * 2**self._failures)
            self._next_flush = self._clock.monotonic() + pause
            full = saved and len(self._unsaved) >= BATCH

    def close(self, current: Mapping[str, Current]) -> None:
        """Record the rest, and announce what earlier runs could not."""
        self._failures = 0
        while self._unsaved and self._failures < _GIVE_UP_AFTER:
            if not self._save():
                self._unsaved = self._unsaved[BATCH:] + self._unsaved[:BATCH]
        if self._unsaved:
            for result in self._unsaved:
                _not_recorded(result, self._why)
            self._report.trouble.append(self._why)
        self._announce(
            {
                id_: list(c.unannounced)
                for id_, c in current.items()
                if c.unannounced and id_ not in self._announced
            }
        )

    def _save(self) -> bool:
        batch = self._unsaved[:BATCH]
        try:
            saved = self._records.save(batch, self._report.run_id)
        except Unavailable as error:
            self._why = str(error)
            self._failures += 1
            return False
        self._failures = 0
        del self._unsaved[: len(batch)]
        for result in batch:
            if result.account_id in saved.lost:
                _not_recorded(result, "its record in ListenKeysTable does not take the write")
            elif result.account_id in saved.superseded:
                # Another run's later attempt is recorded, and is what counts.
                result.outcome, result.error_code, result.error_message = Outcome.SKIPPED, None, None
        self._announce(
            {
                result.account_id: [*result.before.unannounced, *result.unannounced]
                for result in batch
                if result.account_id not in saved.lost | saved.superseded
                and (result.unannounced or result.before.unannounced)
            }
        )
        return True

    def _announce(self, unannounced: dict[str, list[str]]) -> None:
        self._announced.update(unannounced)
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
    """Report a success as failed: readers of the record don't see it, and another run does it again."""
    if result.outcome in SUCCESSES:
        result.outcome, result.error_message = Outcome.FAILED, why
        result.error_code = ErrorCode.RECORD_UNAVAILABLE
