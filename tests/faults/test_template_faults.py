"""Rules that do not run, events that are not delivered, a function that gets no room: rows 37, 44 and 45."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from local.aws.rules import SWEEP, TICK
from local.aws.stack import choose, expand
from local.clock import VirtualClock
from local.invoke import LocalFunction
from local.world import World
from tests.faults.matrix import api_key_of, kept
from tests.faults.refusals import Refusals
from tests.integration.alarms import Alarm
from tests.integration.watched import Watched
from tests.policies import as_list, statements_of

TEMPLATE = expand()
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c"
MISSED, THROTTLES, DEAD_LETTER = "MissedRunsAlarm", "ThrottlesAlarm", "DeadLetterAlarm"
QUEUE = {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
UNDELIVERED = {"Fn::GetAtt": ["UndeliveredQueue", "Arn"]}
FUNCTION = {"Fn::GetAtt": ["KeepaliveFunction", "Arn"]}
TOPIC = {"Ref": "AlarmTopic"}
RULES = (TICK, SWEEP)
pytestmark = pytest.mark.usefixtures("botocore_sleeps")


@pytest.mark.row(37)
@pytest.mark.parametrize("last_run_after", [60.0, 73.0])
def test_disabled_rules_are_paged_within_15_minutes_while_every_key_lives(
    watched: Watched, last_run_after: float
) -> None:
    watched.go(last_run_after)
    last = watched.rules.runs[-1].at

    watched.go(25, disabled={TICK, SWEEP})

    assert watched.alarms.firing() == {MISSED}
    fired_at = watched.alarms.fired_at(MISSED)
    assert fired_at - last <= 15 * 60 + 60  # alarms are evaluated once a minute
    for name in ("alice", "bob"):
        expires_at = watched.world.exchange.expires_at(api_key_of(name), "usdm")
        assert expires_at is not None
        assert expires_at - fired_at > 10 * 60


@pytest.mark.row(37)
def test_a_lost_permission_to_read_the_accounts_is_paged_as_missed_runs(
    watched: Watched, function: LocalFunction, clock: VirtualClock
) -> None:
    watched.go(60)
    Refusals(function, clock).refuse("dynamodb", "Scan", "AccessDeniedException")
    watched.go(20)
    assert watched.alarms.firing() >= {MISSED}
    assert all(kept(watched.world, name) for name in ("alice", "bob"))


@pytest.mark.row(37)
def test_an_alarm_that_looks_back_would_miss_the_silence_for_longer(world: World, watched: Watched) -> None:
    """FILL is the guard: without it CloudWatch goes on finding the last good run."""
    watched.go(60)
    plain = copy.deepcopy(world.aws.template["Resources"][MISSED]["Properties"])
    [stored] = [metric for metric in plain.pop("Metrics") if "MetricStat" in metric]
    plain |= {**stored["MetricStat"]["Metric"], "Statistic": "Sum", "Period": 900}
    alarm = Alarm(plain, {"AWS::StackName": world.aws.stack_name})

    watched.go(25, disabled={TICK, SWEEP})

    alarm.evaluate(watched.metrics, watched.clock.timestamp())
    assert alarm.state == "OK"
    assert watched.alarms[MISSED].state == "ALARM"


def statements(resources: dict[str, Any], policy: str) -> list[dict[str, Any]]:
    """Return the statements of a resource policy, or of the function's role, or of its permissions."""
    if policy == "permissions":
        return [
            {
                "Effect": "Allow",
                "Action": body["Action"],
                "Principal": {"Service": body["Principal"]},
                "Resource": {"Fn::GetAtt": [body["FunctionName"]["Ref"], "Arn"]},
                "Condition": {"ArnEquals": {"aws:SourceArn": body["SourceArn"]}},
            }
            for body in (
                r["Properties"] for r in resources.values() if r["Type"] == "AWS::Lambda::Permission"
            )
        ]
    properties = resources[policy]["Properties"]
    if "Policies" in properties:
        return statements_of(resources, policy)
    found: list[dict[str, Any]] = properties["PolicyDocument"]["Statement"]
    return found


def allows(
    given: list[dict[str, Any]], service: str | None, action: str, resource: Any, context: dict[str, Any]
) -> bool:
    """Tell whether policy statements allow a service (None: the role itself) an action, as IAM decides."""

    def meets(statement: dict[str, Any]) -> bool:
        conditions = [
            (name, as_list(values))
            for operator in statement.get("Condition", {}).values()
            for name, values in operator.items()
        ]
        return (
            statement["Effect"] == "Allow"
            and action in as_list(statement["Action"])
            and any(held in (resource, "*") for held in as_list(statement["Resource"]))
            and (service is None or service in as_list(statement["Principal"]["Service"]))
            and all(context.get(name) in values for name, values in conditions)
        )

    return any(map(meets, given))


def arn_of(rule: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [rule, "Arn"]}


