"""A day with ten bots, whose sockets close or go silent and whose keys die early."""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from chaos.accounts import ACCOUNTS, Account, api_key_of
from chaos.day import Day
from chaos.handler import Process
from chaos.plan import HOUR, MINUTE
from chaos.rules import Violation
from chaos.traffic import Call
from chaos.wire import Request, Wire, answer
from chaos.world import START
from local.binance.stream import StreamServer
from tests.stream.relay import Network

NUMBER = -1  # the number of the bots' process
KNOWN = 25.0  # seconds within which a bot that receives nothing must know it
READS_AGAIN = 60.0  # seconds within which a stream notices that the table has another key
_SPARE = 5.0  # seconds at the end of the day in which an event may still be on its way
LISTENING = [
    *(f"own{n:02}" for n in range(5)), "shared0", "coin0", "coin1", "portfolio0", "options0",
]  # fmt: skip


class Audience(Day):
    """A day in which bots listen from the third minute on."""

    def __init__(self, seed: str, hours: float, folder: Path) -> None:
        super().__init__(seed, hours, folder)
        self.streams = StreamServer(self.world.exchange)
        self.world.stack.callback(self.streams.stop)
        self.networks = {name: Network(self.streams.port) for name in LISTENING}
        for network in self.networks.values():
            self.world.stack.callback(network.close)
        self.by_name = {account.name: account for account in ACCOUNTS}
        self.calls = 0
        self.asked: list[dict[str, Any]] = []  # reports of the bots to the keeper that are not yet delivered
        self.orders: list[tuple[float, str, int]] = []
        self.items: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def _schedule(self) -> None:
        super()._schedule()
        rng, end = random.Random(f"{self.seed}/bots"), START + self.hours * HOUR
        self.at(START + 150, self._begin)
        at = START + 180.0
        while at < end + 30 * MINUTE:
            at += rng.expovariate(1 / 8)
            self.at(at, partial(self._order, self.by_name[rng.choice(LISTENING)]))
        at = START + 200.0
        while at < end:
            at += rng.expovariate(1 / (3 * MINUTE))
            name, how = (
                rng.choice(LISTENING),
                rng.choice(["silent", "hole", "dies", "drop", "close", "silent"]),
            )
            self.at(at, partial(self._trouble, name, how, rng.uniform(2, 200)))

    def _begin(self) -> None:
        wire = self.wires[NUMBER] = Wire(NUMBER, self.keeper, self._answer_bots)
        urls = {name: f"ws://127.0.0.1:{network.port}" for name, network in self.networks.items()}
        environment = {
            **self.world.local.environment(), "BOTS": json.dumps(urls),
            "AWS_ENDPOINT_URL": wire.url, "AWS_ENDPOINT_URL_DYNAMODB": wire.url,
        }  # fmt: skip
        process = Process("chaos.bots", NUMBER, self.world.time_file, environment)
        self.others.append(process)
        while not process.ready:
            for _ in process.read():
                raise AssertionError("an item before the beginning")

    def _answer_bots(self, request: Request) -> bytes | None:
        self.calls += 1
        operation = request.operation
        fate = self.plan.aws(self.keeper.now(), "bots", str(self.calls), operation)
        if fate in ("hang", "refused"):
            self.keeper.hold(5.0 if fate == "hang" else 0.0)
            return None
        if fate in ("throttle", "500"):
            return answer(500, {}, b"{}")
        found = self.world.upstream.get(operation.split(".")[0], self.world.upstream[""]).ask(request)
        if operation == "AWSEvents.PutEvents":
            self.asked += request.document["Entries"]
        if fate in ("lost", "hang after"):
            return None
        return answer(*found)

    def _order(self, account: Account) -> None:
        number = self.world.exchange.emit_order(api_key_of(account.name), account.product)
        self.orders.append((self.keeper.now(), account.name, number))
        self.world.counts["orders"] += 1

    def _trouble(self, name: str, how: str, long: float) -> None:
        network = self.networks[name]
        self.tell(f"{name}'s socket: {how}")
        if how in ("silent", "hole"):
            network.die(black_hole=how == "hole")
            self.at(self.keeper.now() + long, network.live)
        elif how == "dies":
            self._dies_early(self.by_name[name], rotated=False)
        elif how == "drop":
            self.streams.drop_connections()
        else:
            self.streams.close_connections()
        self.world.counts[f"sockets: {how}" if how != "dies" else "early deaths"] += 1

    def _take_in(self, number: int, done: dict[str, Any]) -> None:
        if number != NUMBER:
            return super()._take_in(number, done)
        self.items[done["account"]].append(done)
        if "order" not in done:
            self.tell(f"{done['account']} is told: {json.dumps(done)}")
        return None

    def _settle(self) -> bool:
        asked, self.asked = self.asked, []
        for entry in asked:
            event = {
                "source": entry["Source"], "detail-type": entry["DetailType"],
                "detail": json.loads(entry["Detail"]),
            }  # fmt: skip
            number = self.world.counts["asked"] + 1
            self.send(Call("lambda_handler", event, f"asked-{number}", "asked"))
        return super()._settle() or bool(asked)

    def close(self) -> None:
        """End all processes and servers, including the bots."""
        for process in self.others:
            said = process.kill()
            if os.environ.get("CHAOS_BOTS_SAY"):
                print(said)
        self.others.clear()
        if NUMBER in self.wires:
            self.wires.pop(NUMBER).stop()
        super().close()

    def check_at_the_end(self) -> None:
        """Check the rules of the whole day, and those of the bots."""
        super().check_at_the_end()
        for name in LISTENING:
            orders = [(at, number) for at, account, number in self.orders if account == name]
            replaced = [(at, self._learned(name, at)) for account, at in self.replaced if account == name]
            self.checks.holds(never_deaf, name, orders, self.items[name], self.keeper.now(), replaced)

    def _learned(self, name: str, since: float) -> float:
        """Return when the keeper learned of a key that somebody else made at `since`, infinity if never."""
        done = (run for run in self.runs if not run.killed and name not in run.undone)
        asks = (ask for run in done for ask in run.asks if ask.account == name and ask.clean)
        return min((ask.delivered for ask in asks if ask.at >= since), default=float("inf"))


