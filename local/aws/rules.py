"""The deployed stack's rules, fired as EventBridge fires them, and Lambda's way with asynchronous events.

Everything that says when, with which event and how often again is read from the deployed stack. Time is the
world's.
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from listenkeys.binance.pacing import Clock
from listenkeys.settings import rate_minutes
from local.aws.stack import LocalAws
from local.invoke import Invocation

FUNCTION = "KeepaliveFunction"
_RETRY_AFTER = (60.0, 120.0)  # seconds: Lambda Developer Guide, "How Lambda handles errors and retries"
_LONGEST_WAIT = 0.2  # real seconds until a new event or the end is noticed


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule whose target is the function; `seconds` between two firings, `event` None for the plain one."""

    name: str
    arn: str
    expression: str
    seconds: float
    enabled: bool
    event: Any


@dataclass(frozen=True, slots=True)
class _Job:
    rule: str | None = None  # a rule's next firing
    event: Any = None  # or an event for the function
    since: float = 0.0
    attempt: int = 0


def read_rules(aws: LocalAws) -> list[Rule]:
    """Return the rules that call the function, as they stand now. Raises SystemExit for a cron expression."""
    events, function = aws.client("events"), aws.resources[FUNCTION]
    rules = []
    for described in events.list_rules()["Rules"]:
        expression = described.get("ScheduleExpression")
        if not expression:
            continue
        for target in events.list_targets_by_rule(Rule=described["Name"])["Targets"]:
            if not target["Arn"].endswith(f":function:{function}"):
                continue
            minutes = rate_minutes(expression)
            if minutes is None:
                raise SystemExit(f"the local world fires rate(...) rules only, not {expression}")
            rules.append(
                Rule(
                    described["Name"],
                    described["Arn"],
                    expression,
                    60.0 * minutes,
                    described["State"] == "ENABLED",
                    json.loads(target["Input"]) if "Input" in target else None,
                )
            )
    return sorted(rules, key=lambda rule: rule.seconds)


class Scheduler:
    """Fire the rules; `invoke` runs the function, `give_up` takes what failed for good."""

    def __init__(
        self,
        aws: LocalAws,
        clock: Clock,
        invoke: Callable[[Any, str], Invocation],
        give_up: Callable[[dict[str, Any]], None],
    ) -> None:
        self._aws = aws
        self._clock = clock
        self._invoke = invoke
        self._give_up = give_up
        resources = aws.template["Resources"].values()
        [asynchronous] = [
            resource["Properties"]
            for resource in resources
            if resource["Type"] == "AWS::Lambda::EventInvokeConfig"
            and resource["Properties"]["FunctionName"] == {"Ref": FUNCTION}
        ]
        self._retries = int(asynchronous["MaximumRetryAttempts"])
        self._max_age = float(asynchronous["MaximumEventAgeInSeconds"])
        self._jobs: list[tuple[float, int, _Job]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.rules = read_rules(aws)
        # A rate starts to run when its rule is made.
        start = clock.monotonic()
        for rule in self.rules:
            self._push(start + rule.seconds, _Job(rule=rule.name))

    def send(self, event: Any) -> None:
        """Take an asynchronous event, as Lambda's queue would."""
        now = self._clock.monotonic()
        self._push(now, _Job(event=event, since=now))

    def run(self, ended: threading.Event, speed: float) -> None:
        """Do what is due until the end, where the clock runs at this speed."""
        while not ended.is_set():
            ended.wait(min(_LONGEST_WAIT, self.step() / speed))

    def step(self) -> float:
        """Do one thing that is due; return the seconds until the next one is."""
        now = self._clock.monotonic()
        with self._lock:
            due = self._jobs[0][0] if self._jobs else now + _LONGEST_WAIT
            if due > now:
                return due - now
            job = heapq.heappop(self._jobs)[2]
        if job.rule:
            self._fire(job.rule, due)
        else:
            self._attempt(job)
        return 0.0

    def _push(self, due: float, job: _Job) -> None:
        with self._lock:
            heapq.heappush(self._jobs, (due, next(self._numbers), job))

    def _fire(self, name: str, due: float) -> None:
        rule = next((rule for rule in read_rules(self._aws) if rule.name == name), None)
        if rule is None:
            return
        now = self._clock.monotonic()
        while due <= now:  # what the machine was too slow for is left out
            due += rule.seconds
        self._push(due, _Job(rule=name))
        if rule.enabled:
            self.send(rule.event or _scheduled_event(rule, self._clock.now()))

    def _attempt(self, job: _Job) -> None:
        again = job.attempt < self._retries
        wait = _RETRY_AFTER[min(job.attempt, 1)]
        now = self._clock.monotonic()
        again = again and now + wait - job.since <= self._max_age
        done = self._invoke(
            job.event, f"again in {wait / 60:.0f} min" if again else "given up: a dead letter"
        )
        if done.error is None:
            return
        if again:
            due = self._clock.monotonic() + wait
            self._push(due, _Job(event=job.event, since=job.since, attempt=job.attempt + 1))
            return
        self._give_up(
            {
                "version": "1.0",
                "timestamp": f"{self._clock.now():%Y-%m-%dT%H:%M:%S.000Z}",
                "requestContext": {
                    "condition": "RetriesExhausted",
                    "approximateInvokeCount": job.attempt + 1,
                },
                "requestPayload": job.event,
                "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
                "responsePayload": error_payload(done.error),
            }
        )


def error_payload(error: Exception) -> dict[str, Any]:
    """Return what Lambda answers for a function that raised."""
    return {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": []}


def _scheduled_event(rule: Rule, at: datetime) -> dict[str, Any]:
    parts = rule.arn.split(":")
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": parts[4],
        "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "region": parts[3],
        "resources": [rule.arn],
        "detail": {},
    }
