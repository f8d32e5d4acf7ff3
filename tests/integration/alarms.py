"""CloudWatch, as far as the template's alarms need it: metrics from EMF lines, and alarms over them.

moto knows no alarm of a stack. The rules are those of the CloudWatch User Guide, "Alarm evaluation" and
"Configuring how CloudWatch alarms treat missing data": an alarm is evaluated every minute over the window
that ends then; where data is missing CloudWatch looks further back, and what TreatMissingData says counts
only when it still finds too little.
"""

from __future__ import annotations

import json
import operator
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from local.clock import VirtualClock
from local.invoke import LocalFunction
from local.world import World
from tests.rules import Rules

LOOK_BACK = 2  # periods beyond the evaluation periods in which CloudWatch looks for data
_COMPARE = {
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
}
_STATISTICS = {"Sum": sum, "Minimum": min, "Maximum": max}
OK, ALARM, INSUFFICIENT = "OK", "ALARM", "INSUFFICIENT_DATA"
Series = tuple[str, str, frozenset[tuple[str, str]]]


class Metrics:
    """Data points by namespace, name and dimensions; time in epoch seconds of the virtual clock."""

    def __init__(self) -> None:
        self._points: dict[Series, list[tuple[float, float]]] = defaultdict(list)

    def read(self, output: str, at: float) -> None:
        """Take in the EMF lines of what a function printed, as CloudWatch Logs would, printed at `at`."""
        for line in output.splitlines():
            content = json.loads(line)
            for directive in content.get("_aws", {}).get("CloudWatchMetrics", ()):
                for names in directive["Dimensions"]:
                    dimensions = {name: content[name] for name in names}
                    for metric in directive["Metrics"]:
                        value = content[metric["Name"]]
                        for number in value if isinstance(value, list) else [value]:
                            self.put(directive["Namespace"], metric["Name"], dimensions, at, number)

    def put(self, namespace: str, name: str, dimensions: Mapping[str, str], at: float, value: float) -> None:
        """Take in a data point."""
        self._points[namespace, name, frozenset(dimensions.items())].append((at, value))

    def names(self, namespace: str) -> set[str]:
        """Return the names of the metrics of a namespace."""
        return {name for space, name, _ in self._points if space == namespace}

    def dimensions(self, namespace: str) -> set[frozenset[tuple[str, str]]]:
        """Return every set of dimensions in a namespace: each costs as much as a metric of its own."""
        return {dimensions for space, _, dimensions in self._points if space == namespace}

    def statistic(self, series: Series, kind: str, start: float, end: float) -> float | None:
        """Return a statistic over (start, end], None without data."""
        values = [value for at, value in self._points.get(series, ()) if start < at <= end]
        return _STATISTICS[kind](values) if values else None


class Alarm:
    """One alarm of the expanded template. `names` resolves its references to what was deployed."""

    def __init__(self, properties: Mapping[str, Any], names: Mapping[str, str]) -> None:
        self._properties = properties
        self._names = names
        self.periods: int = properties["EvaluationPeriods"]
        assert properties.get("DatapointsToAlarm", self.periods) == self.periods, "not known here"
        self.state = INSUFFICIENT
        self.history: list[tuple[float, str]] = []
        if "Metrics" in properties:
            [stored] = [m for m in properties["Metrics"] if "MetricStat" in m]
            [watched] = [m for m in properties["Metrics"] if m.get("ReturnData", True)]
            filled = re.fullmatch(r"FILL\((\w+), *(-?[\d.]+)\)", watched["Expression"])
            assert filled, "not known here"
            assert filled[1] == stored["Id"]
            self._fill: float | None = float(filled[2])
            metric, self._statistic, self.period = (
                stored["MetricStat"]["Metric"],
                stored["MetricStat"]["Stat"],
                stored["MetricStat"]["Period"],
            )
        else:
            self._fill = None
            metric, self._statistic, self.period = properties, properties["Statistic"], properties["Period"]
        dimensions = {d["Name"]: self._resolved(d["Value"]) for d in metric["Dimensions"]}
        self.series: Series = (metric["Namespace"], metric["MetricName"], frozenset(dimensions.items()))

    def evaluate(self, metrics: Metrics, at: float) -> None:
        """Set the state as CloudWatch would at this time."""
        state = self._state(metrics, at)
        if state != self.state:
            self.history.append((at, state))
        self.state = state

    def _state(self, metrics: Metrics, at: float) -> str:
        values = [
            metrics.statistic(
                self.series, self._statistic, at - (back + 1) * self.period, at - back * self.period
            )
            for back in range(self.periods + LOOK_BACK)
        ]
        if self._fill is not None and any(value is not None for value in values):
            values = [self._fill if value is None else value for value in values]
        compare = _COMPARE[self._properties["ComparisonOperator"]]
        found = [compare(value, self._properties["Threshold"]) for value in values if value is not None]
        breaching = found[: self.periods]
        missing = self.periods - len(breaching)
        treat = self._properties["TreatMissingData"]
        if missing and treat in ("breaching", "notBreaching"):
            breaching += [treat == "breaching"] * missing
        elif missing and not breaching:
            return self.state if treat == "ignore" else INSUFFICIENT
        return ALARM if all(breaching) else OK

    def _resolved(self, value: Any) -> str:
        match value:
            case str():
                return value
            case {"Ref": name}:
                return self._names[name]
            case {"Fn::GetAtt": [name, "QueueName"]}:
                return self._names[name].rpartition("/")[2]  # what a queue is known by is its URL
        raise NotImplementedError(value)


class Alarms(dict[str, Alarm]):
    """Every alarm of a deployed template."""

    def __init__(self, template: Mapping[str, Any], names: Mapping[str, str]) -> None:
        super().__init__(
            (name, Alarm(resource["Properties"], names))
            for name, resource in template["Resources"].items()
            if resource["Type"] == "AWS::CloudWatch::Alarm"
        )

    def firing(self) -> set[str]:
        """Return the names of the alarms that are in ALARM now."""
        return {name for name, alarm in self.items() if alarm.state == ALARM}

    def fired_at(self, name: str) -> float:
        """Return when an alarm first went to ALARM."""
        return next(at for at, state in self[name].history if state == ALARM)


class Watched:
    """A world whose rules run, with CloudWatch watching.

    What SQS and Lambda publish of their own is put here as they would, for letters and throttles that the
    rules really brought about: the number of letters in the queue once a minute, and each throttle.
    """

    def __init__(self, world: World, function: LocalFunction, clock: VirtualClock) -> None:
        self.world, self.clock = world, clock
        self.rules = Rules(world, function.invoke, clock)
        self.metrics = Metrics()
        self.alarms = Alarms(world.aws.template, world.aws.resources)
        self._purged = 0

    def purge(self) -> None:
        """Empty the dead-letter queue."""
        self._purged = len(self.rules.letters)

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
            letters = sum(left_at <= at for left_at in self.rules.left_at[self._purged :])
            self.metrics.put("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue, at, letters)
            for alarm in self.alarms.values():
                alarm.evaluate(self.metrics, at)
            at += 60
