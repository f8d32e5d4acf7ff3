"""AWS from template.yaml and a Binance stand-in, with accounts, on one machine.

Used by `make run`, `make up` and the tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Self

from listenkeys.aws.record_items import key_of
from listenkeys.model import LEASE, iso
from local.aws.stack import LocalAws
from local.binance.exchange import Exchange
from local.binance.server import BinanceServer
from local.binance.stream import StreamServer
from local.clock import ScaledClock

MAKING = "creating AWS from template.yaml and a Binance stand-in on this machine"
# The environment variable with the base URL of the websockets; empty if the world does not serve them.
STREAM_URL = "BINANCE_STREAM_URL"
# API keys that the stand-in accepts and no account has yet, for the user to try out.
SPARE_KEYS = [f"sparekey{number:02}" for number in range(1, 1000)]


class World:
    """The deployed template and the stand-in.

    With a `binance_url` there is no stand-in: the function calls that host, or Binance itself if it is "".
    With `streams`, the stand-in also serves websockets. A world that is given an `aws` resets it at the end;
    otherwise it makes and closes its own.
    """

    def __init__(
        self,
        binance_url: str | None = None,
        exchange: Exchange | None = None,
        aws: LocalAws | None = None,
        streams: bool = False,
    ) -> None:
        self.binance = BinanceServer(exchange) if binance_url is None else None
        self.streams = StreamServer(self.binance.exchange) if self.binance and streams else None
        self.binance_url = self.binance.url if self.binance else str(binance_url)
        self._own_aws = aws is None
        self.stream_url = self.streams.url if self.streams else ""
        self.aws = aws or LocalAws({"BinanceBaseUrl": self.binance_url, "BinanceStreamUrl": self.stream_url})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop every server. An `aws` that was passed in is reset, not stopped."""
        if self.streams:
            self.streams.stop()
        if self.binance:
            self.binance.stop()
        if self._own_aws:
            self.aws.close()
        else:
            self.aws.reset()

    @property
    def exchange(self) -> Exchange:
        """The engine of the stand-in. Fails if the world uses another Binance."""
        assert self.binance, "this world uses another Binance"
        return self.binance.exchange

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process that runs the function in this world."""
        urls = {"BINANCE_BASE_URL": self.binance_url, STREAM_URL: self.stream_url}
        return {**self.aws.environment(), **urls}

    def put_row(self, account_id: str, **attributes: Any) -> None:
        """Write a row of AccountsTable. Attributes are strings, booleans or values in DynamoDB's notation."""
        item = {name: _attribute(value) for name, value in {"accountId": account_id, **attributes}.items()}
        self.aws.client("dynamodb").put_item(TableName=self.aws.outputs["AccountsTableName"], Item=item)

    def put_secret(self, name: str, content: Any) -> None:
        """Write a secret, or a new version of it. Content other than a string is stored as JSON."""
        text = content if isinstance(content, str) else json.dumps(content)
        client = self.aws.client("secretsmanager")
        try:
            client.create_secret(Name=name, SecretString=text)
        except client.exceptions.ResourceExistsException:
            client.put_secret_value(SecretId=name, SecretString=text)

    def add_account(self, account_id: str, api_key: str, known: bool = True, **attributes: Any) -> None:
        """Add an account: its row, its secret and, if `known`, its API key at the stand-in."""
        if known and self.binance:
            self.exchange.add_account(api_key)
        prefix = self.aws.parameters["SecretPrefix"]
        self.put_secret(attributes.get("secretId", f"{prefix}/{account_id}"), {"apiKey": api_key})
        self.put_row(account_id, **attributes)

    def put_current(self, account_id: str, listen_key: str, renewed_at: datetime, **attributes: Any) -> None:
        """Write a current record as the function does when it has extended the key at `renewed_at`.

        `attributes` replaces or adds attributes; None leaves one out.
        """
        renewed, expires = iso(renewed_at), iso(renewed_at + LEASE)
        record = {
            "accountId": account_id, "record": "CURRENT", "listenKey": listen_key, "product": "usdm",
            "outcome": "EXTENDED", "attemptedAt": renewed, "renewedAt": renewed, "expiresAt": expires,
            "listenKeyChangedAt": renewed, "consecutiveFailures": {"N": "0"}, "runId": "earlier",
            **attributes,
        }  # fmt: skip
        item = {name: _attribute(value) for name, value in record.items() if value is not None}
        self.aws.client("dynamodb").put_item(TableName=self.aws.outputs["ListenKeysTableName"], Item=item)

    def records(self, account_id: str) -> list[dict[str, Any]]:
        """Return an account's records: the ledger, oldest first, then the current record if there is one."""
        current = self.current(account_id)
        return self.ledger(account_id) + ([current] if current else [])

    def all_records(self) -> Iterator[dict[str, Any]]:
        """Yield every item of ListenKeysTable and LedgerTable."""
        scan = self.aws.client("dynamodb").get_paginator("scan")
        for table in ("ListenKeysTableName", "LedgerTableName"):
            for page in scan.paginate(TableName=self.aws.outputs[table]):
                for item in page["Items"]:
                    yield {name: _plain(value) for name, value in item.items()}

    def current(self, account_id: str) -> dict[str, Any]:
        """Return an account's current record, or an empty dict if there is none."""
        answer = self.aws.client("dynamodb").get_item(
            TableName=self.aws.outputs["ListenKeysTableName"], Key=key_of(account_id), ConsistentRead=True
        )
        return {name: _plain(value) for name, value in answer.get("Item", {}).items()}

    def ledger(self, account_id: str) -> list[dict[str, Any]]:
        """Return an account's ledger, oldest first."""
        answer = self.aws.client("dynamodb").query(
            TableName=self.aws.outputs["LedgerTableName"],
            KeyConditionExpression="accountId = :id",
            ExpressionAttributeValues={":id": {"S": account_id}},
        )
        return [{name: _plain(value) for name, value in item.items()} for item in answer["Items"]]

    def add_demo_accounts(self, now: datetime) -> None:
        """Add alice (a live key), bob (no key), carol (a key that Binance forgot), dave (a bad API key)."""
        earlier = now - timedelta(minutes=34)
        for name in ("alice", "bob", "carol"):
            self.add_account(name, f"demo{name}".ljust(64, "0"))
        self.add_account("dave", "demodave".ljust(64, "0"), known=False)
        for api_key in SPARE_KEYS:
            self.exchange.add_account(api_key)
        headers = {"X-MBX-APIKEY": "demoalice".ljust(64, "0")}
        answer = self.exchange.handle("POST", "/fapi/v1/listenKey", headers)
        url = self.stream_url
        self.put_current("alice", json.loads(answer.body)["listenKey"], earlier, streamUrl=url)
        forgotten = earlier - timedelta(minutes=40)
        self.put_current("carol", "forgotten".ljust(64, "0"), forgotten, streamUrl=url)


def demo_world(clock: ScaledClock | None = None) -> World:
    """Make a world with the demo accounts and the stand-in's websockets."""
    clock = clock or ScaledClock()
    world = World(exchange=Exchange(now=clock.timestamp), streams=True)
    world.add_demo_accounts(clock.now())
    return world


def _attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}
    return {"S": value} if isinstance(value, str) else value


def _plain(value: dict[str, Any]) -> Any:
    kind, content = next(iter(value.items()))
    if kind == "N":
        return int(content)
    return [_plain(item) for item in content] if kind == "L" else content
