"""The part of CloudWatch that the template's alarms need: metrics from EMF lines, and alarms over them.

moto does not evaluate a stack's alarms. The rules here are those of the CloudWatch User Guide, "Alarm
evaluation", "Configuring how CloudWatch alarms treat missing data", "Alarm warm-up periods" and "Using metric
math". An alarm is evaluated every minute over the window that ends then. If data is missing, CloudWatch looks
further back; TreatMissingData applies only if it still finds too little. While an alarm warms up, it is in
INSUFFICIENT_DATA and does nothing.
"""

from __future__ import annotations

import json
import operator
import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any

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
    """Data points by namespace, name and dimensions. Times are epoch seconds of the virtual clock."""

    def __init__(self) -> None:
        self._points: dict[Series, list[tuple[float, float]]] = defaultdict(list)

    def read(self, output: str, at: float) -> None:
        """Store the metrics in the EMF lines of a function's output, as CloudWatch Logs would at `at`."""
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
        """Store a data point."""
        self._points[namespace, name, frozenset(dimensions.items())].append((at, value))

    def names(self, namespace: str) -> set[str]:
        """Return the names of the metrics of a namespace."""
        return {name for space, name, _ in self._points if space == namespace}

    def dimensions(self, namespace: str) -> set[frozenset[tuple[str, str]]]:
        """Return every set of dimensions in a namespace. Each is billed as a metric of its own."""
        return {dimensions for space, _, dimensions in self._points if space == namespace}

    def statistic(self, series: Series, kind: str, start: float, end: float) -> float | None:
        """Return a statistic over (start, end], or None if there is no data."""
        values = [value for at, value in self._points.get(series, ()) if start < at <= end]
        return _STATISTICS[kind](values) if values else None


class Alarm:
    """An alarm of the expanded template, created at `made` (epoch seconds).

    `names` maps its references to deployed resources. `history` has the state changes with their times, and
    `mails` those for which the alarm has an action.
    """

    def __init__(self, properties: Mapping[str, Any], names: Mapping[str, str], made: float = 0.0) -> None:
        self._properties = properties
        self._names = names
        self.description: str = properties.get("AlarmDescription", "")
        self.periods: int = properties["EvaluationPeriods"]
        self._to_alarm: int = properties.get("DatapointsToAlarm", self.periods)
        warm_up = properties.get("WarmUpConfiguration")
        # Without this setting the warm-up would end with the first data.
        whole = warm_up is None or warm_up.get("OnlyStartEvaluatingAfterWarmUpPeriodEnds")
        assert whole, "not known here"
        self._quiet_until = made + 60 * (warm_up["WarmUpPeriodDurationInMinutes"] if warm_up else 0)
        self.state = INSUFFICIENT
        self.history: list[tuple[float, str]] = []
        self.mails: list[tuple[float, str]] = []
        self._expressions: dict[str, str] = {}
        if "Metrics" in properties:
            [stored] = [m for m in properties["Metrics"] if "MetricStat" in m]
            [self._watched] = [m["Id"] for m in properties["Metrics"] if m.get("ReturnData", True)]
            self._expressions = {m["Id"]: m["Expression"] for m in properties["Metrics"] if "Expression" in m}
            self._stored: str = stored["Id"]
            metric, self._statistic, self.period = (
                stored["MetricStat"]["Metric"],
                stored["MetricStat"]["Stat"],
                stored["MetricStat"]["Period"],
            )
        else:
            self._watched = self._stored = "metric"
            metric, self._statistic, self.period = properties, properties["Statistic"], properties["Period"]
        dimensions = {d["Name"]: self._resolved(d["Value"]) for d in metric["Dimensions"]}
        self.series: Series = (metric["Namespace"], metric["MetricName"], frozenset(dimensions.items()))

    def evaluate(self, metrics: Metrics, at: float) -> None:
        """Evaluate the alarm as CloudWatch would at this time, and update its state."""
        if at < self._quiet_until:
            return
        state = self._state(metrics, at)
        if state != self.state:
            self.history.append((at, state))
            if self._properties.get({OK: "OKActions", ALARM: "AlarmActions"}.get(state, "")):
                self.mails.append((at, state))
        self.state = state

    def _state(self, metrics: Metrics, at: float) -> str:
        compare = _COMPARE[self._properties["ComparisonOperator"]]
        values = reversed(self._values(self._watched, metrics, at))
        found = [compare(value, self._properties["Threshold"]) for value in values if value is not None]
        breaching = found[: self.periods]
        missing = self.periods - len(breaching)
        treat = self._properties["TreatMissingData"]
        if missing and treat in ("breaching", "notBreaching"):
            breaching += [treat == "breaching"] * missing
        elif missing:
            assert self.periods == 1 or (treat == "ignore" and self._to_alarm == self.periods), (
                "not known here"
            )
            if not breaching or all(breaching):
                return self.state if treat == "ignore" else INSUFFICIENT
        return ALARM if sum(breaching) >= self._to_alarm else OK

    def _values(self, id_: str, metrics: Metrics, at: float) -> list[float | None]:
        """Return the value of a metric or an expression of this alarm in each period, the latest last."""
        if id_ == self._stored:
            return [
                metrics.statistic(
                    self.series, self._statistic, at - (back + 1) * self.period, at - back * self.period
                )
                for back in reversed(range(self.periods + LOOK_BACK))
            ]
        function = re.fullmatch(r"(\w+)\((\w+)(?:, *(\w+))?\)", self._expressions[id_])
        assert function, "not known here"
        values = self._values(function[2], metrics, at)
        match function[1], function[3]:
            case "DIFF", None:
                pairs = pairwise(values)
                return [None, *(None if a is None or b is None else b - a for a, b in pairs)]
            case "FILL", "REPEAT":
                return list(accumulate(values, lambda last, value: last if value is None else value))
            case "FILL", str(number) if any(value is not None for value in values):
                return [float(number) if value is None else value for value in values]
            case "FILL", _:
                return values
        raise AssertionError(f"{self._expressions[id_]} is not known here")

    def _resolved(self, value: Any) -> str:
        match value:
            case str():
                return value
            case {"Ref": name}:
                return self._names[name]
            case {"Fn::GetAtt": [name, "QueueName"]}:
                return self._names[name].rpartition("/")[2]  # a queue's physical id is its URL
        raise NotImplementedError(value)


class Alarms(dict[str, Alarm]):
    """Every alarm of a template, deployed at `made` (epoch seconds)."""

    def __init__(self, template: Mapping[str, Any], names: Mapping[str, str], made: float = 0.0) -> None:
        super().__init__(
            (name, Alarm(resource["Properties"], names, made))
            for name, resource in template["Resources"].items()
            if resource["Type"] == "AWS::CloudWatch::Alarm"
        )

    def firing(self) -> set[str]:
        """Return the names of the alarms that are in ALARM now."""
        return {name for name, alarm in self.items() if alarm.state == ALARM}

    def fired_at(self, name: str) -> float:
        """Return when an alarm first went to ALARM."""
        return next(at for at, state in self[name].history if state == ALARM)
