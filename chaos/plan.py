"""Decides what goes wrong on a day, and when. It depends only on the seed, not on the speed of the machine.

In an outage, one dependency is down for 2 to 25 minutes. The next outage comes more than an hour later.
Between and during them there are small troubles: single answers that are lost, throttled, slow or partial,
runs that are killed, keys that die early. There are none during and around a long outage, because that is
what the program promises to survive.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

MINUTE, HOUR = 60.0, 3600.0
# The first word is what is down, the second how it fails.
OUTAGES = (
    "binance 5xx", "binance hang", "binance reset", "binance 429", "binance 418", "binance 403",
    "binance 451", "futures 5xx", "options hang", "dynamodb hang", "dynamodb 500", "dynamodb throttle",
    "dynamodb writes", "secretsmanager hang", "secretsmanager 500", "events 500",
)  # fmt: skip
LONG = 10 * MINUTE  # an outage longer than this has no small troubles around it,
BEFORE, AFTER = 40 * MINUTE, 12 * MINUTE  # from this long before it until this long after it
LONGEST = 25 * MINUTE
REFUSED = 20 * MINUTE  # the longest outage in which Binance refuses: runs give up early (docs/simulation.md)
_EVERY = 2 * HOUR + 10 * MINUTE  # between two outages
# The probabilities of small troubles, for each request.
_OF_BINANCE = {
    "5xx": 0.02, "5xx after": 0.01, "reset": 0.01, "reset after": 0.01, "hang": 0.004, "hang after": 0.004,
    "403": 0.004, "near": 0.01, "truncate": 0.004,
}  # fmt: skip
_OF_AWS = {
    "lost": 0.02, "refused": 0.01, "throttle": 0.02, "500": 0.01, "hang": 0.003, "hang after": 0.003,
    "partial": 0.06,
}  # fmt: skip
_ALL_PARTIAL = 0.02  # the share of runs in which every batch is answered only partly


@dataclass(frozen=True, slots=True)
class Outage:
    """`kind` is one of OUTAGES; `start` and `end` are epoch seconds."""

    kind: str
    start: float
    end: float

    @property
    def calm(self) -> tuple[float, float]:
        """The time without small troubles (start and end, epoch seconds); empty for a short outage."""
        if self.end - self.start <= LONG:
            return self.start, self.start
        return self.start - BEFORE, self.end + AFTER


class Plan:
    """The troubles of a day, which all end at `quiet_from`. `only` restricts them to these kinds."""

    def __init__(self, seed: str, start: float, hours: float, only: frozenset[str] | None = None) -> None:
        self.seed = seed
        self.quiet_from = start + hours * HOUR
        self.only = only
        self.outages: list[Outage] = []
        rng, at = random.Random(f"{seed}/outages"), start + 50 * MINUTE
        kinds: list[str] = []
        while at < self.quiet_from and only is None:
            kinds = kinds or rng.sample(OUTAGES, len(OUTAGES))
            kind = kinds.pop()
            length = rng.choice([rng.uniform(2, 10), rng.uniform(10, 24.5)]) * MINUTE
            if kind.rpartition(" ")[2] in ("429", "418", "403", "451"):
                length = min(length, REFUSED)
            begins = at + rng.uniform(0, 20 * MINUTE)
            self.outages.append(Outage(kind, begins, begins + length))
            at += _EVERY

    def outage(self, now: float) -> Outage | None:
        """Return the outage at this time, or None."""
        if now >= self.quiet_from:
            return None
        return next((outage for outage in self.outages if outage.start <= now < outage.end), None)

    def calm(self, now: float) -> bool:
        """Whether small troubles are excluded at this time."""
        return now >= self.quiet_from or any(o.calm[0] <= now < o.calm[1] for o in self.outages)

    def chance(self, what: str, probability: float, now: float) -> bool:
        """Whether something with this probability happens. The same `what` always has the same answer."""
        if self.calm(now) or (self.only is not None and what.split("/")[0] not in self.only):
            return False
        return self._random(what) < probability

    def binance(self, now: float, what: str, group: str) -> str:
        """Return what happens to a request to Binance: "" (nothing), or a word of _OF_BINANCE or OUTAGES."""
        outage = self.outage(now)
        if outage:
            where, _, how = outage.kind.partition(" ")
            if where in ("binance", group):
                return how
        return self._small(now, f"binance/{what}", _OF_BINANCE)

    def aws(self, now: float, run: str, what: str, operation: str) -> str:
        """Return what happens to a request to AWS: "" (nothing), or a word of _OF_AWS or OUTAGES."""
        service = operation.split(".")[0].lower().removeprefix("aws")
        outage = self.outage(now)
        if outage:
            where, _, how = outage.kind.partition(" ")
            if where == service and how != "writes":
                return how
            if where == service and not operation.endswith(("Scan", "GetItem", "Query")):
                return "500"
        if self.chance(f"aws/partial/{run}", _ALL_PARTIAL, now):
            return "partial"
        return self._small(now, f"aws/{run}/{what}/{operation}", _OF_AWS)

    def _small(self, now: float, what: str, chances: dict[str, float]) -> str:
        if self.calm(now) or (self.only is not None and what.split("/")[0] not in self.only):
            return ""
        drawn = self._random(what)
        for kind, probability in chances.items():
            drawn -= probability
            if drawn < 0:
                return kind
        return ""

    def _random(self, what: str) -> float:
        return random.Random(f"{self.seed}/{what}").random()
