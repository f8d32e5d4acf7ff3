"""What reaches a chat's webhook: alarms and accounts, told so that a person knows what to do."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from listenkeys.view.remedies import REMEDIES
from local.aws.stack import choose, expand
from local.clock import VirtualClock
from local.invoke import LocalFunction
from local.world import World
from tests.eventbridge import matches, transformed
from tests.faults.matrix import TICK, add_live, api_key_of

TEMPLATE = expand()
WITH = {"AlarmWebhookSecretId": "ops/chat"}
ALARM_ARN = "arn:aws:cloudwatch:ap-northeast-1:123456789012:alarm:"


def stack(**parameters: str) -> dict[str, Any]:
    resources: dict[str, Any] = choose(TEMPLATE, {**WITH, **parameters})["Resources"]
    return resources


def filled(node: Any, names: dict[str, str]) -> Any:
    """Return a pattern with its references resolved."""
    match node:
        case {"Ref": name}:
            return names[name]
        case {"Fn::GetAtt": [name, "Arn"]}:
            return names[name]
        case dict():
            return {key: filled(value, names) for key, value in node.items()}
        case list():
            return [filled(item, names) for item in node]
    return node


def posted(event: dict[str, Any], table: str = "the table", **parameters: str) -> list[dict[str, str]]:
    """Return the bodies that this event makes the stack's rules post."""
    resources = stack(**parameters)
    names = {name: f"{ALARM_ARN}{name}" for name in resources} | {"ListenKeysTable": table}
    bodies = []
    for resource in resources.values():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::Events::Rule" and "EventPattern" in properties:
            [target] = properties["Targets"]
            assert target["Arn"] == {"Fn::GetAtt": ["Webhook", "Arn"]}
            if matches(filled(properties["EventPattern"], names), event):
                bodies.append(json.loads(transformed(target["InputTransformer"], event)))
    return bodies


def alarm_event(name: str, state: str, before: str) -> dict[str, Any]:
    """Return the event of a change of an alarm's state, as CloudWatch sends it.

    After the CloudWatch User Guide, "Alarm events and EventBridge".
    """
    properties = (
        TEMPLATE["Resources"].get(name, {}).get("Properties", {"AlarmDescription": "another stack's"})
    )

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
        "resources": [f"{ALARM_ARN}{name}"],
        "detail": {
            "alarmName": f"listenkey-keeper-{name}-1ABCDEFGHIJKL",
            "configuration": {
                "description": properties["AlarmDescription"].strip(),
                "metrics": [
                    {"id": "m", "metricStat": {"period": 300, "stat": "Maximum"}, "returnData": True}
                ],
            },
            "previousState": of(before),
            "state": of(state),
        },
    }


ALARMS = sorted(n for n, r in TEMPLATE["Resources"].items() if r["Type"] == "AWS::CloudWatch::Alarm")


@pytest.mark.parametrize("before", ["OK", "INSUFFICIENT_DATA"])
@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_is_posted_once_with_its_name_its_meaning_and_what_to_do(name: str, before: str) -> None:
    [body] = posted(alarm_event(name, "ALARM", before), ShardCount="2")

    assert body["text"] == body["content"]
    assert body["text"].startswith(f"ALARM listenkey-keeper-{name}-")
    assert "First: " in body["text"]
    assert len(body["content"]) <= 2000  # Discord's limit


@pytest.mark.parametrize("name", ALARMS)
def test_the_end_of_an_alarm_is_posted_once(name: str) -> None:
    [body] = posted(alarm_event(name, "OK", "ALARM"), ShardCount="2")

    assert body["text"] == body["content"]
    assert re.fullmatch(rf"OK listenkey-keeper-{name}-\w+: the alarm is over\.", body["text"])


@pytest.mark.parametrize(
    ("name", "state", "before"),
    [
        ("KeyAtRiskAlarm", "OK", "INSUFFICIENT_DATA"),  # the warm-up is over
        ("KeyAtRiskAlarm", "INSUFFICIENT_DATA", "ALARM"),
        ("SomebodyElsesAlarm", "ALARM", "OK"),
    ],
)
def test_no_other_change_of_an_alarm_is_posted(name: str, state: str, before: str) -> None:
    assert posted(alarm_event(name, state, before)) == []


def test_an_account_that_fails_and_recovers_is_posted_by_name_with_what_to_do(
    world: World, function: LocalFunction, clock: VirtualClock
) -> None:
    table = world.aws.outputs["ListenKeysTableName"]
    add_live(world, clock, "alice", minutes=30)
    world.exchange.revoke(api_key_of("alice"))
    function.invoke(TICK)
    world.exchange.add_account(api_key_of("alice"))
    clock.advance(minutes=30)
    function.invoke(TICK)

    sent = world.aws.sent_events()
    bodies = [body for event in sent for body in posted(event, table)]
    assert [body["text"] == body["content"] for body in bodies] == [True, True]
    failing, recovered = (body["text"] for body in bodies)
    assert failing.startswith(
        "FAILING alice (usdm): INVALID_API_KEY. What to do: check the API key at Binance: "
    )
    assert re.search(r" End of its listenKey: 20\S+Z\.$", failing)
    assert re.fullmatch(r"RECOVERED alice \(usdm\): its listenKey lives until \S+Z\.", recovered)
    # Those of another stack are posted by that stack.
    assert [body for event in sent for body in posted(event, "another table")] == []