def never_deaf(
    name: str,
    orders: list[tuple[float, int]],
    items: list[dict[str, Any]],
    now: float,
    replaced: Iterable[tuple[float, float]] = (),
) -> None:
    """Check that a bot gets every event once or has a Gap that covers it.

    A bot that receives nothing must know it within KNOWN seconds. But Binance tells nobody that a key was
    replaced by somebody else. `replaced` has the times of that, and when the keeper learned of each: the
    stream must notice within READS_AGAIN seconds more.
    """
    heard = [item["order"] for item in items if "order" in item]
    if len(heard) != len(set(heard)):
        raise Violation("bots", f"{name} gets an event twice", name)
    # From when to when the bot knows that it receives nothing, and the bounds of the Gap.
    spells: list[tuple[float, float, float, float]] = []
    since: float | None = None
    for item in items:
        if "interrupted" in item:
            if since is not None:
                raise Violation("bots", f"{name} is interrupted twice", name)
            since = item["at"]
        elif "gap" in item:
            if since is None and item["why"] != "started":
                raise Violation("bots", f"{name} gets a gap without an interruption", name)
            spells.append((item["at"] if since is None else since, item["at"], *item["gap"]))
            since = None
    for at, number in orders:
        if number in heard or at > now - _SPARE:
            continue
        covered = [spell for spell in spells if spell[2] <= at <= spell[3]]
        silent = [learned + READS_AGAIN for when, learned in replaced if when <= at <= learned + READS_AGAIN]
        latest = max([at, *silent]) + KNOWN
        known = min((spell[0] for spell in covered), default=None)
        if known is None and (since is None or since > latest):
            raise Violation("bots", f"{name} misses order {number} and is told of no gap", name, until=latest)
        if known is not None and known > latest:
            why = f"{name} misses order {number} and knows it {known - at:.0f} s later"
            raise Violation("bots", why, name, until=known)