Delivery = tuple[str, str | None, str, Any, dict[str, Any]]
DELIVERIES: dict[str, Delivery] = {
    **{
        f"{rule} starts the function": (
            "permissions", "events.amazonaws.com", "lambda:InvokeFunction", FUNCTION,
            {"aws:SourceArn": arn_of(rule)},
        )
        for rule in RULES
    },
    **{
        f"{rule} leaves a dead letter": (
            "DeadLetterQueuePolicy", "events.amazonaws.com", "sqs:SendMessage", QUEUE,
            {"aws:SourceArn": arn_of(rule)},
        )
        for rule in RULES
    },
    "Lambda leaves a dead letter with the role": ("KeepaliveRole", None, "sqs:SendMessage", QUEUE, {}),
    "an alarm publishes": (
        "AlarmTopicPolicy", "cloudwatch.amazonaws.com", "sns:Publish", TOPIC,
        {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
    ),
    # EventBridge says of a topic not even which rule it publishes for.
    "a rule tells of accounts": ("AlarmTopicPolicy", "events.amazonaws.com", "sns:Publish", TOPIC, {}),
    **{
        f"{rule} leaves what it could not deliver": (
            "UndeliveredQueuePolicy", "events.amazonaws.com", "sqs:SendMessage", UNDELIVERED,
            {"aws:SourceArn": {"Fn::GetAtt": [rule, "Arn"]}},
        )
        for rule in ("AccountsRule", "WebhookAlarmRule", "WebhookAlarmOverRule", "HeartbeatRule")
    },
}  # fmt: skip


@pytest.mark.row(44)
@pytest.mark.parametrize("name", DELIVERIES)
def test_a_delivery_is_allowed_by_its_policy_and_denied_without(name: str) -> None:
    resources = choose(TEMPLATE, {"AlarmWebhookSecretId": "a", "HeartbeatSecretId": "b"})["Resources"]
    policy, service, action, resource, context = DELIVERIES[name]
    given = statements(resources, policy)

    assert allows(given, service, action, resource, context)
    others = [s for s in given if not allows([s], service, action, resource, context)]
    assert len(given) - len(others) == 1
    assert not allows(others, service, action, resource, context)


@pytest.mark.row(44)
@pytest.mark.parametrize(
    ("policy", "action", "resource"),
    [
        ("DeadLetterQueuePolicy", "sqs:SendMessage", QUEUE),
        ("UndeliveredQueuePolicy", "sqs:SendMessage", UNDELIVERED),
        ("permissions", "lambda:InvokeFunction", FUNCTION),
    ],
)
def test_another_accounts_rules_and_alarms_are_not_let_in(policy: str, action: str, resource: Any) -> None:
    given = statements(choose(TEMPLATE, {})["Resources"], policy)
    stranger = {"aws:SourceArn": "arn:aws:events:eu-west-1:999999999999:rule/x", "aws:SourceAccount": "9"}
    for service in ("events.amazonaws.com", "cloudwatch.amazonaws.com"):
        assert not allows(given, service, action, resource, stranger)
        assert not allows(given, service, action, resource, {})


def destinations(resources: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every place to which something that failed, an alarm or news is sent."""
    for name, resource in resources.items():
        properties = resource["Properties"]
        for target in properties.get("Targets", ()):
            yield name, target["DeadLetterConfig"]["Arn"]
            if target["Arn"] == TOPIC:
                yield name, TOPIC
        if "DestinationConfig" in properties:
            yield name, properties["DestinationConfig"]["OnFailure"]["Destination"]
        for actions in ("AlarmActions", "OKActions", "InsufficientDataActions"):
            for action in properties.get(actions, ()):
                yield name, action


@pytest.mark.row(44)
@pytest.mark.parametrize("parameters", [{}, {"KmsKeyArn": KEY}], ids=["by default", "with a customer key"])
def test_what_is_sent_arrives_where_its_sender_can_encrypt(parameters: dict[str, str]) -> None:
    """The keys that AWS manages for SNS and SQS let neither alarms nor rules in, and drop what they send."""
    resources = choose(TEMPLATE, parameters)["Resources"]
    sent_to = [place for _, place in destinations(resources)]

    assert sent_to.count(QUEUE) == 4  # three rules and the function
    assert sent_to.count(TOPIC) >= 5
    assert len(sent_to) == sum(sent_to.count(place) for place in (QUEUE, TOPIC, UNDELIVERED))
    wanted = {"Ref": "KmsKeyArn"} if parameters else None
    for name in ("DeadLetterQueue", "UndeliveredQueue", "AlarmTopic"):
        assert resources[name]["Properties"].get("KmsMasterKeyId") == wanted
    if parameters:
        role = statements(resources, "KeepaliveRole")
        for action in ("kms:Decrypt", "kms:GenerateDataKey"):
            assert allows(role, None, action, wanted, {})


@pytest.mark.row(45)
def test_throttling_is_paged_and_the_events_are_done_within_their_age(watched: Watched) -> None:
    watched.go(28)
    watched.go(20, throttled=True)
    assert {THROTTLES, MISSED} <= watched.alarms.firing()

    watched.go(12)

    assert watched.rules.letters == []
    assert all(kept(watched.world, name) for name in ("alice", "bob"))
    watched.go(30)
    assert watched.alarms.firing() == set()


@pytest.mark.row(45)
def test_an_event_throttled_past_its_age_is_a_dead_letter(
    watched: Watched,
) -> None:
    watched.go(28)
    watched.go(40, throttled=True)

    assert {letter["requestContext"]["condition"] for letter in watched.rules.letters} == {"EventAgeExceeded"}
    assert watched.alarms.firing() >= {THROTTLES, DEAD_LETTER, MISSED}
    held = watched.rules.waiting()
    assert held
    assert all(age <= 25 * 60 for age in held)


@pytest.mark.row(45)
def test_what_piled_up_while_throttled_costs_one_request_per_account(watched: Watched) -> None:
    watched.go(28)
    watched.go(20, throttled=True)
    watched.world.exchange.requests.clear()
    watched.go(6)
    assert len(watched.rules.runs) > 5
    assert len(watched.world.exchange.requests) == 2
