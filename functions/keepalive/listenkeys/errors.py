"""Everything that can go wrong. Messages are logged: none contains part of a request, a header or a page."""

from enum import StrEnum, auto


class ErrorCode(StrEnum):
    """Why an account was not renewed. Stable: records, reports, events and docs/reference.md use them."""

    @staticmethod
    def _generate_next_value_(name: str, *_: object) -> str:
        return name

    LISTEN_KEY_NOT_FOUND = auto()
    INVALID_API_KEY = auto()
    BAD_REQUEST = auto()
    RATE_LIMITED = auto()
    IP_BANNED = auto()
    WAF_BLOCKED = auto()
    RESTRICTED_LOCATION = auto()
    TIMEOUT = auto()
    CONNECTION = auto()
    SERVER_ERROR = auto()
    BAD_RESPONSE = auto()
    EXCHANGE_DOWN = auto()
    DEADLINE = auto()
    SECRET_NOT_FOUND = auto()
    SECRET_DENIED = auto()
    SECRET_INVALID = auto()
    SECRET_UNAVAILABLE = auto()
    INVALID_ACCOUNT = auto()
    ACCOUNT_NOT_FOUND = auto()
    ACCOUNT_DISABLED = auto()
    RECORD_UNAVAILABLE = auto()
    INTERNAL = auto()


class SettingsError(Exception):
    """An environment variable is missing or invalid: nothing runs."""


class InvalidEvent(Exception):
    """The event is not one of the documented ones: nothing is done."""


class KeepaliveIncomplete(Exception):
    """A run ended with work left that is worth another try."""


class Unavailable(Exception):
    """A call to AWS failed, and so did its retries."""


class AccountError(Exception):
    """Why one account was not renewed. `retryable`: another try may succeed without a person's help."""

    retryable = False

    def __init__(self, code: ErrorCode, message: str, http_status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = http_status


class Rejected(AccountError):
    """A person must correct the API key, its permissions, its IP addresses, the secret or the row."""


class ListenKeyNotFound(AccountError):
    """Binance has no live listenKey for the account (HTTP 400, code -1125)."""


class Transient(AccountError):
    """Worth another try: a timeout, a broken connection, a 5xx, an answer that makes no sense."""

    retryable = True


class Refused(Transient):
    """Binance refuses all requests from this IP address for now: 418 or 451."""


class Blocked(Refused):
    """403: Binance's firewall refused this request, or everything from this address."""


class RateLimited(Refused):
    """429, or code -1003. `retry_after` is in seconds, None if the answer has no usable value."""

    def __init__(self, message: str, retry_after: float | None, http_status: int = 429) -> None:
        super().__init__(ErrorCode.RATE_LIMITED, message, http_status)
        self.retry_after = retry_after
