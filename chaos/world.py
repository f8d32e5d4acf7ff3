"""The world of a day: clock, AWS, Binance, accounts, the true state of their keys, and the story (a log)."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaos.accounts import ACCOUNTS, BY_KEY, Account, api_key_of
from chaos.plan import Plan
from chaos.timekeeper import SharedTime, Timekeeper
from chaos.wire import Upstream
from local.aws.stack import LocalAws
from local.binance.exchange import PATHS, Exchange
from local.binance.limits import WEIGHT_LIMITS
from local.world import World

# In the future, so that DynamoDB Local, which uses the real time, does not expire any item.
START = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


class ChaosWorld:
    """Everything that outlives a run. `parameters` are those of the stack.

    `ends` has the time at which each account's key really expires, and `died` when one ended early or was
    replaced: an earlier record of it is no longer true.
    """

    def __init__(self, seed: str, folder: Path, plan: Plan, parameters: Mapping[str, str]) -> None:
        self.seed, self.plan, self.parameters = seed, plan, parameters
        self.start = START
        self.shared = SharedTime.create(folder / "time", START)
        self.time_file = folder / "time"
        self.keeper = Timekeeper(self.shared)
        self.exchange = Exchange(now=self.keeper.now, seed=random.Random(f"{seed}/world").randrange(10**9))
        self.stack = contextlib.ExitStack()
        self.aws = self.stack.enter_context(LocalAws(dict(parameters)))
        self.local = World(binance_url="", aws=self.aws)
        self.story: list[tuple[float, str]] = []
        self.died: dict[str, float] = {}
        self.ends: dict[str, float] = {}
        self.secrets = {*BY_KEY}
        self.counts: Counter[str] = Counter()
        self._current: dict[str, dict[str, Any]] | None = None
        url = self.aws.dynamodb_url or self.aws.endpoint_url
        self.upstream = {"DynamoDB": Upstream(url), "": Upstream(self.aws.endpoint_url)}
        cap = int(parameters["MaxWeightPerMinute"])
        self.caps = {
            g: max(1, int(limit * cap / WEIGHT_LIMITS["futures"])) for g, limit in WEIGHT_LIMITS.items()
        }
        self.aws.reset()
        self._populate()

    def _populate(self) -> None:
        shared = {a.name: api_key_of(a.name) for a in ACCOUNTS if a.name.startswith("shared")}
        self.local.put_secret("listenkeys/shared", shared)
        for account in ACCOUNTS:
            key = api_key_of(account.name)
            if account.name != "refused":
                self.exchange.add_account(key)
            row: dict[str, Any] = {"product": account.product}
            if account.name in shared:
                row |= {"secretId": "listenkeys/shared", "secretField": account.name}
            else:
                self.local.put_secret(f"listenkeys/{account.name}", {"apiKey": key})
            if not account.creates:
                row["createIfMissing"] = False
            if account.name == "malformed":
                row["product"] = "spot"
            self.local.put_row(account.name, **row)
            if not account.creates:
                self.bot_makes(account)
        self.local.put_row("disabled", enabled=False)

    def bot_makes(self, account: Account) -> None:
        """Create a key as a bot does, for an account whose key the keeper may not create."""
        key = api_key_of(account.name)
        answer = self.exchange.handle("POST", PATHS[account.product], {"X-MBX-APIKEY": key})
        # Do not count the request: the bot has its own address.
        self.exchange._usage[account.group].weight[int(self.keeper.now() // 60)] -= 1
        self.lives(account)
        self.died[account.name] = self.keeper.now()  # an earlier record is no longer true
        self.secrets.add(json.loads(answer.body)["listenKey"])

    def lives(self, account: Account) -> None:
        ends = self.exchange.expires_at(api_key_of(account.name), account.product)
        if ends is not None:
            self.ends[account.name] = ends
            self.died.pop(account.name, None)

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append((self.keeper.now(), text))

    def current(self) -> dict[str, dict[str, Any]]:
        """Return all current records by account. They are read again only after `written`."""
        if self._current is None:
            self._current = self._read()
        return self._current

    def written(self) -> None:
        """Note that the table may have changed."""
        self._current = None

    def _read(self) -> dict[str, dict[str, Any]]:
        table = self.aws.outputs["ListenKeysTableName"]
        keys = [{"accountId": {"S": a.name}, "record": {"S": "CURRENT"}} for a in ACCOUNTS]
        found = self.aws.client("dynamodb").batch_get_item(
            RequestItems={table: {"Keys": keys, "ConsistentRead": True}}
        )
        items = [_plain_item(item) for item in found["Responses"][table]]
        return {item["accountId"]: item for item in items}

    def entries(self) -> dict[str, list[dict[str, Any]]]:
        """Return the whole ledger, by account."""
        table = self.aws.outputs["LedgerTableName"]
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for page in self.aws.client("dynamodb").get_paginator("scan").paginate(TableName=table):
            for item in map(_plain_item, page["Items"]):
                if item["record"] != "CURRENT" and not item["accountId"].startswith("#"):
                    found[item["accountId"]].append(item)
        for own in found.values():
            own.sort(key=lambda entry: entry["record"])
        return found

    def story_of(self, about: tuple[str, ...], until: float = float("inf"), most: int = 60) -> Iterator[str]:
        """Yield the last `most` lines of the story up to `until` that are relevant to a violation.

        `about` are the violation's words. If they name accounts, lines about other accounts are left out.
        """
        accounts = {account.name for account in ACCOUNTS}
        named = [word for word in about if word in accounts]
        lines = [
            (at, line)
            for at, line in self.story
            if at <= until
            and (
                not named or any(name in line for name in named) or not any(name in line for name in accounts)
            )
        ]
        for at, line in lines[-most:]:
            yield f"  {datetime.fromtimestamp(at, UTC):%d %H:%M:%S.%f}"[:-3] + f"  {line}"


def _plain_item(item: dict[str, Any]) -> dict[str, Any]:
    def plain(value: dict[str, Any]) -> Any:
        kind, content = next(iter(value.items()))
        if kind == "N":
            return int(content)
        return [plain(entry) for entry in content] if kind == "L" else content

    return {name: plain(value) for name, value in item.items()}
