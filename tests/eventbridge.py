"""The part of EventBridge that the template needs: which events a rule matches, and what its targets receive.

It follows the EventBridge User Guide, "Event patterns" and "Amazon EventBridge input transformation". What
those pages allow but the template does not use fails, so that nothing is guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from moto.events.models import EventPattern


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Return whether an event matches a pattern."""
    return EventPattern.load(json.dumps(pattern)).matches_event(event)


def transformed(transformer: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    """Return the output of an input transformer for an event.

    Inside a JSON string a variable is inserted unchanged: EventBridge escapes nothing. Elsewhere it is
    inserted as JSON. EventBridge leaves out a variable whose path is not in the event; the template has no
    such variable, so this fails.
    """
    template: str = transformer["InputTemplate"]
    paths: Mapping[str, str] = transformer.get("InputPathsMap", {})
    used = set(re.findall(r"<([\w.-]+)>", template))
    assert used == paths.keys(), "every variable is used, and every one that is used is there"
    values = {name: _at(path, event) for name, path in paths.items()}

    def put(found: re.Match[str]) -> str:
        value = values[found[1]]
        in_string = len(re.findall(r'(?<!\\)"', template[: found.start()])) % 2 == 1
        return value if in_string and isinstance(value, str) else json.dumps(value)

    return re.sub(r"<([\w.-]+)>", put, template)


class Bus:
    """The rules with an event pattern in a template whose conditions are resolved.

    `names` resolves the references in their patterns.
    """

    def __init__(self, template: Mapping[str, Any], names: Mapping[str, str]) -> None:
        self._rules = [
            (_filled(rule["EventPattern"], names), rule["Targets"])
            for rule in (resource.get("Properties", {}) for resource in template["Resources"].values())
            if "EventPattern" in rule
        ]

    def hand(self, event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the logical id of each target that receives this event, and the text that it receives."""
        for pattern, targets in self._rules:
            if matches(pattern, event):
                for target in targets:
                    transformer = _filled(target.get("InputTransformer"), {})
                    match target["Arn"]:
                        case {"Ref": name} | {"Fn::GetAtt": [name, _]}:
                            yield name, transformed(transformer, event) if transformer else json.dumps(event)


def alarm_event(name: str, description: str, state: str, before: str) -> dict[str, Any]:
    """Return the event that CloudWatch sends when an alarm's state changes from `before` to `state`.

    It follows the CloudWatch User Guide, "Alarm events and EventBridge".
    """

    def of(value: str) -> dict[str, str]:
        return {
            "reason": 'Threshold Crossed: 1 datapoint [1.0 (24/11/26 10:00:00)] was greater than "0.0".',
            "reasonData": json.dumps({"version": "1.0", "recentDatapoints": [1.0], "threshold": 0.0}),
            "timestamp": "2026-11-24T10:01:00.000+0000",
            "value": value,
        }

    return {
        "version": "0",
        "id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92",
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": "123456789012",
        "time": "2026-11-24T10:01:00Z",
        "region": "ap-northeast-1",
        "resources": [arn_of_alarm(name)],
        "detail": {
            "alarmName": f"listenkey-keeper-{name}-1ABCDEFGHIJKL",
            "configuration": {
                "description": description.strip(),
                "metrics": [
                    {"id": "m", "metricStat": {"period": 300, "stat": "Maximum"}, "returnData": True}
                ],
            },
            "previousState": of(before),
            "state": of(state),
        },
    }


def arn_of_alarm(name: str) -> str:
    """Return an alarm's ARN."""
    return f"arn:aws:cloudwatch:ap-northeast-1:123456789012:alarm:{name}"


def _filled(node: Any, names: Mapping[str, str]) -> Any:
    match node:
        case {"Ref": name} | {"Fn::GetAtt": [name, "Arn"]}:
            return names[name]
        case {"Fn::Sub": str(text)}:
            return text.replace("${AWS::StackName}", "listenkey-keeper").replace(
                "${AWS::Region}", "ap-northeast-1"
            )
        case dict():
            return {key: _filled(value, names) for key, value in node.items()}
        case list():
            return [_filled(item, names) for item in node]
    return node


def _at(path: str, event: Mapping[str, Any]) -> Any:
    assert re.fullmatch(r"\$(\.[\w-]+)+", path), f"{path}: not known here"
    value: Any = event
    for name in path.split(".")[1:]:
        assert isinstance(value, dict), f"{path} leads nowhere"
        assert name in value, f"{path} leads nowhere"
        value = value[name]
    return value
