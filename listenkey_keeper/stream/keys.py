"""Reads listenKeys from ListenKeysTable and builds their websocket URLs. Never writes; needs only boto3."""

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

# The user data events in the documentation of USDⓈ-M futures (Binance's SDK 18.0 has the same).
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
# Errors that retrying does not fix: the table's name, the permission, the credentials or the host is wrong.
_HOPELESS = {
    "AccessDenied", "AccessDeniedException", "ExpiredTokenException", "IncompleteSignatureException",
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
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
}


class _Reading(threading.local):
    now = False


_reading = _Reading()
# At DEBUG botocore logs every answer in full. The filter drops those that contain a listenKey.
logging.getLogger("botocore.parsers").addFilter(lambda _record: not _reading.now)


class ListenKeyUnavailable(Exception):
    """No listenKey can be read.

    `code` is AWS's error code, the name of the botocore or network exception, or one of:

    NO_KEY           the table has no key of this account: it is new, its name is wrong, or the keeper cannot
                     create one (`error_code`)
    INVALID_RECORD   the account's record cannot be understood
    NO_STREAM_URL    the stack has a custom BinanceBaseUrl without BinanceStreamUrl

    `retryable` is whether trying again may help. `outcome` and `error_code` are those of the keeper's last
    attempt, or None if unknown.
    """

    def __init__(self, account: str, code: str, where: str, record: Mapping[str, Any]) -> None:
        self.code = code
        self.retryable = code not in _HOPELESS
        self.outcome, self.error_code = _text(record, "outcome"), _text(record, "errorCode")
        why = f"{code}: {_WHAT[code]}" if code in _WHAT else code
        if code == "NO_KEY" and self.error_code:
            why = f"{code}: the keeper could not create one: {self.error_code}"
        super().__init__(f"{account}: no listenKey can be read from {where} ({why})")


@dataclass(frozen=True, slots=True)
class ListenKey:
    """A listenKey as recorded in the table.

    `key` is the listenKey, and `url` the wss:// URL that it opens. Keep both secret: either is enough to
    receive the account's events. `product` is "usdm", "coinm", "portfolio", "portfolio-pro" or "options".

    `renewed_at` is when the last successful request for the key was sent, and `expires_at` is 60 minutes
    later (both aware UTC). If `expires_at` has passed, the keeper has not renewed the key: treat it as dead.
    If `error_code` is LISTEN_KEY_NOT_FOUND, Binance has said that it is dead. `outcome` is how the keeper's
    last attempt ended (EXTENDED, FAILED, REJECTED, ...), `error_code` its error if it failed.
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
    """The recorded listenKeys of all accounts. Many streams and threads may share one object.

    table         the name of ListenKeysTable (the stack's output ListenKeysTableName); by default the
                  environment variable LISTEN_KEYS_TABLE
    dynamodb      a boto3 client; by default one of the default session, for the region in AWS_REGION,
                  AWS_DEFAULT_REGION or the profile
    base_url      replaces scheme and host of the websocket URLs; by default the environment variable
                  BINANCE_STREAM_URL. If neither is set, they come from the account's record.
    events        the names of the events to ask for (only `usdm`; the other products send every event);
                  listenKeyExpired is always added
    eventbridge   a boto3 client for `report_expired`; by default one of the default session, for the table's
                  region

    `clock_offset` (timedelta) is how far this machine's clock is behind DynamoDB's, measured with the Date
    header of its answers. It is negative if this clock is ahead, and zero while no answer shows a difference.
    `clock_error` (timedelta) is how far that may be wrong: about a second after the first answer, less later.

    Raises ValueError without a table, without an AWS region, or if `base_url` is not the URL of a websocket.
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
        """Return an account's listenKey, with one consistent GetItem.

        Raises ListenKeyUnavailable. Blocks for up to about 10 s if DynamoDB does not answer; a client of your
        own has its own timeouts.
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
            # Outside the `except`, so that botocore's error does not become its context.
            where = f"the table {self._table}" + (f" in {self._region}" if self._region else "")
            raise ListenKeyUnavailable(account, found, where, item)
        return found

    def report_expired(self, account: str, listen_key: str, *, dead: bool = False) -> bool:
        """Tell the keeper that this key may be dead, as `listenkey_keeper.report_expired` does."""
        with self._making:  # boto3's default session is not thread-safe
            if self._eventbridge is None:
                self._eventbridge = client("events", region=self._region)
        return report_expired(account, listen_key, dead=dead, eventbridge=self._eventbridge)

    def _compare_clocks(self, answer: Mapping[str, Any], sent: datetime, received: datetime) -> None:
        try:
            date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
            # The other clock showed this second at some moment between these two.
            least, most = date - received, date + _SECOND - sent
        except (KeyError, TypeError, ValueError):
            return
        narrower = max(least, self._offset_between[0]), min(most, self._offset_between[1])
        if narrower[0] <= narrower[1]:  # if not, a clock was set since the last answer
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
        """Return the ListenKey that an item describes, or an error code: NO_STREAM_URL or INVALID_RECORD."""
        try:
            key, product = item["listenKey"]["S"], item["product"]["S"]
            host, path = _URLS[product]
            if not (base := self._base_url):
                # Records without `environment` are older than that attribute, and all are of Binance itself.
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
    """Return an account's listenKey, its product, its URL and when it expires, for a websocket of your own.

    Takes the arguments of ListenKeys. Raises ValueError as ListenKeys does, and ListenKeyUnavailable. If
    `dynamodb` is None, each call makes a new boto3 client: to read often, keep a ListenKeys instead.
    """
    return ListenKeys(table, dynamodb=dynamodb, base_url=base_url, events=events).read(account)


def _now() -> datetime:
    return datetime.now(UTC)


def _text(record: Mapping[str, Any], name: str) -> str | None:
    attribute = record.get(name)
    return attribute.get("S") if isinstance(attribute, dict) else None


def _moment(attribute: dict[str, str]) -> datetime:
    return datetime.fromisoformat(attribute["S"]).astimezone(UTC)
