"""The tests' stand-in for CloudWatch's alarms evaluates as the CloudWatch User Guide says."""

from __future__ import annotations

import pytest

from tests.integration.alarms import Alarm, Metrics

PLAIN = {
    "Namespace": "N", "MetricName": "M", "Dimensions": [], "Statistic": "Sum", "Period": 300,
    "EvaluationPeriods": 1, "ComparisonOperator": "LessThanThreshold", "Threshold": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("treat", "ages", "state"),
    [
        # CloudWatch finds the old point and never asks how to treat the gap: the reason for FILL.
        ("breaching", [600], "OK"),
        ("breaching", [1000], "ALARM"),
        ("notBreaching", [], "OK"),
        ("missing", [], "INSUFFICIENT_DATA"),
        ("ignore", [], "INSUFFICIENT_DATA"),
    ],
)
def test_the_evaluator_looks_back_before_it_treats_missing_data(
    treat: str, ages: list[int], state: str
) -> None:
    metrics = Metrics()
    for age in ages:
        metrics.put("N", "M", {}, 10_000 - age, 1)
    alarm = Alarm({**PLAIN, "TreatMissingData": treat}, {})
    alarm.evaluate(metrics, 10_000)
    assert alarm.state == state


def test_the_evaluator_counts_datapoints_and_waits_for_the_warm_up_to_end() -> None:
    metrics = Metrics()
    properties = {
        **PLAIN, "EvaluationPeriods": 3, "DatapointsToAlarm": 2, "TreatMissingData": "notBreaching",
        "AlarmActions": ["topic"],
        "WarmUpConfiguration": {
            "WarmUpPeriodDurationInMinutes": 30, "OnlyStartEvaluatingAfterWarmUpPeriodEnds": True,
        },
    }  # fmt: skip
    alarm = Alarm(properties, {}, made=1800.0)
    for at in (1800, 2700, 3600, 3900):
        metrics.put("N", "M", {}, at, 0)  # below the threshold of 1: it breaches
    alarm.evaluate(metrics, 3599.0)
    assert (alarm.state, alarm.mails) == ("INSUFFICIENT_DATA", [])
    alarm.evaluate(metrics, 3600.0)
    # 2700 is one of the latest three datapoints, though not in the last three periods.
    assert alarm.state == "ALARM"
    alarm.evaluate(metrics, 5400.0)
    assert alarm.state == "OK"
    assert alarm.mails == [(3600.0, "ALARM")]


@pytest.mark.parametrize(
    ("expressions", "at", "state"),
    [
        # 1 letter at 300 s, 2 at 1200 s, nothing published between.
        (["FILL(m, REPEAT)", "FILL(a, 0)", "DIFF(b)"], 300, "ALARM"),
        (["FILL(m, REPEAT)", "FILL(a, 0)", "DIFF(b)"], 600, "OK"),
        (["FILL(m, REPEAT)", "FILL(a, 0)", "DIFF(b)"], 1200, "ALARM"),
        (["FILL(m, 0)", "DIFF(a)"], 600, "OK"),
        (["DIFF(m)"], 1200, "OK"),
        (["FILL(m, REPEAT)", "FILL(a, 0)", "DIFF(b)"], 9000, "OK"),
    ],
)
def test_the_evaluator_does_metric_math(expressions: list[str], at: int, state: str) -> None:
    metrics = Metrics()
    metrics.put("N", "M", {}, 300, 1)
    metrics.put("N", "M", {}, 1200, 2)
    stored = {
        "Metric": {"Namespace": "N", "MetricName": "M", "Dimensions": []},
        "Stat": "Maximum",
        "Period": 300,
    }
    last = len(expressions) - 1
    alarm = Alarm(
        {
            "Metrics": [
                {"Id": "m", "ReturnData": False, "MetricStat": stored},
                *(
                    {"Id": "abc"[number], "Expression": text, "ReturnData": number == last}
                    for number, text in enumerate(expressions)
                ),
            ],
            "EvaluationPeriods": 1,
            "ComparisonOperator": "GreaterThanThreshold",
            "Threshold": 0,
            "TreatMissingData": "notBreaching",
        },
        {},
    )
    alarm.evaluate(metrics, float(at))
    assert alarm.state == state
