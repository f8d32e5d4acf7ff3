"""The local world's rules run by the virtual clock, and CloudWatch watching what they bring about."""

from __future__ import annotations

from typing import Any

from local.clock import VirtualClock
from local.invoke import LocalFunction
from local.world import World
from tests.integration.alarms import Alarms, Metrics
from tests.rules import Rules


class Watched:
    """A world whose rules run, with CloudWatch watching.

    What SQS and Lambda publish of their own is put here as they would, for letters and throttles that the
    rules really brought about: the number of letters in the queue once a minute, and each throttle. The
    stack is an hour old, its alarms have warmed up; `new`: it has been deployed this minute.
    """

    def __init__(
        self, world: World, function: LocalFunction, clock: VirtualClock, *, new: bool = False
    ) -> None:
        self.world, self.clock = world, clock
        self.rules = Rules(world, function.invoke, clock)
        self.metrics = Metrics()
        names = {**world.aws.resources, "AWS::StackName": world.aws.stack_name}
        self.alarms = Alarms(world.aws.template, names, clock.timestamp() - (0 if new else 3600))

    def go(self, minutes: float, **how: Any) -> None:
        """Let time pass; then look at every minute of it, as CloudWatch would have."""
        start, throttles = self.clock.timestamp(), len(self.rules.throttles)
        for run in self.rules.go(minutes, **how):
            self.metrics.read(run.done.output, run.at)
        names = self.world.aws.resources
        function = {"FunctionName": names["KeepaliveFunction"]}
        for seconds in self.rules.throttles[throttles:]:
            at = self.clock.timestamp() - self.clock.monotonic() + seconds
            self.metrics.put("AWS/Lambda", "Throttles", function, at, 1)
        queue = {"QueueName": names["DeadLetterQueue"].rpartition("/")[2]}
        at, end = start, self.clock.timestamp()
        while at <= end:
            letters = sum(left_at <= at for left_at in self.rules.left_at)
            self.metrics.put("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue, at, letters)
            for alarm in self.alarms.values():
                alarm.evaluate(self.metrics, at)
            at += 60
