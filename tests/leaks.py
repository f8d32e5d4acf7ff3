"""Searches everything that the function prints, returns, stores or sends for API keys and listenKeys."""

import json
import re
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID

from local.aws.stack import REGION
from local.clock import VirtualClock
from local.invoke import Context, Invocation, LocalFunction
from local.world import World

# Even if a secret is escaped in JSON or cut into pieces, its long runs of letters and digits are unchanged.
_RUN = re.compile(r"[A-Za-z0-9]{12,}")


def search(secrets: Iterable[str], texts: Iterable[str]) -> None:
    """Fail if one of the texts contains a secret or a long part of one."""
    runs = {run for secret in secrets for run in _RUN.findall(secret)}
    for text in texts:
        for run in runs:
            assert run not in text, f"{run[:6]}... is in {text[:200]!r}"


def texts_of(error: BaseException | None) -> Iterator[str]:
    """Yield an exception's texts, attributes and traceback, and those of its causes and contexts."""
    waiting, seen = [error], set()
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield from (str(link), repr(link), repr(link.args), repr(vars(link)))
        yield "".join(traceback.format_exception(link))
        waiting += [link.__cause__, link.__context__]


def _backend(service: str) -> Any:
    return get_backend(service)[DEFAULT_ACCOUNT_ID][REGION]  # type: ignore[call-overload]


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for item in content.values() if isinstance(content, dict) else content:
            yield from _strings(item)


class WatchedFunction(LocalFunction):
    """The function in a world. Each invocation is searched; `search_world` searches what it has stored."""

    def __init__(self, world: World, clock: VirtualClock, **variables: str) -> None:
        super().__init__({**world.environment(), **variables}, clock.clock)
        self.world = world
        self.secrets: set[str] = set()

    def invoke(
        self, event: Any, context: Context | None = None, handler: str = "lambda_handler"
    ) -> Invocation:
        self._learn()
        done = super().invoke(event, context, handler)
        self._learn()
        search(self.secrets, [done.output, json.dumps(done.report), *texts_of(done.error)])
        return done

    def search_world(self, *texts: str) -> None:
        """Search the tables except the attribute listenKey, the events, the dead letters and these texts."""
        self._learn()
        search(self.secrets, [*texts, *map(json.dumps, self.world.aws.sent_events())])
        for item in self._items():
            stored = {name: value for name, value in item.items() if name != "listenKey"}
            search(self.secrets, [json.dumps(stored, default=str)])
        for queue in _backend("sqs").queues.values():
            search(self.secrets, [message.body for message in queue._messages])

    def _items(self) -> Iterator[dict[str, Any]]:
        """Yield every stored item in DynamoDB's notation."""
        for table in ("AccountsTable", "ListenKeysTable", "LedgerTable"):
            yield from self.world.aws.items(table)

    def _learn(self) -> None:
        """Note the secrets that the world has now: it forgets those that expire or are revoked."""
        for item in self._items():
            if "listenKey" in item:
                self.secrets.add(str(next(iter(item["listenKey"].values()))))
        for secret in _backend("secretsmanager").secrets.values():
            for version in secret.versions.values():
                text = version.get("secret_string") or ""
                try:
                    self.secrets.update(_strings(json.loads(text)))
                except (ValueError, RecursionError):
                    self.secrets.add(text)
        if self.world.binance:
            exchange = self.world.exchange
            self.secrets.update(exchange._accounts)
            self.secrets.update(lease.listen_key for lease in exchange._leases.values())
            self.secrets.update(request.api_key for request in exchange.requests if request.api_key)
