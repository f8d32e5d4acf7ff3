"""ListenKeysTable as a bot reads it, and the URL that a listenKey opens. Reads only; needs boto3 alone."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3

from listenkeys.aws.calls import CLIENT_CONFIG, AwsError, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

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
# Asking again does not help: the table's name, the permission or the credentials are wrong.
_HOPELESS = {
    "AccessDeniedException", "ExpiredTokenException", "IncompleteSignatureException",
    "InvalidSignatureException", "NoCredentialsError", "PartialCredentialsError",
    "ResourceNotFoundException", "UnrecognizedClientException", "ValidationException",
}  # fmt: skip


class _Reading(threading.local):
    now = False


_reading = _Reading()
# At DEBUG botocore logs each answer whole; those that hold a listenKey it keeps to itself.
logging.getLogger("botocore.parsers").addFilter(lambda _record: not _reading.now)


class ListenKeyUnavailable(Exception):
    """No listenKey can be read.

    `code` is AWS's error code, the name of botocore's exception, or one of NO_KEY (the account is new, or its
    name is wrong) and INVALID_RECORD. `retryable` tells whether asking again may help.
    """

    def __init__(self, account: str, code: str) -> None:
        super().__init__(f"{account}: no listenKey can be read ({code})")
        self.code = code
        self.retryable = code not in _HOPELESS


@dataclass(frozen=True, slots=True)
class ListenKey:
    """A listenKey as it was recorded. Keep `key` and `url` secret: either is enough to listen.

    `expires_at` is 60 minutes after `renewed_at`, when the last successful request for it was sent; both are
    aware UTC. Past `expires_at` the key is dead, or nobody keeps it alive.
    """

    account: str
    product: str
    key: str = field(repr=False)
    url: str = field(repr=False)
    renewed_at: datetime
    expires_at: datetime


class ListenKeys:
    """The recorded listenKeys of all accounts. May be shared by many streams and threads.

    `table` is the name of ListenKeysTable (the stack's output ListenKeysTableName), by default the
    environment's LISTEN_KEYS_TABLE. `dynamodb` is a boto3 client, by default one of the default session.
    `base_url` replaces scheme and host of the websocket URLs: a testnet's, or a stand-in's; by default the
    environment's BINANCE_STREAM_URL, or else Binance itself. `events` are the names that a `usdm` URL asks
    for; listenKeyExpired is always added. The other products send every event.

    Raises ValueError without a table, or for a `base_url` that is no websocket's.
    """

    def __init__(
        self,
        table: str | None = None,
        *,
        dynamodb: DynamoDBClient | None = None,
        base_url: str | None = None,
        events: Collection[str] = EVENTS,
    ) -> None:
        self._table = table or os.environ.get("LISTEN_KEYS_TABLE", "")
        if not self._table:
            raise ValueError("no table: pass its name, or set LISTEN_KEYS_TABLE")
        self._base_url = (base_url or os.environ.get("BINANCE_STREAM_URL", "")).rstrip("/")
        if self._base_url and not re.match(r"wss?://[^/]+", self._base_url):
            raise ValueError(f"not the URL of a websocket: {self._base_url}")
        self._events = "/".join(dict.fromkeys((*events, EXPIRED)))
        self._dynamodb = dynamodb or boto3.client("dynamodb", config=CLIENT_CONFIG)

    def read(self, account: str) -> ListenKey:
        """Return an account's listenKey, read consistently: one GetItem.

        Raises ListenKeyUnavailable. Takes up to some 20 s when DynamoDB does not answer.
        """
        key: Any = {"accountId": {"S": account}, "record": {"S": "CURRENT"}}
        item: Any = {}
        code = "NO_KEY"
        _reading.now = True
        try:
            answer = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True)
            item = answer.get("Item", {})
        except AwsError as error:
            code = error_code(error)
        finally:
            _reading.now = False
        if "listenKey" not in item:
            # Out of the `except`: botocore's own error would come along.
            raise ListenKeyUnavailable(account, code)
        found = self._listen_key(account, item)
        if found is None:
            raise ListenKeyUnavailable(account, "INVALID_RECORD")
        return found

    def _listen_key(self, account: str, item: Any) -> ListenKey | None:
        try:
            key, product = item["listenKey"]["S"], item["product"]["S"]
            host, path = _URLS[product]
            url = (self._base_url or host) + path.format(key=quote(key, safe=""), events=self._events)
            return ListenKey(
                account, product, key, url, _moment(item["renewedAt"]), _moment(item["expiresAt"])
            )
        except (KeyError, TypeError, ValueError):
            return None


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


def _moment(attribute: dict[str, str]) -> datetime:
    return datetime.fromisoformat(attribute["S"]).astimezone(UTC)
