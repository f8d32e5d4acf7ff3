"""Two stacks in one account and region share nothing: row 67."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from local.aws.stack import REGION, LocalAws, choose, expand
from local.binance.exchange import Exchange
from local.clock import VirtualClock
from local.world import World
from tests.dashboard import body_of
from tests.faults.matrix import TICK, add_live
from tests.integration.alarms import Alarms, Metrics
from tests.leaks import WatchedFunction

TEMPLATE = expand()
EVERYTHING = {
    "AlarmEmail": "ops@example.com",
    "AlarmWebhookSecretId": "ops/chat",
    "KmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c",
    "SubnetIds": "subnet-1",
    "SecurityGroupIds": "sg-1",
    "ShardCount": "2",
}


@pytest.fixture(scope="module")
def stacks() -> Iterator[list[LocalAws]]:
    with LocalAws({"ShardCount": "2"}) as one, LocalAws({"ShardCount": "2"}) as other:
        yield [one, other]


def metrics_of(aws: LocalAws, clock: VirtualClock) -> Metrics:
    """Return what a function of this stack counts in a run over one shard."""
    with World(exchange=Exchange(now=clock.timestamp), aws=aws) as world:
        add_live(world, clock, "alice", minutes=30)
        function = WatchedFunction(world, clock)
        function.invoke(TICK)
        queue = {"QueueUrl": aws.resources["WorkQueue"]}
        metrics = Metrics()
        for message in aws.client("sqs").receive_message(**queue, MaxNumberOfMessages=10)["Messages"]:
            attributes = {"SentTimestamp": str(int(clock.timestamp() * 1000))}
            record = {
                "messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"], "attributes": attributes, "eventSource": "aws:sqs",
            }  # fmt: skip
            done = function.invoke({"Records": [record]}, handler="shard_handler")
            metrics.read(done.output, clock.timestamp())
    return metrics


@pytest.mark.slow
@pytest.mark.row(67)
def test_the_functions_of_two_stacks_count_in_metrics_of_their_own(
    stacks: list[LocalAws], clock: VirtualClock
) -> None:
    one, other = (metrics_of(aws, clock).dimensions("ListenKeyKeeper") for aws in stacks)

    assert one
    assert other
    assert one.isdisjoint(other)


@pytest.mark.slow
@pytest.mark.row(67)
def test_the_alarms_of_two_stacks_watch_metrics_of_their_own(stacks: list[LocalAws]) -> None:
    one, other = (
        {
            alarm.series
            for alarm in Alarms(aws.template, {**aws.resources, "AWS::StackName": aws.stack_name}).values()
        }
        for aws in stacks
    )
    assert one.isdisjoint(other)


@pytest.mark.row(67)
def test_two_stacks_share_no_resource_and_no_log_group(stacks: list[LocalAws]) -> None:
    one, other = stacks
    groups = {group["logGroupName"] for group in one.client("logs").describe_log_groups()["logGroups"]}

    assert set(one.resources.values()).isdisjoint(other.resources.values())
    assert {aws.resources["KeepaliveLogGroup"] for aws in stacks} <= groups
    assert one.function_environment().items() & other.function_environment().items() == {
        (name, value)
        for name, value in one.function_environment().items()
        if not name.endswith("_TABLE") and name not in ("WORK_QUEUE_URL", "POWERTOOLS_SERVICE_NAME")
    }


def names_given(resource: dict[str, Any]) -> dict[str, Any]:
    """Return what the template itself names a resource, or says whose part it is."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, resource["Type"]).schema
    identifying = {pointer.removeprefix("/properties/") for pointer in schema["primaryIdentifier"]}
    named = {"Name", *(key for key in identifying if key.endswith("Name"))}
    return {key: value for key, value in resource.get("Properties", {}).items() if key in named}


@pytest.mark.row(67)
def test_every_name_that_the_template_gives_has_the_stacks_name_in_it() -> None:
    given = {
        (name, key): value
        for name, resource in choose(TEMPLATE, EVERYTHING)["Resources"].items()
        for key, value in names_given(resource).items()
    }
    assert ("KeepaliveLogGroup", "LogGroupName") in given
    references = ("${AWS::StackName}", "'Ref'", "'Fn::GetAtt'")
    assert [name for name, value in given.items() if not any(text in str(value) for text in references)] == []


@pytest.mark.row(67)
def test_the_dashboard_shows_this_stack_alone() -> None:
    body = body_of(choose(TEMPLATE, {}))
    shown = re.findall(r'"(?:service|FunctionName|QueueName)", "([^"]+)"', body)
    assert shown
    assert [value for value in shown if not value.startswith("${")] == []
