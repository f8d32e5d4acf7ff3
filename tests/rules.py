"""What starts the function: the two rules and Lambda's asynchronous queue, by the virtual clock.

moto runs no rule and retries nothing. How often, how many times and for how long is read from the deployed
template.
"""

from __future__ import annotations

import heapq
import itertools
import json
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from listenkeys.settings import rate_minutes
from local.clock import VirtualClock
from local.invoke import Context, Invocation, LocalFunction
from local.world import World

TICK, SWEEP = "KeepaliveFunctionTick", "KeepaliveFunctionSweep"
SCHEDULED = {"source": "aws.events", "detail-type": "Scheduled Event"}
# Lambda Developer Guide, "How Lambda handles errors and retries with asynchronous invocation".
RETRY_AFTER = (60.0, 120.0)


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation: what it was for, when it started and ended (epoch seconds), what came of it."""

    rule: str
    attempt: int
    started: float
    ended: float
    done: Invocation


class Rules:
    """Both rules, from now on: a tick at once, the first sweep `sweep_after` minutes later."""

    def __init__(
        self, world: World, function: LocalFunction, clock: VirtualClock, sweep_after: float = 3.0
    ) -> None:
        self.world, self.function, self.clock = world, function, clock
        self.runs: list[Run] = []
        self.letters: list[dict[str, Any]] = []
        self.left_at: list[float] = []
        self.throttles: list[float] = []
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, str, int, float]] = []
        resources = world.aws.template["Resources"]
        [invoke] = [r["Properties"] for r in resources.values() if r["Type"].endswith("EventInvokeConfig")]
        self._retries, self._max_age = invoke["MaximumRetryAttempts"], invoke["MaximumEventAgeInSeconds"]
        self._to_queue = "OnFailure" in invoke["DestinationConfig"]
        self._every: dict[str, float] = {}
        self._inputs: dict[str, Any] = {}
        for rule, first in ((TICK, 0.0), (SWEEP, sweep_after)):
            properties = resources[rule]["Properties"]
            minutes = rate_minutes(world.aws.parameters[properties["ScheduleExpression"]["Ref"]])
            assert minutes
            self._every[rule] = 60.0 * minutes
            self._inputs[rule] = json.loads(properties["Targets"][0].get("Input", json.dumps(SCHEDULED)))
            self._put(clock.timestamp() + 60 * first, rule, 0, 0.0)

    def go(self, minutes: float, disabled: Collection[str] = (), throttled: bool = False) -> list[Run]:
        """Let `minutes` go by and return the runs of that time.

        A `disabled` rule fires nothing, though events that Lambda already holds are retried. While
        `throttled`, Lambda starts nothing, and holds an event until it is too old.
        """
        before = len(self.runs)
        end = self.clock.timestamp() + 60 * minutes
        while self._due and self._due[0][0] <= end:
            at, _, rule, attempt, born = heapq.heappop(self._due)
            self.clock.advance(max(0.0, at - self.clock.timestamp()))
            if attempt == 0 and not born:
                self._put(at + self._every[rule], rule, 0, 0.0)
                if rule in disabled:
                    continue
                born = at
            if self.clock.timestamp() - born > self._max_age:
                self._give_up(rule, "EventAgeExceeded", None)
            elif throttled:
                # Lambda puts the event back into its queue, at intervals that grow to five minutes.
                self.throttles.append(self.clock.timestamp())
                self._put(at + min(300.0, max(1.0, at - born)), rule, attempt, born)
            else:
                self._invoke(rule, attempt, born)
        self.clock.advance(max(0.0, end - self.clock.timestamp()))
        return self.runs[before:]

    def waiting(self) -> list[float]:
        """Return the ages in seconds of the events that Lambda holds."""
        return [self.clock.timestamp() - born for *_, born in self._due if born]

    def _invoke(self, rule: str, attempt: int, born: float) -> None:
        started = self.clock.timestamp()
        done = self.function.invoke(self._inputs[rule], Context())
        now = self.clock.timestamp()
        self.runs.append(Run(rule, attempt, started, now, done))
        if done.error is None:
            return
        if attempt < self._retries:
            self._put(now + RETRY_AFTER[attempt], rule, attempt + 1, born)
        else:
            self._give_up(rule, "RetriesExhausted", done.error)

    def _give_up(self, rule: str, condition: str, error: Exception | None) -> None:
        if not self._to_queue:
            return
        letter = dead_letter(self._inputs[rule], condition, error)
        self.letters.append(letter)
        self.left_at.append(self.clock.timestamp())
        self.world.aws.client("sqs").send_message(
            QueueUrl=self.world.aws.resources["DeadLetterQueue"], MessageBody=json.dumps(letter)
        )

    def _put(self, at: float, rule: str, attempt: int, born: float) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), rule, attempt, born))


def dead_letter(event: Any, condition: str, error: Exception | None) -> dict[str, Any]:
    """Return the invocation record that Lambda sends to a failure destination."""
    letter: dict[str, Any] = {
        "version": "1.0",
        "requestContext": {"condition": condition},
        "requestPayload": event,
    }
    if error is not None:
        letter["responseContext"] = {"statusCode": 200, "functionError": "Unhandled"}
        letter["responsePayload"] = {
            "errorMessage": str(error),
            "errorType": type(error).__name__,
            "stackTrace": traceback.format_list(traceback.extract_tb(error.__traceback__)),
        }
    return letter
