"""Handles a run's results: adds them to the report, records them in batches, announces what changed."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain

from .aws.announcements import COMPLETED, Announcer, digests
from .aws.records import BATCH, Records, Saved
from .clock import Clock
from .errors import ErrorCode, Unavailable
from .model import SUCCESSES, Current, Outcome, Result
from .pool import Pool
from .report import Report
from .timing import FLUSH, FLUSH_PAUSE_CAP, NEVER
from .trigger import SWEEP, TICK

_GIVE_UP_AFTER = 3  # batches in a row that `drain` could not record


class Journal:
    """Records results in the pool, one batch at a time, and announces what changed after each batch."""

    def __init__(
        self, records: Records, announcer: Announcer, pool: Pool, clock: Clock, report: Report
    ) -> None:
        self._records, self._announcer, self._pool = records, announcer, pool
        self._clock, self._report = clock, report
        self.unsaved: list[Result] = []
        self.saving: list[Result] = []
        self._announced: set[str] = set()
        self._sent: dict[str, Sequence[str]] = {}
        self._next_flush = clock.monotonic() + FLUSH
        self._failures = 0  # batches in a row that could not be recorded
        self._bus_works = True
        self._why = ""

    def add(self, result: Result) -> None:
        """Add a result to the report and, if it is to be recorded, to `unsaved`."""
        self._report.results.append(result)
        if result.to_record:
            self.unsaved.append(result)

    def flush(self) -> float:
        """Start to record a batch if one is full or enough time has passed. Return when to call again."""
        if self.saving or not self.unsaved:
            return NEVER
        full = len(self.unsaved) >= BATCH and not self._failures
        if not full and self._clock.monotonic() < self._next_flush:
            return self._next_flush
        self._save()
        return NEVER

    def drain(self) -> None:
        """Record the whole queue and wait until it is done. Give up if DynamoDB keeps failing."""
        self._failures = 0
        while self.saving or (self.unsaved and self._failures < _GIVE_UP_AFTER):
            if not self.saving:
                self._save()
            self._pool.land(FLUSH)

    def close(self, current: Mapping[str, Current]) -> None:
        """Record the rest, and announce what earlier runs could not announce."""
        self.drain()
        if self.unsaved:
            for result in self.unsaved:
                _not_recorded(result, self._why)
            self._report.trouble.append(self._why)
        earlier = {id_: list(c.unannounced) for id_, c in current.items() if id_ not in self._announced}
        self._announce({id_: texts for id_, texts in earlier.items() if texts})

    def conclude(self) -> None:
        """Send the digests of failures and recoveries and a tick's heartbeat; clear what was announced."""
        report = self._report
        events = digests(chain(*self._sent.values()), report.results, report.trigger in (TICK, SWEEP))
        finished = report.trigger == TICK and not report.accounts_unread and not report.trouble
        if finished and self._announcer.heartbeat:
            said = report.to_dict()
            del said["problems"]
            events.append((COMPLETED, said))
        try:
            self._announcer.tell(events)
            self._records.announced(self._sent)
        except Unavailable as error:
            report.trouble.append(str(error))

    def _save(self) -> None:
        self.saving, self.unsaved = self.unsaved[:BATCH], self.unsaved[BATCH:]
        self._pool.start(partial(self._record, self.saving), self._recorded)

    def _record(self, batch: list[Result]) -> Saved | Unavailable:
        """Record a batch and announce its changes. Runs in the pool."""
        try:
            saved = self._records.save(batch, self._report.run_id)
        except Unavailable as error:
            return error
        self._announce(
            {
                result.account_id: [*result.before.unannounced, *result.unannounced]
                for result in batch
                if result.account_id not in saved.lost | saved.superseded
                and (result.unannounced or result.before.unannounced)
            }
        )
        return saved

    def _recorded(self, saved: Saved | Unavailable) -> None:
        """Handle the outcome of a batch. Results that DynamoDB did not accept go to the end of the queue."""
        batch, self.saving = self.saving, []
        if isinstance(saved, Unavailable):
            self._why = str(saved)
            self._failures += 1
            self.unsaved += batch
        else:
            self._failures = 0
            for result in batch:
                if result.account_id in saved.lost:
                    _not_recorded(result, "its record in ListenKeysTable does not take the write")
                elif result.account_id in saved.superseded:
                    # Another run has recorded a later attempt, and that one counts.
                    result.outcome, result.error_code, result.error_message = Outcome.SKIPPED, None, None
        pause = min(FLUSH_PAUSE_CAP, FLUSH * 2**self._failures)
        self._next_flush = self._clock.monotonic() + pause

    def _announce(self, unannounced: dict[str, list[str]]) -> None:
        self._announced.update(unannounced)
        if not unannounced or not self._bus_works:
            return
        try:
            sent = self._announcer.send(unannounced)
            if len(sent) < len(unannounced):
                self._report.trouble.append(f"{len(unannounced) - len(sent)} accounts' changes not announced")
            self._sent.update(sent)
        except Unavailable as error:
            self._bus_works = False
            self._report.trouble.append(str(error))


def _not_recorded(result: Result, why: str) -> None:
    """Report a success as failed: readers of the record do not see it, and another run will repeat it."""
    if result.outcome in SUCCESSES:
        result.outcome, result.error_message = Outcome.FAILED, why
        result.error_code = ErrorCode.RECORD_UNAVAILABLE
