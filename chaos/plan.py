"""What goes wrong on a day, and when: decided by the seed alone, whatever the machine does meanwhile.

An outage takes one dependency away for 2 to 25 minutes; the next one comes more than an hour later. Between
and beside them there are small troubles: single answers that are lost, throttled, slow or partial, runs that
are killed, keys that die early. A long outage has its surroundings to itself: that is what the program
promises to survive.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

MINUTE, HOUR = 60.0, 3600.0
# The first word says what is away.
OUTAGES = (
    "binance 5xx", "binance hang", "binance reset", "binance 429", "binance 418", "binance 403",
    "binance 451", "futures 5xx", "options hang", "dynamodb hang", "dynamodb 500", "dynamodb throttle",
    "dynamodb writes", "secretsmanager hang", "secretsmanager 500", "events 500",
)  # fmt: skip
LONG = 10 * MINUTE  # from here on an outage has its surroundings to itself
BEFORE, AFTER = 40 * MINUTE, 12 * MINUTE  # which are these
LONGEST = 25 * MINUTE
REFUSED = 20 * MINUTE  # at most: runs give up early then (docs/simulation.md)
_EVERY = 2 * HOUR + 10 * MINUTE  # an outage
# Small troubles: chances of each request.
_OF_BINANCE = {
    "5xx": 0.02, "5xx after": 0.01, "reset": 0.01, "reset after": 0.01, "hang": 0.004, "hang after": 0.004,
    "403": 0.004, "near": 0.01, "truncate": 0.004,
}  # fmt: skip
_OF_AWS = {
    "lost": 0.02, "refused": 0.01, "throttle": 0.02, "500": 0.01, "hang": 0.003, "hang after": 0.003,
    "partial": 0.06,
}  # fmt: skip
_ALL_PARTIAL = 0.02  # of runs: every batch is answered in part, each time


@dataclass(frozen=True, slots=True)
class Outage:
    """`kind` is one of OUTAGES; `start` and `end` are epoch seconds."""

    kind: str
    start: float
    end: float

    @property
    def calm(self) -> tuple[float, float]:
        """When there may be nothing else."""
        if self.end - self.start <= LONG:
            return self.start, self.start
        return self.start - BEFORE, self.end + AFTER


class Plan:
    """A day's troubles. `quiet_from` ends all of them; `only` leaves just these kinds of them."""

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
        """Return the outage that is on."""
        if now >= self.quiet_from:
            return None
        return next((outage for outage in self.outages if outage.start <= now < outage.end), None)

    def calm(self, now: float) -> bool:
        """Whether there may be no small trouble now."""
        return now >= self.quiet_from or any(o.calm[0] <= now < o.calm[1] for o in self.outages)

    def chance(self, what: str, probability: float, now: float) -> bool:
        """Whether something happens that has this probability; the same `what` is always answered alike."""
        if self.calm(now) or (self.only is not None and what.split("/")[0] not in self.only):
            return False
        return self._random(what) < probability

    def binance(self, now: float, what: str, group: str) -> str:
        """Return what happens to a request to Binance: "" or a word of _OF_BINANCE or OUTAGES."""
        outage = self.outage(now)
        if outage:
            where, _, how = outage.kind.partition(" ")
            if where in ("binance", group):
                return how
        return self._small(now, f"binance/{what}", _OF_BINANCE)

    def aws(self, now: float, run: str, what: str, operation: str) -> str:
        """Return what happens to a request to AWS: "" or a word of _OF_AWS."""
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