def test_an_account_that_never_had_a_key_is_posted(world: World, function: LocalFunction) -> None:
    world.add_account("bob", api_key_of("bob"))
    world.exchange.revoke(api_key_of("bob"))
    function.invoke(TICK)

    [event] = world.aws.sent_events()
    [body] = posted(event, world.aws.outputs["ListenKeysTableName"])
    assert body["text"].startswith("FAILING bob (usdm): INVALID_API_KEY. What to do: ")
    assert body["text"].endswith(" End of its listenKey: null.")


def test_a_row_whose_id_would_break_the_json_is_posted_without_what_would(
    world: World, function: LocalFunction
) -> None:
    world.add_account('a"b\\c\n', api_key_of("bob"))
    function.invoke(TICK)

    [event] = world.aws.sent_events()
    [body] = posted(event, world.aws.outputs["ListenKeysTableName"])
    assert body["text"].startswith("FAILING a?b?c? (): INVALID_ACCOUNT.")


def test_no_description_or_remedy_that_is_put_into_a_body_can_break_its_json() -> None:
    """EventBridge does not escape what it puts in."""
    descriptions = [TEMPLATE["Resources"][name]["Properties"]["AlarmDescription"].strip() for name in ALARMS]
    for text in [*descriptions, *REMEDIES.values()]:
        assert not re.search(r'["\\\x00-\x1f]', text)
    broken = copy.deepcopy(alarm_event("KeyAtRiskAlarm", "ALARM", "OK"))
    broken["detail"]["configuration"]["description"] = 'with a "quotation"'
    with pytest.raises(json.JSONDecodeError):
        posted(broken)


def test_the_webhook_is_called_with_the_url_in_the_secret_that_was_named_and_left_out_without_one() -> None:
    with_url, without = stack(), choose(TEMPLATE, {})["Resources"]
    made = {name: resource["Type"] for name, resource in with_url.items() if name not in without}

    assert sorted(made.values()) == sorted(
        ["AWS::Events::ApiDestination", "AWS::Events::Connection", "AWS::IAM::Role"]
        + ["AWS::Events::Rule"] * 4
    )
    assert with_url["Webhook"]["Properties"]["InvocationEndpoint"] == {
        "Fn::Sub": "{{resolve:secretsmanager:${AlarmWebhookSecretId}}}"
    }
    assert not any("NoEcho" in parameter for parameter in TEMPLATE["Parameters"].values())
    [statement] = with_url["WebhookRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == (
        "events:InvokeApiDestination", {"Fn::GetAtt": ["Webhook", "Arn"]}
    )  # fmt: skip


@pytest.mark.parametrize("name", [n for n in stack() if n.startswith("Webhook") and n.endswith("Rule")])
def test_what_the_webhook_does_not_take_is_tried_again_for_a_while_and_makes_no_letter(name: str) -> None:
    [target] = stack()[name]["Properties"]["Targets"]

    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 900, "MaximumRetryAttempts": 10}
    assert "DeadLetterConfig" not in target  # it would fire DeadLetterAlarm, whose news would be sent here


@pytest.mark.parametrize(
    ("secret", "taken"),
    [
        ("", True),
        ("ops/chat", True),
        ("arn:aws:secretsmanager:ap-northeast-1:123456789012:secret:ops/chat-a1B2c3", True),
        ("https://hooks.slack.com/services/T000", False),
        ("ops/chat:SecretString:url", False),
    ],
)
def test_the_webhooks_secret_is_named_and_its_url_refused(secret: str, taken: bool) -> None:
    pattern = TEMPLATE["Parameters"]["AlarmWebhookSecretId"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, secret)) is taken


@pytest.mark.parametrize(
    ("pattern", "event", "taken"),
    [
        ({"a": ["x"]}, {"a": "x", "b": 1}, True),
        ({"a": ["x"]}, {"a": ["y", "x"]}, True),
        ({"a": ["x"]}, {}, False),
        ({"a": {"b": ["x", "y"]}}, {"a": {"b": "y"}}, True),
        ({"a": {"b": ["x"]}}, {"a": "x"}, False),
        ({"a": ["x"], "b": ["y"]}, {"a": "x", "b": "z"}, False),
    ],
)
def test_a_pattern_matches_as_eventbridge_says(
    pattern: dict[str, Any], event: dict[str, Any], taken: bool
) -> None:
    assert matches(pattern, event) is taken


@pytest.mark.parametrize(
    ("template", "made"),
    [
        # The examples of the EventBridge User Guide, "Amazon EventBridge input transformation".
        ('"instance <instance> is in <state>"', '"instance i-0123456789 is in RUNNING"'),
        ('{"of" : <instance>, "state": "<state>"}', '{"of" : "i-0123456789", "state": "RUNNING"}'),
        (
            '{"instanceStatus": "instance \\"<instance>\\" is in <state>"}',
            '{"instanceStatus": "instance \\"i-0123456789\\" is in RUNNING"}',
        ),
        ('{"state": [ 9, <state>, true ]}', '{"state": [ 9, "RUNNING", true ]}'),
    ],
)  # fmt: skip
def test_an_input_is_transformed_as_eventbridge_says(template: str, made: str) -> None:
    paths = {"instance": "$.detail.instance-id", "state": "$.detail.state"}
    paths = {name: path for name, path in paths.items() if f"<{name}>" in template}
    event = {"detail": {"instance-id": "i-0123456789", "state": "RUNNING"}}

    assert transformed({"InputTemplate": template, "InputPathsMap": paths}, event) == made
