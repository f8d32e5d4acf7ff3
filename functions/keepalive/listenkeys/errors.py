"""Everything that can go wrong, named.

    KeeperError
    ├── SettingsError            the environment is incomplete or makes no sense: nothing runs
    ├── InvalidEvent             the event is not one of those documented: nothing is done
    ├── KeepaliveIncomplete      a run ended with something left that is worth another try
    ├── Unavailable              an AWS service did not answer, after its retries
    └── AccountError             one account's trouble: `code`, `retryable`, `http_status`
        ├── Rejected             needs a person: key, permission, address, secret or row
        ├── ListenKeyNotFound    Binance has no live listenKey for the account (-1125)
        ├── Transient            worth another try, soon
        └── HostRefused          the host wants nothing more from this address for now
            └── RateLimited      429: it says for how long

Messages are written here or from checked parts, never from a request, a header or a page of HTML:
they end in logs, records and dead letters, and an API key or a listenKey must not.
"""


class KeeperError(Exception):
    """Base of every error this program raises on purpose."""


class SettingsError(KeeperError):
    """The environment is incomplete or makes no sense."""


class InvalidEvent(KeeperError):
    """The event is not one that the function understands."""


class KeepaliveIncomplete(KeeperError):
    """A run ended with something left that is worth another try."""


class Unavailable(KeeperError):
    """An AWS service did not answer, after its retries."""


class AccountError(KeeperError):
    """One account's trouble.

    `code` is stable and documented, `retryable` says whether another try may help without a
    person, `http_status` is Binance's status where there was an answer.
    """

    retryable = False

    def __init__(self, code: str, message: str, http_status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = http_status


class Rejected(AccountError):
    """Needs a person: the key, its permissions, its addresses, the secret or the row."""


class ListenKeyNotFound(AccountError):
    """Binance has no live listenKey for the account (HTTP 400, code -1125)."""


class Transient(AccountError):
    """Worth another try: a timeout, a broken connection, a 5xx, an answer that makes no sense."""

    retryable = True


class HostRefused(AccountError):
    """The host wants nothing more from this address for now: 403, 418 or 451."""

    retryable = True


class RateLimited(HostRefused):
    """429, or code -1003. `retry_after` is in seconds, None where the answer gave nothing usable."""

    def __init__(self, message: str, retry_after: float | None, http_status: int = 429) -> None:
        super().__init__("RATE_LIMITED", message, http_status)
        self.retry_after = retry_after
