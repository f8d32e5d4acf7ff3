"""The deployed role against the AWS calls that the deployed functions make: nothing more, nothing less."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import pytest

from local.world import World
from tests.end_to_end.deployed.stack import SamDeployed
from tests.end_to_end.deployed.test_invocations import SWEEP, TICK
from tests.integration.test_shards import messages
from tests.widget import event_of

pytestmark = pytest.mark.e2e

HERE = "eu-west-1:123456789012"
Grant = tuple[str, str]
# A transaction asks for the permission of each item's own action.
OF_AN_ITEM = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}


def needed(service: str, operation: str, sent: dict[str, Any]) -> Iterator[Grant]:
    """Yield what IAM asks for when this call is made; fails for a call that nobody has thought of."""
    match service, operation:
        case "dynamodb", "Scan" | "UpdateItem":
            yield f"dynamodb:{operation}", f"arn:aws:dynamodb:{HERE}:table/{sent['TableName']}"
        case "dynamodb", "BatchGetItem":
            for table in sent["RequestItems"]:
                yield "dynamodb:BatchGetItem", f"arn:aws:dynamodb:{HERE}:table/{table}"
        case "dynamodb", "TransactWriteItems":
            for item in sent["TransactItems"]:
                [(kind, body)] = item.items()
                yield f"dynamodb:{OF_AN_ITEM[kind]}", f"arn:aws:dynamodb:{HERE}:table/{body['TableName']}"
        case "secretsmanager", "BatchGetSecretValue":
            yield "secretsmanager:BatchGetSecretValue", "*"
            for secret in sent["SecretIdList"]:
                # The ARN has six characters more than the name.
                name = (
                    secret
                    if secret.startswith("arn:")
                    else f"arn:aws:secretsmanager:{HERE}:secret:{secret}-1a2b3c"
                )
                yield "secretsmanager:GetSecretValue", name
        case "events", "PutEvents":
            for entry in sent["Entries"]:
                # The statement's condition.
                assert entry["Source"] == "listenkey-keeper"
                yield (
                    "events:PutEvents",
                    f"arn:aws:events:{HERE}:event-bus/{entry.get('EventBusName', 'default')}",
                )
        case "sqs", "SendMessageBatch":
            yield "sqs:SendMessage", queue_arn(sent["QueueUrl"])
        case "sqs", "ChangeMessageVisibility":
            yield "sqs:ChangeMessageVisibility", queue_arn(sent["QueueUrl"])
        case _:
            raise AssertionError(f"which permission does {service} {operation} need?")


def queue_arn(url: str) -> str:
    return f"arn:aws:sqs:{HERE}:{url.rpartition('/')[2]}"


def statements(aws: SamDeployed, role: str) -> list[dict[str, Any]]:
    """Return what a role has, in policies of its own and in managed ones."""
    iam, of_role = aws.client("iam"), {"RoleName": aws.resources[role]}
    documents = [
        iam.get_role_policy(**of_role, PolicyName=name)["PolicyDocument"]
        for name in iam.list_role_policies(**of_role)["PolicyNames"]
    ]
    # moto does not attach managed policies to a stack's role.
    for managed in aws.template["Resources"][role]["Properties"].get("ManagedPolicyArns", ()):
        policy = {"PolicyArn": aws.resources[managed["Ref"]]}
        version = iam.get_policy(**policy)["Policy"]["DefaultVersionId"]
        documents.append(iam.get_policy_version(**policy, VersionId=version)["PolicyVersion"]["Document"])
    parsed = [ast.literal_eval(text) if isinstance(text, str) else text for text in documents]  # moto's reprs
    # What is denied is denied to take back what Lambda itself needs: tests/integration/test_template.py.
    return [each for document in parsed for each in document["Statement"] if each["Effect"] == "Allow"]


def granted(aws: SamDeployed, role: str) -> set[Grant]:
    grants = set()
    for statement in statements(aws, role):
        actions, resource = statement["Action"], statement["Resource"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert isinstance(resource, str)
            grants.add((action, resource))
    return grants


def of_logs(aws: SamDeployed) -> dict[Grant, str]:
    # In AWS the ARN ends in ":*", which moto leaves out.
    log_group = f"arn:aws:logs:{HERE}:log-group:/aws/lambda/{aws.stack_name}-keepalive"
    actions = ("logs:CreateLogStream", "logs:PutLogEvents")
    return {(action, log_group): "Lambda writes what the function prints" for action in actions}


def of_lambda(aws: SamDeployed, role: str) -> dict[Grant, str]:
    """What a role grants and the code does not do itself: Lambda does it, with this role."""
    leaving = ("DescribeNetworkInterfaces", "DeleteNetworkInterface", "UnassignPrivateIpAddresses")
    of_both = of_logs(aws) | {
        (f"ec2:{action}", "*"): "after a VPC, and denied to the code" for action in leaving
    }
    if role == "KeepaliveRole":
        queue = queue_arn(aws.resources["DeadLetterQueue"])
        return of_both | {("sqs:SendMessage", queue): "OnFailure, after the retries"}
    work = queue_arn(aws.resources["WorkQueue"])
    return of_both | {
        (f"sqs:{action}", work): "Lambda takes the messages for ShardFunction"
        for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
    }


def compare(aws: SamDeployed, role: str, calls: list[Any]) -> None:
    used = {grant for call in calls for grant in needed(*call)}
    grants, services = granted(aws, role), of_lambda(aws, role)

    def covers(grant: Grant, use: Grant) -> bool:
        return grant[0] == use[0] and (grant[1] == use[1] or fnmatchcase(use[1], grant[1]))

    assert [use for use in sorted(used) if not any(covers(grant, use) for grant in grants)] == []
    assert [
        grant for grant in sorted(grants - services.keys()) if not any(covers(grant, use) for use in used)
    ] == []
    assert services.keys() <= grants


def test_the_role_grants_what_the_function_does_and_nothing_else(deployed: SamDeployed, world: World) -> None:
    world.add_demo_accounts(datetime.now(UTC))
    before = len(deployed.recorded_calls())
    with deployed.emulator(world) as function:
        for event in (TICK, SWEEP, {"accounts": ["alice", "dave"], "force": True}, {"dryRun": True}):
            assert function.invoke(event).error is None
    compare(deployed, "KeepaliveRole", deployed.recorded_calls()[before:])


def test_with_shards_each_role_grants_what_its_function_does(
    sharded: SamDeployed, sharded_world: World
) -> None:
    sharded_world.add_demo_accounts(datetime.now(UTC))
    sharded_world.exchange.fault(status=451, times=1)
    before = len(sharded.recorded_calls())
    with sharded.emulator(sharded_world) as function:
        # By hand it does what the shards do: the run is its own.
        assert function.invoke({"force": True}).error is None
        assert function.invoke({"accounts": ["dave"]}).error is None
        assert function.invoke(TICK).error is None
    by_keepalive = sharded.recorded_calls()[before:]
    before = len(sharded.recorded_calls())
    with sharded.emulator(sharded_world, "ShardFunction") as shard:
        for record in messages(sharded):
            shard.invoke({"Records": [record]})
    by_shards = sharded.recorded_calls()[before:]

    # What cannot be done is tried again: a shard changes its message's visibility.
    sharded_world.exchange.fault(status=451)
    for number in range(2):
        sharded_world.add_account(f"new{number}", f"key0new{number}".ljust(64, "0"))
    with sharded.emulator(sharded_world) as function:
        function.invoke(TICK)
    before = len(sharded.recorded_calls())
    with sharded.emulator(sharded_world, "ShardFunction") as shard:
        for record in messages(sharded):
            shard.invoke({"Records": [record]})
    by_shards += sharded.recorded_calls()[before:]

    compare(sharded, "KeepaliveRole", by_keepalive)
    compare(sharded, "ShardRole", by_shards)


def test_the_widgets_role_grants_what_it_does_and_nothing_else(deployed: SamDeployed, world: World) -> None:
    world.add_demo_accounts(datetime.now(UTC))
    before = len(deployed.recorded_calls())
    with deployed.emulator(world, "WidgetFunction") as widget:
        answer = widget.invoke(event_of())
    assert answer.error is None
    assert "Action needed: 3 of 4 accounts" in answer.payload
    calls = deployed.recorded_calls()[before:]
    used = {grant for call in calls for grant in needed(*call)}
    [records] = [statement for statement in statements(deployed, "WidgetRole") if "Condition" in statement]
    allowed = records["Condition"]["ForAllValues:StringEquals"]["dynamodb:Attributes"]
    named = [
        name
        for _, operation, sent in calls
        if operation == "Scan" and "ProjectionExpression" in sent
        for name in sent["ProjectionExpression"].split(",")
    ]

    assert used | of_logs(deployed).keys() == granted(deployed, "WidgetRole")
    assert sorted([*named, "record"]) == sorted(allowed)  # IAM wants both of the table's keys
