"""One account's renewal: PUT, compare the key, POST if Binance forgot it. The module `send` says when."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from ..aws.credentials import ApiKey, Credentials
from ..binance.client import BinanceClient
from ..errors import AccountError, ErrorCode, ListenKeyNotFound, Rejected, Transient
from ..model import LEASE, Account, Current, Outcome, Result
from ..timing import CANNOT_WAIT, LAST_RUN


@dataclass(eq=False, slots=True)
class Renewal:
    """The renewal of one due account, until there is a result.

    `rank` is its place in the order; lower goes first. `dies_at` is the monotonic time at which a live key
    dies, NEVER if there is none to save. `wants_more`: the last request failed, but a different one may
    succeed.
    """

    rank: int
    account: Account
    before: Current
    credentials: Credentials
    now: Callable[[], datetime]
    dies_at: float
    dead: bool  # a bot says that Binance has ended the key
    api_key: ApiKey = field(init=False)
    attempts: int = 0
    started: float = 0.0  # when the last request was started, monotonic
    sent_at: datetime | None = None  # when the last request was sent
    error: AccountError | None = None  # the last, of a request or of reading the API key
    forgotten: bool = False  # Binance has no live key, and POST is to create one
    posting: bool = False  # the next request is POST
    posted: bool = False  # the last request was POST
    was_reread: bool = False
    wants_more: bool = False
    used_weight: int = 0  # what Binance says the IP address used in this minute

    @property
    def id(self) -> str:
        """The account's id."""
        return self.account.id

    def at_risk(self, now: float) -> bool:
        """Whether the key is alive, but may die before a later run can renew it."""
        return now < self.dies_at < now + LAST_RUN

    def dying(self, now: float) -> bool:
        """Whether the key may die while its run waits for another run's minute to end."""
        return now < self.dies_at < now + CANNOT_WAIT

    def send(self, binance: BinanceClient) -> Result | None:
        """Send the next request. Return the result, or None if another must follow. Raises AccountError."""
        endpoint = self.account.endpoint
        ask = binance.start if self.posting else binance.keepalive
        self.posted, self.wants_more, self.used_weight, self.sent_at = self.posting, False, 0, self.now()
        try:
            answer = ask(endpoint, self.api_key.value)
        except ListenKeyNotFound:
            self.wants_more = self.forgotten = self.posting = self.account.create_if_missing
            raise
        except Rejected as rejected:
            if rejected.code == ErrorCode.INVALID_API_KEY and not self.was_reread:
                # The secret may have been rotated since it was read.
                self.was_reread = True
                fresh = self.credentials.fetch([self.account]).keys[self.id]
                if isinstance(fresh, ApiKey) and fresh != self.api_key:
                    self.api_key, self.wants_more = fresh, True
            raise
        self.used_weight = answer.used_weight or 0
        if not answer.listen_key:
            # Some products answer {}: a key is alive, but only POST returns it. It creates none then.
            self.posting = True
            return None
        result = self.ended(Outcome.CREATED if self.forgotten else Outcome.EXTENDED, answer.sent_at)
        result.listen_key, result.stream_url = answer.listen_key, binance.stream_of(endpoint)
        result.expires_at, result.http_status = answer.sent_at + LEASE, 200
        result.against(self.before)
        return result

    def failure(self, to_record: bool = True) -> Result:
        """Return the result of a renewal that ended with its last error, or without any answer in time."""
        error = self.error or Transient(ErrorCode.TIMEOUT, "no answer before the run had to end")
        comes = isinstance(error, ListenKeyNotFound) and self.account.create_if_missing
        outcome = Outcome.FAILED if error.retryable or comes else Outcome.REJECTED
        return self.ended(outcome, to_record=to_record).explain(error, self.dead)

    def left(self, why: ErrorCode) -> Result:
        """Return an unfinished renewal's result: its failure if it was tried, else DEFERRED with `why`."""
        if self.attempts:
            return self.failure()
        result = self.ended(Outcome.DEFERRED, to_record=False)
        return result.explain(AccountError(why, "not tried in this run"))

    def ended(self, outcome: Outcome, at: datetime | None = None, to_record: bool = True) -> Result:
        """Return a result with this outcome, as of `at`, the last request or now."""
        at = at or self.sent_at or self.now()
        result = Result(self.id, self.account.product, outcome, at, self.before, to_record=to_record)
        result.attempts = self.attempts
        return result


def internal(bug: Exception) -> Transient:
    """Return an AccountError that says where a bug happened, without its message or any value."""
    frames = traceback.extract_tb(bug.__traceback__)[-4:]
    where = " < ".join(
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[::-1]
    )
    return Transient(
        ErrorCode.INTERNAL, f"a bug in listenkey-keeper, please report it: {type(bug).__name__} at {where}"
    )
