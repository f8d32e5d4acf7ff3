"""Fires the deployed stack's rules as EventBridge does, and retries asynchronous events as Lambda does.

Schedules, events and numbers of retries are read from the deployed stack. The clock is the environment's.
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from listenkeys.clock import Clock
from listenkeys.settings import rate_minutes
from local.aws.stack import RULES, LocalAws
from local.invoke import Context, Invocation

FUNCTION = "KeepaliveFunction"
TICK, SWEEP, EXPIRED = RULES
_RETRY_AFTER = (60.0, 120.0)  # seconds: Lambda Developer Guide, "How Lambda handles errors and retries"
_LONGEST_BACK_OFF = 300.0  # seconds between two tries of an event while Lambda is throttled (same page)
_LONGEST_WAIT = 0.2  # real seconds until `run` notices a new event or the end


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule whose target is the function.

    It fires every `seconds`. `event` is the target's Input, None if EventBridge sends its own event. `id` is
    the logical id in the template.
    """

    id: str
    name: str
    arn: str
    expression: str
    seconds: float
    enabled: bool
    event: Any


@dataclass(frozen=True, slots=True)
class Call:
    """One try of an asynchronous event.

    `rule` is the id of the rule that sent it, "" if none did. `since` is when it was sent (monotonic
    seconds), and `attempt` counts from 0. `if_it_fails` says what happens after a failure.
    """

    event: Any
    rule: str
    since: float
    request_id: str
    attempt: int = 0
    if_it_fails: str = ""

    @property
    def context(self) -> Context:
        """Lambda's context object. A retry has the request id of the first try."""
        return Context(aws_request_id=self.request_id)


@dataclass(frozen=True, slots=True)
class _Firing:
    rule: str


def read_rules(aws: LocalAws) -> list[Rule]:
    """Return the function's rules as they are now, most frequent first. Raises SystemExit for a cron rule."""
    events, function = aws.client("events"), aws.resources[FUNCTION]
    ids = {physical: logical for logical, physical in aws.resources.items()}
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
                raise SystemExit(f"the local environment supports rate(...) rules only, not {expression}")
            rules.append(
                Rule(
                    ids[described["Name"]],
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
    """Fires the rules and runs the function with their events.

    `invoke` runs the function. `give_up` is called with the dead letter of an event that failed for good.
    `first` gives, by rule id, the seconds until a rule fires for the first time; the default is the rule's
    rate. While `throttled` is True, Lambda does not start the function, and keeps an event until it is too
    old; `throttles` has the time of each refusal. All times are monotonic seconds of `clock`.
    """

    def __init__(
        self,
        aws: LocalAws,
        clock: Clock,
        invoke: Callable[[Call], Invocation],
        give_up: Callable[[dict[str, Any]], None],
        first: Mapping[str, float] | None = None,
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
        self._to_queue = "OnFailure" in asynchronous["DestinationConfig"]
        self._jobs: list[tuple[float, int, _Firing | Call]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.throttled = False
        self.throttles: list[float] = []
        self.rules = read_rules(aws)
        aws.on_event = lambda event: self.send(event, EXPIRED)
        start = clock.monotonic()
        for rule in self.rules:
            self._push(start + (first or {}).get(rule.id, rule.seconds), _Firing(rule.id))

    def send(self, event: Any, rule: str = "") -> None:
        """Queue an asynchronous event for the function, as Lambda does."""
        now = self._clock.monotonic()
        self._push(now, Call(event, rule, now, str(uuid.uuid4())))

    def run(self, ended: threading.Event, speed: float) -> None:
        """Run what is due until `ended` is set. `speed` is how fast the clock runs."""
        while not ended.is_set():
            ended.wait(min(_LONGEST_WAIT, self.step() / speed))

    def step(self) -> float:
        """Run one job if one is due. Return the seconds until the next is due, 0 after running one."""
        now = self._clock.monotonic()
        with self._lock:
            due = self._jobs[0][0] if self._jobs else now + _LONGEST_WAIT
            if due > now:
                return due - now
            job = heapq.heappop(self._jobs)[2]
        if isinstance(job, _Firing):
            self._fire(job.rule, due)
        else:
            self._attempt(job)
        return 0.0

    def waiting(self) -> list[float]:
        """Return the ages (in seconds) of the events that wait in Lambda's queue."""
        now = self._clock.monotonic()
        return [now - job.since for *_, job in self._jobs if isinstance(job, Call)]

    def rule(self, id_: str) -> Rule | None:
        """Return a rule as it is now, or None if it no longer exists."""
        return next((rule for rule in read_rules(self._aws) if rule.id == id_), None)

    def _push(self, due: float, job: _Firing | Call) -> None:
        with self._lock:
            heapq.heappush(self._jobs, (due, next(self._numbers), job))

    def _fire(self, id_: str, due: float) -> None:
        rule = self.rule(id_)
        if rule is None:
            return
        now = self._clock.monotonic()
        while due <= now:  # skip firings for which the machine was too slow
            due += rule.seconds
        self._push(due, _Firing(id_))
        if rule.enabled:
            self.send(rule.event or _scheduled_event(rule, self._clock.now()), id_)

    def _attempt(self, call: Call) -> None:
        now = self._clock.monotonic()
        if now - call.since > self._max_age:
            self._lose(call, "EventAgeExceeded", call.attempt, None)
            return
        if self.throttled:
            self.throttles.append(now)
            self._push(now + min(_LONGEST_BACK_OFF, max(1.0, now - call.since)), call)
            return
        again = call.attempt < self._retries
        wait = _RETRY_AFTER[min(call.attempt, 1)]
        then = f"again in {wait / 60:.0f} min" if again else "given up: a dead letter"
        done = self._invoke(replace(call, if_it_fails=then))
        if done.error is None:
            return
        if again:
            self._push(self._clock.monotonic() + wait, replace(call, attempt=call.attempt + 1))
        else:
            self._lose(call, "RetriesExhausted", call.attempt + 1, done.error)

    def _lose(self, call: Call, condition: str, attempts: int, error: Exception | None) -> None:
        if not self._to_queue:
            return
        letter: dict[str, Any] = {
            "version": "1.0",
            "timestamp": f"{self._clock.now():%Y-%m-%dT%H:%M:%S.000Z}",
            "requestContext": {"condition": condition, "approximateInvokeCount": attempts},
            "requestPayload": call.event,
        }
        if error is not None:
            letter["responseContext"] = {"statusCode": 200, "functionError": "Unhandled"}
            letter["responsePayload"] = error_payload(error)
        self._give_up(letter)


def error_payload(error: Exception) -> dict[str, Any]:
    """Return the payload that Lambda returns for a function that raised."""
    trace = traceback.format_list(traceback.extract_tb(error.__traceback__))
    return {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": trace}


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
