"""ListenKeysTable as a bot reads it, and the URL that a listenKey opens. Reads only; needs boto3 alone."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore.exceptions import ClientError, NoRegionError

from listenkeys.aws.clients import AwsError, error_code

from .aws import client
from .report import report_expired

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient

log = logging.getLogger("listenkey_keeper.stream")

# The user data events in the documentation of USDⓈ-M futures (its SDK 18.0 has the same).
EVENTS = (
    "ORDER_TRADE_UPDATE", "TRADE_LITE", "ALGO_UPDATE", "CONDITIONAL_ORDER_TRIGGER_REJECT", "STRATEGY_UPDATE",
    "GRID_UPDATE", "ACCOUNT_UPDATE", "ACCOUNT_CONFIG_UPDATE", "MARGIN_CALL",
)  # fmt: skip
EXPIRED = "listenKeyExpired"
# "User Data Streams: Connect" of each product. Only USDⓈ-M takes `events`.
_URLS = {
    "usdm": ("wss://fstream.binance.com", "/private/ws?listenKey={key}&events={events}"),
    "coinm": ("wss://dstream.binance.com", "/ws/{key}"),
    "portfolio": ("wss://fstream.binance.com", "/pm/ws/{key}"),
    "portfolio-pro": ("wss://fstream.binance.com", "/pm-classic/ws/{key}"),
    "options": ("wss://fstream.binance.com", "/private/ws/{key}"),
}
# Asking again does not help: the table's name, the permission, the credentials or the host are wrong.
_HOPELESS = {
    "AccessDeniedException", "ExpiredTokenException", "IncompleteSignatureException",
    "InvalidSignatureException", "NoAuthTokenError", "NoCredentialsError", "NoRegionError", "NO_STREAM_URL",
    "PartialCredentialsError", "PendingAuthorizationExpiredError", "ResourceNotFoundException", "SSOError",
    "SSOTokenLoadError", "TokenRetrievalError", "UnauthorizedSSOTokenError", "UnrecognizedClientException",
    "ValidationException",
}  # fmt: skip
_NOTICEABLE = timedelta(seconds=2)
_SECOND = timedelta(seconds=1)
_WHAT = {
    "NO_KEY": "the table has none: the account is new, or its name is wrong",
    "NO_STREAM_URL": "it is kept at a host of which no websocket is known: set BinanceStreamUrl in the "
    "stack, or BINANCE_STREAM_URL here",
}


class _Reading(threading.local):
    now = False


_reading = _Reading()
# At DEBUG botocore logs each answer whole; those that hold a listenKey it keeps to itself.
logging.getLogger("botocore.parsers").addFilter(lambda _record: not _reading.now)


class ListenKeyUnavailable(Exception):
    """No listenKey can be read.

    `code` is AWS's error code, the name of the exception, or one of NO_KEY (the account is new, or its name
    is wrong), INVALID_RECORD and NO_STREAM_URL (the stack has a custom BinanceBaseUrl without
    BinanceStreamUrl). `retryable` tells whether trying again may help. `outcome` and `error_code` are those
    of the keeper's last attempt, if it has tried and there is no key.
    """

    def __init__(self, account: str, code: str, where: str, record: Mapping[str, Any]) -> None:
        why = f"{code}: {_WHAT[code]}" if code in _WHAT else code
        super().__init__(f"{account}: no listenKey can be read from {where} ({why})")
        self.code = code
        self.retryable = code not in _HOPELESS
        self.outcome, self.error_code = _text(record, "outcome"), _text(record, "errorCode")


@dataclass(frozen=True, slots=True)
class ListenKey:
    """A listenKey as it was recorded. Keep `key` and `url` secret: either is enough to listen.

    `expires_at` is 60 minutes after `renewed_at`, when the last successful request for it was sent; both are
    aware UTC. After `expires_at` the key is dead, or the keeper does not renew it. `outcome` is how the
    keeper's last attempt ended (EXTENDED, FAILED, REJECTED, ...), `error_code` its error if it failed.
    """

    account: str
    product: str
    key: str = field(repr=False)
    url: str = field(repr=False)
    renewed_at: datetime
    expires_at: datetime
    outcome: str | None = None
    error_code: str | None = None


class ListenKeys:
    """The recorded listenKeys of all accounts. May be shared by many streams and threads.

    `table` is the name of ListenKeysTable (the stack's output ListenKeysTableName), by default the
    environment's LISTEN_KEYS_TABLE. `dynamodb` is a boto3 client, by default one of the default session in
    the region that AWS_REGION, AWS_DEFAULT_REGION or the profile names.
    `base_url` replaces scheme and host of the websocket URLs, by default with the environment's
    BINANCE_STREAM_URL; without either they are what the record says: those of the account's environment.
    `events` are the names that a `usdm` URL asks for; listenKeyExpired is always added. The other products
    send every event. `eventbridge` is a boto3 client for `report_expired`, by default one of the default
    session for the table's region.

    `clock_offset` is how far this machine's clock is behind DynamoDB's (a timedelta, by the Date of its
    answers): zero as far as they do not say otherwise. `clock_error` is how far that may be wrong: about a
    second after the first answer, less after more of them.

    Raises ValueError without a table, without an AWS region, or for a `base_url` that is not a websocket's.
    """

    def __init__(
        self,
        table: str | None = None,
        *,
        dynamodb: DynamoDBClient | None = None,
        base_url: str | None = None,
        events: Collection[str] = EVENTS,
        eventbridge: EventBridgeClient | None = None,
    ) -> None:
        self._table = table or os.environ.get("LISTEN_KEYS_TABLE", "")
        if not self._table:
            raise ValueError("no table: pass its name, or set LISTEN_KEYS_TABLE")
        self._base_url = (base_url or os.environ.get("BINANCE_STREAM_URL", "")).rstrip("/")
        if self._base_url and not re.match(r"wss?://[^/]+", self._base_url):
            raise ValueError(f"not the URL of a websocket: {self._base_url}")
        self._events = "/".join(dict.fromkeys((*events, EXPIRED)))
        try:
            self._dynamodb = dynamodb or client("dynamodb")
        except NoRegionError:
            raise ValueError("no AWS region: set AWS_REGION") from None
        meta = getattr(self._dynamodb, "meta", None)
        self._region = str(getattr(meta, "region_name", "") or "")
        self._eventbridge = eventbridge
        self._making = threading.Lock()
        self.clock_offset, self.clock_error = timedelta(), _SECOND
        self._offset_between = timedelta.min, timedelta.max
        self._offset_noticed = False

    def read(self, account: str) -> ListenKey:
        """Return an account's listenKey, read consistently: one GetItem.

        Raises ListenKeyUnavailable. Takes up to some 10 s when DynamoDB does not answer, or as long as a
        client of your own does.
        """
        key: Any = {"accountId": {"S": account}, "record": {"S": "CURRENT"}}
        item: Any = {}
        answer: Any = {}
        code = "NO_KEY"
        _reading.now = True
        sent = _now()
        try:
            answer = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True)
            item = answer.get("Item", {})
        except (*AwsError, OSError, RuntimeError) as error:
            code = error_code(error)
            answer = error.response if isinstance(error, ClientError) else {}
        finally:
            _reading.now = False
        self._compare_clocks(answer, sent, _now())
        found: ListenKey | str = code
        if "listenKey" in item:
            found = self._listen_key(account, item)
        if isinstance(found, str):
            # Out of the `except`: botocore's own error would come along.
            where = f"the table {self._table}" + (f" in {self._region}" if self._region else "")
            raise ListenKeyUnavailable(account, found, where, item)
        return found

    def report_expired(self, account: str, listen_key: str) -> bool:
        """Tell the keeper that this key is dead: `listenkey_keeper.report_expired`."""
        with self._making:  # boto3's default session is not made for threads
            if self._eventbridge is None:
                self._eventbridge = client("events", region=self._region)
        return report_expired(account, listen_key, eventbridge=self._eventbridge)

    def _compare_clocks(self, answer: Mapping[str, Any], sent: datetime, received: datetime) -> None:
        try:
            date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            # It was between these two moments that the other clock showed this second.
            least, most = date - received, date + _SECOND - sent
        except (KeyError, TypeError, ValueError):
            return
        narrower = max(least, self._offset_between[0]), min(most, self._offset_between[1])
        if narrower[0] <= narrower[1]:  # or else the clock was set since
            least, most = narrower
        self._offset_between, self.clock_error = (least, most), most - least
        if least <= timedelta() <= most:
            self.clock_offset = timedelta()
        else:
            self.clock_offset = least + (most - least) / 2
        if abs(self.clock_offset) > _NOTICEABLE and not self._offset_noticed:
            self._offset_noticed = True
            log.warning(
                "this machine's clock is %.0f s %s AWS's: gaps are corrected by that; set it right (NTP)",
                abs(self.clock_offset.total_seconds()),
                "behind" if self.clock_offset > timedelta() else "ahead of",
            )

    def _listen_key(self, account: str, item: Any) -> ListenKey | str:
        """Return what an item says, or the code of what is wrong with it."""
        try:
            key, product = item["listenKey"]["S"], item["product"]["S"]
            host, path = _URLS[product]
            if not (base := self._base_url):
                # Records of before there was `environment` are all of Binance itself.
                older = "environment" not in item and "streamUrl" not in item
                base = host if older else item.get("streamUrl", {}).get("S", "").rstrip("/")
            if not base:
                return "NO_STREAM_URL"
            url = base + path.format(key=quote(key, safe=""), events=self._events)
            return ListenKey(
                account, product, key, url, _moment(item["renewedAt"]), _moment(item["expiresAt"]),
                _text(item, "outcome"), _text(item, "errorCode"),
            )  # fmt: skip
        except (KeyError, ValueError, OverflowError):
            return "INVALID_RECORD"


def read_listen_key(
    account: str,
    table: str | None = None,
    *,
    dynamodb: DynamoDBClient | None = None,
    base_url: str | None = None,
    events: Collection[str] = EVENTS,
) -> ListenKey:
    """Return an account's listenKey, its product, its URL and when it expires, for a socket of your own.

    Takes the arguments of ListenKeys and raises what it and `ListenKeys.read` raise. Without `dynamodb` each
    call makes a boto3 client; to read often, keep a ListenKeys.
    """
    return ListenKeys(table, dynamodb=dynamodb, base_url=base_url, events=events).read(account)


def _now() -> datetime:
    return datetime.now(UTC)


def _text(record: Mapping[str, Any], name: str) -> str | None:
    attribute = record.get(name)
    return attribute.get("S") if isinstance(attribute, dict) else None


def _moment(attribute: dict[str, str]) -> datetime:
    return datetime.fromisoformat(attribute["S"]).astimezone(UTC)
