"""What the tests of the fault matrix share: accounts, readers of an invocation's output, row numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import pytest

from listenkeys.products import ENDPOINTS
from local.binance.exchange import Answer, Exchange
from local.clock import VirtualClock
from local.invoke import Invocation
from local.world import World

TICK = {"source": "aws.events", "detail-type": "Scheduled Event"}
SWEEP = {"overdueOnly": True}
# A run raises this if it leaves accounts for another try. Lambda counts it as an error and retries the event.
INCOMPLETE = "KeepaliveIncomplete"
# The most probes of a dead host that fit into a run: the waits double from 0.5 s up to 30 s, and each lasts
# at least half of that.
MOST_PROBES = 24
TWENTY = tuple(f"account{number:02}" for number in range(20))


class HookedExchange(Exchange):
    """A stand-in that calls `hook` with the API key before it answers. The hook may wait."""

    hook: Callable[[str], None] | None = None

    def handle(self, method: str, path: str, headers: Mapping[str, str], *where: str) -> Answer:
        if self.hook:
            self.hook(next((value for name, value in headers.items() if name.lower() == "x-mbx-apikey"), ""))
        return super().handle(method, path, headers, *where)


def rows_of(node: pytest.Item | pytest.Function) -> list[int]:
    """Return the numbers of the rows that a test is marked with."""
    return sorted({number for mark in node.iter_markers("row") for number in mark.args})


def api_key_of(name: str) -> str:
    """Return the API key of a test's account. It has the form of Binance's, and is easy to find in a leak."""
    return f"Canary{name}".ljust(64, "7")


def add_live(world: World, clock: VirtualClock, *names: str, minutes: float, **attributes: Any) -> None:
    """Add accounts with live, recorded keys, then let `minutes` pass, so that the keys are as old."""
    product = attributes.get("product", "usdm")
    for name in names:
        world.add_account(name, api_key_of(name), **attributes)
        answer = world.exchange.handle("POST", ENDPOINTS[product].path, {"X-MBX-APIKEY": api_key_of(name)})
        key = json.loads(answer.body)["listenKey"]
        world.put_current(name, key, clock.now(), product=product)
    clock.advance(minutes=minutes)
    world.exchange.requests.clear()


def kept(world: World, name: str, product: str = "usdm") -> bool:
    """Return whether the recorded key is the live one, and the recorded expiry is not too late."""
    current, key = world.current(name), api_key_of(name)
    live, expires_at = world.exchange.live_key(key, product), world.exchange.expires_at(key, product)
    if live is None or expires_at is None or current.get("listenKey") != live:
        return False
    return datetime.fromisoformat(current["expiresAt"]).timestamp() <= expires_at + 0.001  # it has ms only


def lines(done: Invocation) -> list[dict[str, Any]]:
    """Return the JSON lines that an invocation printed. Fails if it printed anything else."""
    return [json.loads(line) for line in done.output.splitlines()]


def metrics(done: Invocation) -> dict[str, float]:
    """Return the metrics that an invocation emitted, by name."""
    found: dict[str, float] = {}
    for line in lines(done):
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
            for metric in directive["Metrics"]:
                [found[metric["Name"]]] = line[metric["Name"]]
    return found


def summary(done: Invocation) -> dict[str, Any]:
    """Return the report that an invocation logged, even if it raised. The log leaves out the problems."""
    [report] = [line["report"] for line in lines(done) if line.get("message") == "run"]
    found: dict[str, Any] = report
    return found


def duration(done: Invocation) -> float:
    """Return the duration of a run in seconds, from the report that it logged."""
    return float(summary(done)["durationMs"]) / 1000


def raised(done: Invocation) -> str:
    """Return the name of the error that an invocation raised, or an empty string."""
    return type(done.error).__name__ if done.error else ""


def events(world: World, detail_type: str = "Listen Key Changed") -> list[dict[str, Any]]:
    """Return the details of the events of this type, oldest first."""
    return [sent["detail"] for sent in world.aws.sent_events() if sent["detail-type"] == detail_type]
