"""The deployed stack's rules, fired as EventBridge fires them, and Lambda's way with asynchronous events.

Everything that says when, with which event and how often again is read from the deployed stack. Time is the
world's.
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
_LONGEST_BACK_OFF = 300.0  # seconds between two tries of an event while Lambda is throttled: the same page
_LONGEST_WAIT = 0.2  # real seconds until a new event or the end is noticed


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule whose target is the function; `seconds` between two firings, `event` None for the plain one.

    `id` is the logical id in the template.
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
    """One try of an asynchronous event: `rule` is empty for an event that no rule sent, `attempt` from 0."""

    event: Any
    rule: str
    since: float
    request_id: str
    attempt: int = 0
    if_it_fails: str = ""

    @property
    def context(self) -> Context:
        """Lambda's context object; a retry has the request id of the first try."""
        return Context(aws_request_id=self.request_id)


@dataclass(frozen=True, slots=True)
class _Firing:
    rule: str


def read_rules(aws: LocalAws) -> list[Rule]:
    """Return the rules that call the function, as they stand now. Raises SystemExit for a cron expression."""
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
    """Fire the rules; `invoke` runs the function, `give_up` takes what failed for good.

    `first` says how many seconds from now a rule fires for the first time; by default a rate starts to run
    when its rule is made. While `throttled`, Lambda starts nothing and keeps an event until it is too old;
    `throttles` has the time of each refusal. All times are the monotonic clock's.
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
        """Take an asynchronous event, as Lambda's queue would."""
        now = self._clock.monotonic()
        self._push(now, Call(event, rule, now, str(uuid.uuid4())))

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
        if isinstance(job, _Firing):
            self._fire(job.rule, due)
        else:
            self._attempt(job)
        return 0.0

    def waiting(self) -> list[float]:
        """Return the ages in seconds of the events that Lambda holds."""
        now = self._clock.monotonic()
        return [now - job.since for *_, job in self._jobs if isinstance(job, Call)]

    def rule(self, id_: str) -> Rule | None:
        """Return a rule as it stands now; None when it is gone."""
        return next((rule for rule in read_rules(self._aws) if rule.id == id_), None)

    def _push(self, due: float, job: _Firing | Call) -> None:
        with self._lock:
            heapq.heappush(self._jobs, (due, next(self._numbers), job))

    def _fire(self, id_: str, due: float) -> None:
        rule = self.rule(id_)
        if rule is None:
            return
        now = self._clock.monotonic()
        while due <= now:  # what the machine was too slow for is left out
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
    """Return what Lambda answers for a function that raised."""
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
