"""What reaches a chat's webhook: alarms and accounts, told so that a person knows what to do."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from listenkeys.aws.announcements import FAILING, NAMED, digests
from listenkeys.view.remedies import REMEDIES, remedy
from local.aws.stack import choose, expand
from tests.eventbridge import Bus, alarm_event, arn_of_alarm
from tests.faults.matrix import TICK, add_live, api_key_of
from tests.scene import Scene

TEMPLATE = expand()
WITH = {"AlarmWebhookSecretId": "ops/chat"}


def posted(event: dict[str, Any], table: str = "the table", **parameters: str) -> list[dict[str, str]]:
    """Return the bodies that this event makes the stack's rules post."""
    names = {name: arn_of_alarm(name) for name in TEMPLATE["Resources"]} | {"ListenKeysTable": table}
    bus = Bus(choose(TEMPLATE, {**WITH, **parameters}), names)
    return [json.loads(body) for target, body in bus.hand(event) if target.endswith("Webhook")]


def changed(name: str, state: str, before: str) -> dict[str, Any]:
    resource = TEMPLATE["Resources"].get(name, {"Properties": {"AlarmDescription": "another stack's"}})
    return alarm_event(name, resource["Properties"]["AlarmDescription"], state, before)


ALARMS = sorted(n for n, r in TEMPLATE["Resources"].items() if r["Type"] == "AWS::CloudWatch::Alarm")
TELLING = [n for n in ALARMS if "AlarmActions" in TEMPLATE["Resources"][n]["Properties"]]
POSTED = [n for n in TELLING if n != "UndeliveredAlarm"]  # its own post would keep it on


@pytest.mark.parametrize("before", ["OK", "INSUFFICIENT_DATA"])
@pytest.mark.parametrize("name", POSTED)
def test_an_alarm_is_posted_once_with_its_name_its_meaning_and_what_to_do(name: str, before: str) -> None:
    [body] = posted(changed(name, "ALARM", before), ShardCount="2")

    assert body["text"] == body["content"]
    assert body["text"].startswith(f"ALARM listenkey-keeper-{name}-")
    assert "First: " in body["text"]
    assert len(body["content"]) <= 2000  # Discord's limit


@pytest.mark.parametrize("name", POSTED)
def test_the_end_of_an_alarm_is_posted_once(name: str) -> None:
    [body] = posted(changed(name, "OK", "ALARM"), ShardCount="2")

    assert body["text"] == body["content"]
    assert re.fullmatch(
        rf"OK listenkey-keeper-{name}-\w+ \(ap-northeast-1\): the alarm is over\.", body["text"]
    )


@pytest.mark.parametrize(
    ("name", "state", "before"),
    [
        ("KeyAtRiskAlarm", "OK", "INSUFFICIENT_DATA"),  # the warm-up is over
        ("KeyAtRiskAlarm", "INSUFFICIENT_DATA", "ALARM"),
        ("SomebodyElsesAlarm", "ALARM", "OK"),
        *((name, "ALARM", "OK") for name in ALARMS if name not in POSTED),
    ],
)
def test_no_other_change_of_an_alarm_is_posted(name: str, state: str, before: str) -> None:
    assert posted(changed(name, state, before)) == []


def test_an_account_that_fails_is_told_by_name_with_what_to_do(world: Scene) -> None:
    table = world.aws.outputs["ListenKeysTableName"]
    add_live(world, world.clock, "alice", minutes=30)
    world.exchange.revoke(api_key_of("alice"))
    world.invoke(TICK)
    world.exchange.add_account(api_key_of("alice"))
    world.clock.advance(minutes=30)
    world.invoke(TICK)

    sent = world.aws.sent_events()
    bodies = [body for event in sent for body in posted(event, table)]
    assert [body["text"] == body["content"] for body in bodies] == [True, True]
    to_do = remedy("INVALID_API_KEY", "alice")
    end = "See `listenkeys status`. Stack listenkey-keeper, ap-northeast-1."
    assert [body["text"] for body in bodies] == [
        f"FAILING 1 account. INVALID_API_KEY: alice (usdm). What to do: {to_do}. {end}",
        "RECOVERED 1 account. alice (usdm). RECREATED 1 (alice): bots missed events, or the API key is "
        f"another account's. {end}",
    ]
    # Those of another stack are posted by that stack.
    assert [body for event in sent for body in posted(event, "another table")] == []


def test_a_row_whose_id_would_break_the_json_is_told_without_what_would(world: Scene) -> None:
    world.add_account('a"b\\c\n', api_key_of("bob"))
    world.invoke(TICK)

    table = world.aws.outputs["ListenKeysTableName"]
    [body] = [body for event in world.aws.sent_events() for body in posted(event, table)]
    assert body["text"].startswith("FAILING 1 account. INVALID_ACCOUNT: a?b?c? (?).")


def test_the_longest_account_message_fits_into_a_post_to_discord() -> None:
    codes = sorted(REMEDIES, key=lambda code: -len(REMEDIES[code]))
    failing = [
        {"accountId": f"{number:032}", "product": "portfolio-pro", "errorCode": codes[number % len(codes)]}
        for number in range(NAMED)
    ]
    texts = [json.dumps({"detailType": FAILING, "detail": {**each, "outcome": "FAILED"}}) for each in failing]
    [(kind, detail)] = digests(texts, [], True)
    event = {
        "source": "listenkey-keeper",
        "detail-type": kind,
        "detail": {**detail, "listenKeysTable": "the table"},
    }

    [body] = posted(event)
    longest_stack_name = 128 - len("listenkey-keeper")
    assert len(body["content"]) + longest_stack_name <= 2000


def test_no_text_that_is_put_into_a_body_can_break_its_json() -> None:
    """EventBridge does not escape what it puts in."""
    descriptions = [TEMPLATE["Resources"][name]["Properties"]["AlarmDescription"].strip() for name in ALARMS]
    for text in [*descriptions, *REMEDIES.values()]:
        assert not re.search(r'["\\\x00-\x1f]', text)
    broken = copy.deepcopy(changed("KeyAtRiskAlarm", "ALARM", "OK"))
    broken["detail"]["configuration"]["description"] = 'with a "quotation"'
    with pytest.raises(json.JSONDecodeError):
        posted(broken)


@pytest.mark.parametrize(
    ("parameters", "called"),
    [
        (WITH, {"Webhook": "AlarmWebhookSecretId", "AlarmWebhook": "AlarmWebhookSecretId"}),
        ({"HeartbeatSecretId": "ops/beat"}, {"Heartbeat": "HeartbeatSecretId"}),
        ({}, {}),
    ],
    ids=["webhook", "heartbeat", "neither"],
)
def test_a_url_is_called_if_its_secret_was_named(parameters: dict[str, str], called: dict[str, str]) -> None:
    resources = choose(TEMPLATE, parameters)["Resources"]
    urls = {
        name: resource["Properties"]["InvocationEndpoint"]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Events::ApiDestination"
    }
    assert urls == {
        name: {"Fn::Sub": f"{{{{resolve:secretsmanager:${{{secret}}}}}}}"} for name, secret in called.items()
    }
    assert not any("NoEcho" in parameter for parameter in TEMPLATE["Parameters"].values())
    assert ("WebhookRole" in resources) is bool(called)
    if called:
        [statement] = resources["WebhookRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
        assert statement["Action"] == "events:InvokeApiDestination"
        assert statement["Resource"] == [{"Fn::GetAtt": [name, "Arn"]} for name in called]
