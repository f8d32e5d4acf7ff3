"""KeyAtRiskAlarm tells the truth, whatever goes wrong and however much goes wrong at once.

The tests simulate hours of random troubles on a virtual clock. A key that dies early at Binance is left out:
no run can know of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from local.aws.rules import SWEEP, TICK
from local.invoke import LocalFunction
from tests.faults.matrix import api_key_of, kept, metrics
from tests.integration.alarms import ALARM, OK
from tests.integration.troubles import During, exchange_fault, no_dynamodb, revoked
from tests.integration.watched import Watched
from tests.rules import Run
from tests.scene import Scene

NAMES = ("alice", "bob", "carol", "dave")
AT_RISK = "KeyAtRiskAlarm"
MINUTES, QUIET = 360, 110
SEEDS = 5
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("botocore_sleeps")]


def without_row(name: str) -> During:
    @contextmanager
    def during(watched: Watched, function: LocalFunction) -> Iterator[None]:
        watched.world.put_row(name, enabled=False)
        yield
        watched.world.put_row(name)

    return during


# What can go wrong, by name: for all accounts, for one account, or for the rules.
OF_ALL: dict[str, During] = {
    "down": exchange_fault(status=503), "reset": exchange_fault(kind="reset"),
    "banned": exchange_fault(status=418), "limited": exchange_fault(status=429), "no tables": no_dynamodb,
}  # fmt: skip
OF_ONE: dict[str, Callable[[str], During]] = {
    "revoked": revoked,
    "disabled": without_row,
    "blocked": lambda name: exchange_fault(status=403, api_key=api_key_of(name)),
    "failing": lambda name: exchange_fault(status=500, api_key=api_key_of(name)),
}
OF_RULES = ("tick", "sweep", "both rules", "throttled", "deleted")


class Hours:
    """Hours of random troubles, up to four at once, each for 5 to 150 minutes; then QUIET minutes without."""

    def __init__(self, watched: Watched, function: LocalFunction, seed: int) -> None:
        self.watched, self.function = watched, function
        self._random = random.Random(seed)
        self._on: dict[str, tuple[float, ExitStack]] = {}
        self._dead_since: dict[str, float] = {}
        self._read = 0
        self._counted: list[Run] = []  # the runs whose metrics the alarm reads
        self.story: list[str] = []

    def play(self) -> None:
        """Simulate the hours, and check the alarm after each minute."""
        for minute in range(MINUTES + QUIET):
            for name in [name for name, (end, _) in self._on.items() if end <= minute or minute >= MINUTES]:
                self._on.pop(name)[1].close()
                self.story.append(f"{minute}: {name} is over")
            if minute < MINUTES and len(self._on) < 4 and self._random.random() < 0.04:
                self._begin(minute)
            self.watched.go(1, **self._how())
            self._look()

    def _begin(self, minute: int) -> None:
        kind = self._random.choice([*OF_ALL, *OF_ONE, *OF_ONE, *OF_RULES])
        who = self._random.choice(NAMES) if kind in OF_ONE else ""
        name = f"{kind} {who}".strip()
        if name in self._on:
            return
        stack = ExitStack()
        if kind not in OF_RULES:
            during = OF_ONE[kind](who) if who else OF_ALL[kind]
            stack.enter_context(during(self.watched, self.function))
        minutes = self._random.randint(5, 150)
        self._on[name] = minute + minutes, stack
        self.story.append(f"{minute}: {name} for {minutes} minutes")

    def _how(self) -> dict[str, Any]:
        both = "both rules" in self._on
        disabled = {rule for rule, kind in ((TICK, "tick"), (SWEEP, "sweep")) if both or kind in self._on}
        return {"disabled": disabled, "throttled": "throttled" in self._on, "deleted": "deleted" in self._on}

    def _look(self) -> None:
        """Check that the alarm is on if an enabled account had no live key when the last run began."""
        world, now = self.watched.world, self.watched.clock.timestamp()
        for name in NAMES:
            key = world.exchange.live_key(api_key_of(name), "usdm")
            dead = not key and f"disabled {name}" not in self._on
            if dead:
                self._dead_since.setdefault(name, now)
            else:
                self._dead_since.pop(name, None)
        runs = self.watched.rules.runs
        self._counted += [run for run in runs[self._read :] if "KeysAtRisk" in metrics(run.done)]
        self._read = len(runs)
        # CloudWatch evaluates the alarm once a minute, so it may not know of a later run yet.
        if counted := [run for run in self._counted[-9:] if run.at <= now - 60]:
            began = counted[-1].at - 60 * (counted[-1].ended - counted[-1].began)
            seen = [name for name, since in self._dead_since.items() if since < began]
            state = self.watched.alarms[AT_RISK].state
            assert not seen or state == ALARM, (seen, state, self.story)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_alarm_is_on_while_an_enabled_account_has_no_live_key(world: Scene, seed: int) -> None:
    world.live(*NAMES, minutes=10)
    watched = Watched(world, world.function, world.clock)
    hours = Hours(watched, world.function, seed)
    hours.play()

    assert all(kept(world, name) for name in NAMES), hours.story
    assert watched.alarms.firing() <= {"UndeliveredAlarm"}, hours.story
    states = [state for _, state in watched.alarms[AT_RISK].mails]
    assert states == [OK, *[ALARM, OK] * (len(states) // 2)]
