"""One account's renewal: PUT, compare the key, POST where Binance forgot it. `send` decides when."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..aws.credentials import ApiKey
from ..binance.answers import Answer
from ..errors import AccountError, ErrorCode, ListenKeyNotFound, Rejected, Transient
from ..model import LEASE, Account, Current, Outcome, Result
from ..timing import CANNOT_WAIT, LAST_RUN, NEVER

if TYPE_CHECKING:
    from ..binance.client import BinanceClient


@dataclass(eq=False, slots=True)
class Renewal:
    """An account on its way from due to a result.

    `reread` fetches the account's API key once more, or returns the AccountError that prevents it.
    `rank` is its place in the order; lower goes first. `dies_at` is the monotonic time at which a live key
    dies, NEVER where there is none to save. `wants_more`: the last request failed, and a different one may
    succeed.
    """

    rank: int
    account: Account
    before: Current
    api_key: ApiKey
    reread: Callable[[Account], ApiKey | AccountError]
    now: Callable[[], datetime]
    dies_at: float = NEVER
    attempts: int = 0
    started: float = 0.0  # the last request, monotonic
    sent_at: datetime | None = None  # the last request
    error: AccountError | None = None  # the last one
    forgotten: bool = False
    posting: bool = False
    was_reread: bool = False
    wants_more: bool = False
    stream_url: str = ""
    used_weight: int = 0  # what Binance says the IP address used in this minute

    @property
    def id(self) -> str:
        """The account's id."""
        return self.account.id

    def at_risk(self, now: float) -> bool:
        """Whether there is a key to save, and later runs may come too late."""
        return now < self.dies_at < now + LAST_RUN

    def dying(self, now: float) -> bool:
        """Whether a key would die while its run waits for another run's minute to end."""
        return now < self.dies_at < now + CANNOT_WAIT

    def send(self, binance: "BinanceClient") -> Result | None:
        """Send the next request; return the result, None if it takes one more. Raises AccountError."""
        endpoint, api_key, known = self.account.endpoint, self.api_key.value, self.before.listen_key
        self.wants_more, self.sent_at, self.stream_url = False, self.now(), binance.stream_of(endpoint)
        if self.posting:
            answer = self._answered(binance.start(endpoint, api_key))
            if self.forgotten and answer.listen_key != known:
                return self._result(Outcome.RECREATED if known else Outcome.CREATED, answer)
            return self._extended(answer)
        try:
            answer = self._answered(binance.keepalive(endpoint, api_key))
        except ListenKeyNotFound:
            self.wants_more = self.forgotten = self.posting = self.account.create_if_missing
            raise
        except Rejected as rejected:
            if rejected.code == ErrorCode.INVALID_API_KEY and not self.was_reread:
                # The secret may have been rotated since it was read.
                self.was_reread = True
                fresh = self.reread(self.account)
                if isinstance(fresh, ApiKey) and fresh != self.api_key:
                    self.api_key, self.wants_more = fresh, True
            raise
        if not answer.listen_key:
            # {}, as some products answer: a key is alive, and only POST says which. It creates none then.
            self.posting = True
            return None
        return self._extended(answer)

    def failure(self) -> Result:
        """Return the result of a renewal that its last error ended; without one, no answer came in time."""
        error = self.error or Transient(ErrorCode.TIMEOUT, "no answer before the run had to end")
        outcome = Outcome.FAILED if error.retryable else Outcome.REJECTED
        message = error.message
        if isinstance(error, ListenKeyNotFound) and self.account.create_if_missing:
            outcome = Outcome.FAILED
        elif isinstance(error, ListenKeyNotFound):
            message += ": createIfMissing is false, so none is made; start the stream, or set it to true"
        return self._ended(outcome).explain(AccountError(error.code, message, error.http_status))

    def left(self, why: ErrorCode) -> Result:
        """Return the result of a renewal that the run ended for lack of time or because Binance refuses."""
        if self.attempts:
            return self.failure()
        return self._ended(Outcome.DEFERRED, to_record=False).explain(AccountError(why, _NOT_ATTEMPTED[why]))

    def skipped(self) -> Result:
        """Return the result of a renewal that another run has done, or is doing."""
        return self._ended(Outcome.SKIPPED, to_record=False)

    def _ended(self, outcome: Outcome, to_record: bool = True) -> Result:
        at = self.sent_at or self.now()
        return Result(self.id, self.account.product, outcome, at, self.before, to_record=to_record)

    def _answered(self, answer: Answer) -> Answer:
        self.used_weight = answer.used_weight or 0
        return answer

    def _extended(self, answer: Answer) -> Result:
        known = self.before.listen_key
        return self._result(
            Outcome.CHANGED if known and answer.listen_key != known else Outcome.EXTENDED, answer
        )

    def _result(self, outcome: Outcome, answer: Answer) -> Result:
        result = Result(
            self.account.id, self.account.product, outcome, answer.sent_at, self.before, answer.listen_key
        )
        result.stream_url = self.stream_url
        result.expires_at = answer.sent_at + LEASE
        result.http_status, result.used_weight = 200, self.used_weight
        return result


_NOT_ATTEMPTED = {
    ErrorCode.RATE_LIMITED: "not attempted in this run: Binance's rate limit for this IP address is reached",
    ErrorCode.IP_BANNED: "not attempted in this run: Binance has banned this IP address for a while",
    ErrorCode.WAF_BLOCKED: "not attempted in this run: Binance's firewall blocks this IP address",
    ErrorCode.RESTRICTED_LOCATION: "not attempted in this run: Binance does not serve this location",
    ErrorCode.EXCHANGE_DOWN: "not attempted in this run: Binance has not been answering",
    ErrorCode.DEADLINE: "not attempted in this run: it ran out of time",
}


def internal(bug: Exception) -> Transient:
    """Return a bug as an AccountError: where it happened, never what it said or held."""
    frames = traceback.extract_tb(bug.__traceback__)[-4:]
    where = " < ".join(
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[::-1]
    )
    return Transient(
        ErrorCode.INTERNAL,
        f"a bug in listenkey-keeper, please report it: {type(bug).__name__} at {where}",
    )
