"""Runs the deployed rules on the virtual clock: hours of ticks and sweeps, with the result of each run."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from local.aws.rules import SWEEP, TICK, Call, Rule, Scheduler
from local.clock import VirtualClock
from local.invoke import Context, Invocation
from local.world import World


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation: the rule that caused it, the number of the attempt, and the result.

    `began` and `ended` are minutes since the Rules were created; `at` is the end in epoch seconds.
    """

    rule: str
    attempt: int
    began: float
    ended: float
    at: float
    done: Invocation


class Rules(Scheduler):
    """Both rules. `tick` and `sweep` are the minutes until each fires for the first time.

    Runs never overlap: a run begins when it is due or, if that is later, when the previous one ends.
    """

    def __init__(
        self,
        world: World,
        invoke: Callable[[Any, Context], Invocation],
        clock: VirtualClock,
        tick: float = 0.0,
        sweep: float = 3.0,
    ) -> None:
        self.clock = clock
        self.runs: list[Run] = []
        self.letters: list[dict[str, Any]] = []
        self.left_at: list[float] = []
        self._world = world
        self._function = invoke
        self._disabled: Collection[str] = ()
        self._deleted = False
        self._start = clock.monotonic()
        super().__init__(world.aws, clock.clock, self._call, self._keep, {TICK: 60 * tick, SWEEP: 60 * sweep})

    def go(
        self, minutes: float, disabled: Collection[str] = (), throttled: bool = False, deleted: bool = False
    ) -> list[Run]:
        """Let `minutes` pass and return the runs of that time.

        A rule in `disabled` does not fire, but events that Lambda already has are retried. While `throttled`,
        Lambda starts no run. If the function is `deleted`, each event becomes a dead letter at once.
        """
        self._disabled, self.throttled, self._deleted = disabled, throttled, deleted
        return list(self.follow(minutes))

    def follow(self, minutes: float) -> Iterator[Run]:
        """Yield each run of the next `minutes` once it has ended. The clock is then at their end or later."""
        end = self.clock.monotonic() + 60 * minutes
        while True:
            before = len(self.runs)
            wait = self.step()
            yield from self.runs[before:]
            left = end - self.clock.monotonic()  # negative if a run took longer
            if wait > left:
                self.clock.advance(max(0.0, left))
                return
            self.clock.advance(wait)

    def send(self, event: Any, rule: str = "") -> None:
        """Receive an event as Lambda's queue does, or the dead-letter queue if the function is deleted."""
        if self._deleted:
            self._keep({"event": event})
        else:
            super().send(event, rule)

    def rule(self, id_: str) -> Rule | None:
        """Return a rule as it was first read: reading it again each time would take most of the time."""
        [rule] = [rule for rule in self.rules if rule.id == id_]
        return replace(rule, enabled=id_ not in self._disabled)

    def _call(self, call: Call) -> Invocation:
        began = self._minutes()
        done = self._function(call.event, call.context)
        self.runs.append(Run(call.rule, call.attempt, began, self._minutes(), self.clock.timestamp(), done))
        return done

    def _keep(self, letter: dict[str, Any]) -> None:
        self.letters.append(letter)
        self.left_at.append(self.clock.timestamp())
        queue = self._world.aws.resources["DeadLetterQueue"]
        self._world.aws.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(letter))

    def _minutes(self) -> float:
        return (self.clock.monotonic() - self._start) / 60
