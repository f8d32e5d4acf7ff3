"""One account's renewal: PUT, compare the key, POST where Binance forgot it. One request at a time.

Decides what an answer means for the account; when to send is the lane's to say.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from .aws.accounts import Account
from .aws.credentials import ApiKey
from .aws.records import Current
from .binance.client import Answer, BinanceClient
from .errors import AccountError, ListenKeyNotFound, Rejected, Transient
from .report import Outcome, Result


@dataclass(slots=True)
class Renewal:
    """An account on its way from due to a result.

    `reread` fetches the account's API key once more, or returns the AccountError that prevents it.
    """

    account: Account
    before: Current
    api_key: ApiKey
    reread: Callable[[Account], ApiKey | AccountError]
    forgotten: bool = False
    posting: bool = False
    was_reread: bool = False
    trouble: AccountError | None = None

    def send(self, binance: BinanceClient) -> Result | None:
        """Send the next request; return the account's result, None when it takes one more request.

        Raises AccountError when it did not work out. A POST is the last request there is.
        """
        product, api_key, known = self.account.product, self.api_key.value, self.before.listen_key
        if self.posting:
            answer = binance.start(product, api_key)
            if self.forgotten and answer.listen_key != known:
                return self._result(Outcome.RECREATED if known else Outcome.CREATED, answer)
            return self._extended(answer)
        try:
            answer = binance.keepalive(product, api_key)
        except ListenKeyNotFound as not_found:
            if not self.account.create_if_missing:
                raise
            self.forgotten = self.posting = True
            self.trouble = not_found
            return None
        except Rejected as rejected:
            if rejected.code != "INVALID_API_KEY" or self.was_reread:
                raise
            # The secret may have been rotated since it was read.
            self.was_reread = True
            fresh = self.reread(self.account)
            if not isinstance(fresh, ApiKey) or fresh == self.api_key:
                raise
            self.api_key, self.trouble = fresh, rejected
            return None
        expires_at = self.before.expires_at
        if not answer.listen_key and not (known and expires_at and answer.sent_at < expires_at):
            # {}, as some products answer: only POST tells which key it is. A recorded key whose time is
            # over is hardly the one: a later run may have made another, and died before it recorded it.
            self.posting = True
            return None
        return self._extended(answer)

    def _extended(self, answer: Answer) -> Result:
        known = self.before.listen_key
        changed = answer.listen_key and known and answer.listen_key != known
        return self._result(Outcome.CHANGED if changed else Outcome.EXTENDED, answer)

    def _result(self, outcome: Outcome, answer: Answer) -> Result:
        result = Result(self.account.id, self.account.product, outcome, answer.sent_at, answer.listen_key)
        result.http_status, result.used_weight = 200, answer.used_weight or 0
        return result


def failure_of(renewal: Renewal, error: AccountError, at: datetime) -> Result:
    """Return the result of a renewal that an error ended."""
    if isinstance(error, ListenKeyNotFound):
        rejected = not renewal.account.create_if_missing
        hint = (
            ": createIfMissing is false, so none is made; start the stream, or set it to true"
            if rejected
            else ""
        )
        error = AccountError(error.code, error.message + hint, error.http_status)
        outcome = Outcome.REJECTED if rejected else Outcome.FAILED
    else:
        outcome = Outcome.FAILED if error.retryable else Outcome.REJECTED
    return Result(renewal.account.id, renewal.account.product, outcome, at).explain(error)


def internal(bug: Exception) -> Transient:
    """Return a bug as an AccountError: where it happened, never what it said or held."""
    frames = traceback.extract_tb(bug.__traceback__)[-4:]
    where = " < ".join(
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[::-1]
    )
    return Transient(
        "INTERNAL", f"a bug in listenkey-keeper, please report it: {type(bug).__name__} at {where}"
    )
