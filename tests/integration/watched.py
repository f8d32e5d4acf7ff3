"""Runs the local environment's rules on the virtual clock, with the alarms and messages that result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from local.aws.stack import choose, expand
from local.clock import VirtualClock
from local.invoke import Context, Invocation, LocalFunction
from local.world import World
from tests.eventbridge import Bus, alarm_event, arn_of_alarm
from tests.integration.alarms import ALARM, Alarms, Metrics
from tests.rules import Rules

_KEPT = 86_400  # seconds that UndeliveredQueue keeps a message


@cache
def _told() -> dict[str, Any]:
    """Return the template with a webhook and a heartbeat."""
    return choose(expand(), {"AlarmWebhookSecretId": "ops/chat", "HeartbeatSecretId": "ops/beat"})


@dataclass(frozen=True, slots=True)
class Message:
    """A message that arrived at a topic, a URL (both by logical id) or a bus, at `at` (epoch seconds)."""

    at: float
    to: str
    text: str


class Watched:
    """A world whose rules run, with CloudWatch's alarms, and EventBridge, which delivers the messages.

    SQS and Lambda publish some metrics themselves. They are added here: once a minute the number of letters
    in each queue, and each throttle. The stack is an hour old, so its alarms have warmed up; if `new`, it has
    just been deployed. `broken` has the logical ids of the URLs that answer 404.
    """

    def __init__(
        self, world: World, function: LocalFunction, clock: VirtualClock, *, new: bool = False
    ) -> None:
        self.world, self.clock = world, clock
        self.metrics = Metrics()
        self.messages: list[Message] = []
        self.events: list[Message] = []  # on the default bus
        self.broken: set[str] = set()
        self._undelivered: list[float] = []
        self._read = 0
        if not new:
            service = {"service": world.aws.stack_name}
            self.metrics.put("ListenKeyKeeper", "SweepsCompleted", service, clock.timestamp(), 1)
        names = {**world.aws.resources, "AWS::StackName": world.aws.stack_name}
        self.alarms = Alarms(world.aws.template, names, clock.timestamp() - (0 if new else 3600))
        self._bus = Bus(_told(), names | {name: arn_of_alarm(name) for name in self.alarms})

        def invoke(event: Any, context: Context | None = None) -> Invocation:
            done = function.invoke(event, context)
            self.metrics.read(done.output, clock.timestamp())
            sent = world.aws.sent_events()[self._read :]
            self._read += len(sent)
            for each in sent:
                self.events.append(Message(clock.timestamp(), "default", each["detail-type"]))
                self._pass_on(each, clock.timestamp())
            return done

        self.invoke = invoke
        self.rules = Rules(world, invoke, clock)

    def go(self, minutes: float, **how: Any) -> None:
        """Let time pass, then evaluate the alarms for every minute of it. `how` is for Rules.go."""
        start, throttles = self.clock.timestamp(), len(self.rules.throttles)
        self.rules.go(minutes, **how)
        names = self.world.aws.resources
        function = {"FunctionName": names["KeepaliveFunction"]}
        for seconds in self.rules.throttles[throttles:]:
            at = self.clock.timestamp() - self.clock.monotonic() + seconds
            self.metrics.put("AWS/Lambda", "Throttles", function, at, 1)
        self._look_since(start)

    @staticmethod
    def go_together(stacks: Sequence[Watched], minutes: float) -> Iterator[None]:
        """Let time pass for stacks that share a clock. Yields whenever the clock has moved."""
        clock = stacks[0].clock
        start, end = clock.timestamp(), clock.monotonic() + 60 * minutes
        while (left := end - clock.monotonic()) > 0:
            clock.advance(min(left, *(stack.rules.step() for stack in stacks)))
            yield
        for stack in stacks:
            stack._look_since(start)

    def _look_since(self, at: float) -> None:
        end = self.clock.timestamp()
        while at <= end:
            self._look(at)
            at += 60

    def _look(self, at: float) -> None:
        held = {
            "DeadLetterQueue": sum(left_at <= at for left_at in self.rules.left_at),
            "UndeliveredQueue": sum(at - _KEPT < left_at <= at for left_at in self._undelivered),
        }
        for name, letters in held.items():
            queue = {"QueueName": self.world.aws.resources[name].rpartition("/")[2]}
            self.metrics.put("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue, at, letters)
        for name, alarm in self.alarms.items():
            before, mailed = alarm.state, len(alarm.mails)
            alarm.evaluate(self.metrics, at)
            if len(alarm.mails) > mailed and (alarm.state == ALARM or before == ALARM):
                self.messages.append(Message(at, "AlarmTopic", f"{alarm.state} {name}"))
            if alarm.state != before:
                self._pass_on(alarm_event(name, alarm.description, alarm.state, before), at)

    def _pass_on(self, event: dict[str, Any], at: float) -> None:
        for target, text in self._bus.hand(event):
            if target in self.broken:
                self._undelivered.append(at)
            else:
                self.messages.append(Message(at, target, text))
