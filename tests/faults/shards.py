"""A sharded stack by the virtual clock, CloudWatch watching: moto knows neither event sources nor alarms."""

from __future__ import annotations

import json
from typing import Any

from local.clock import VirtualClock
from local.world import World
from tests.integration.alarms import Alarms, Metrics
from tests.leaks import WatchedFunction
from tests.rules import Rules


class Shards:
    """A sharded stack: its rules, its queue, its workers, its alarms, an hour old.

    The segments in `crashing` kill the function that takes them: Lambda counts an error, nothing is
    printed, and the message comes back when its visibility timeout is over.
    """

    def __init__(self, world: World, clock: VirtualClock) -> None:
        self.world, self.clock = world, clock
        self.crashing: set[int] = set()
        self.function = WatchedFunction(world, clock)
        self.metrics = Metrics()
        resources = world.aws.template["Resources"]
        self._queue = resources["WorkQueue"]["Properties"]
        self._messages: list[dict[str, Any]] = []
        self._letters = 0
        self._rules = Rules(world, self.function.invoke, clock)
        names = {**world.aws.resources, "AWS::StackName": world.aws.stack_name}
        self.alarms = Alarms(world.aws.template, names, clock.timestamp() - 3600)
        service = {"service": world.aws.stack_name}
        self.metrics.put("ListenKeyKeeper", "SweepsCompleted", service, clock.timestamp(), 1)

    def go(self, minutes: int) -> None:
        """Let time pass, a minute at a time."""
        for _ in range(minutes):
            self._rules.go(1)
            self._receive()
            for message in [m for m in self._messages if m["visible_at"] <= self.clock.timestamp()]:
                self._work(message)
            self._publish()
            for alarm in self.alarms.values():
                alarm.evaluate(self.metrics, self.clock.timestamp())

    def _receive(self) -> None:
        sqs, url = self.world.aws.client("sqs"), self.world.aws.resources["WorkQueue"]
        while taken := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in taken:
                now = self.clock.timestamp()
                self._messages.append({"message": message, "sent": now, "visible_at": now, "received": 0})
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def _work(self, held: dict[str, Any]) -> None:
        if held["received"] == self._queue["RedrivePolicy"]["maxReceiveCount"]:
            self._messages.remove(held)
            self._letters += 1
            return
        held["received"] += 1
        crashed = json.loads(held["message"]["Body"])["segment"] in self.crashing
        of = {"FunctionName": self.world.aws.resources["ShardFunction"]}
        self.metrics.put("AWS/Lambda", "Errors", of, self.clock.timestamp(), int(crashed))
        if crashed:
            held["visible_at"] = self.clock.timestamp() + self._queue["VisibilityTimeout"]
            return
        record = {
            "messageId": held["message"]["MessageId"], "receiptHandle": held["message"]["ReceiptHandle"],
            "body": held["message"]["Body"], "attributes": {"SentTimestamp": str(int(held["sent"] * 1000))},
            "eventSource": "aws:sqs",
        }  # fmt: skip
        done = self.function.invoke({"Records": [record]}, handler="shard_handler")
        assert done.error is None
        self.metrics.read(done.output, self.clock.timestamp())
        self._messages.remove(held)

    def _publish(self) -> None:
        now = self.clock.timestamp()
        dead, work = (
            {"QueueName": self.world.aws.resources[name].rpartition("/")[2]}
            for name in ("DeadLetterQueue", "WorkQueue")
        )
        self.metrics.put("AWS/SQS", "ApproximateNumberOfMessagesVisible", dead, now, self._letters)
        if self._messages:
            age = now - min(message["sent"] for message in self._messages)
            self.metrics.put("AWS/SQS", "ApproximateAgeOfOldestMessage", work, now, age)
