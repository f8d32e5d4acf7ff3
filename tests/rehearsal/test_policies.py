"""Checks the template's policies with an engine that decides as IAM does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from local.aws.stack import LocalAws, choose, expand
from tests.end_to_end.bot_stack import bot_stack
from tests.policies import as_list
from tests.rehearsal.judge import Request, decide, types_of

pytestmark = pytest.mark.rehearsal

EVERYTHING = {
    "AlarmEmail": "ops@example.com",
    "AlarmWebhookSecretId": "ops/chat",
    "KmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c",
    "SecretsKmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1a2b3c4d",
    "SubnetIds": "subnet-1",
    "SecurityGroupIds": "sg-1",
    "ShardCount": "2",
}
BUS = "arn:aws:events:eu-west-1:123456789012:event-bus/default"


def conditions(node: Any) -> Iterator[tuple[str, str]]:
    """Yield the operator and key of each condition of each statement in the template."""
    match node:
        case {"Effect": _, "Condition": blocks}:
            for operator, keys in blocks.items():
                yield from ((operator, key) for key in keys)
        case dict():
            for value in node.values():
                yield from conditions(value)
        case list():
            for item in node:
                yield from conditions(item)


def test_every_condition_key_that_holds_several_values_has_a_set_operator() -> None:
    used = set(conditions(choose(expand(), EVERYTHING)["Resources"]))
    types = types_of(sorted({key for _, key in used}))

    assert {"events:source", "dynamodb:Attributes", "kms:ViaService", "aws:SourceArn"} <= types.keys()
    for operator, key in used:
        several = types[key].startswith("ArrayOf")
        in_a_set = re.match("ForA(ll|ny)Values?:", operator) is not None
        assert operator == "Null" or several == in_a_set, (operator, key, types[key])


@pytest.mark.row(73)
def test_a_change_is_announced_alone_and_in_tens_and_nothing_else_is() -> None:
    policy = choose(expand(), {})["Resources"]["RunPolicy"]["Properties"]["PolicyDocument"]
    [announce] = [each for each in policy["Statement"] if "events:PutEvents" in as_list(each["Action"])]
    policies = [{"Version": "2012-10-17", "Statement": [{**announce, "Resource": BUS}]}]

    def put(sources: list[str], bus: str = BUS) -> Request:
        return Request(policies, "events:PutEvents", bus, {"events:source": sources} if sources else {})

    ours = "listenkey-keeper"
    assert decide(put([ours]), put([ours] * 10)) == ["Allowed", "Allowed"]
    denied = [put([]), put(["aws.billing"]), put([ours] * 9 + ["aws.billing"]), put([ours], f"{BUS}-2")]
    assert decide(*denied) == ["ImplicitlyDenied"] * 4


def test_a_bots_policy_opens_its_own_accounts_and_no_other(aws: LocalAws) -> None:
    key = EVERYTHING["KmsKeyArn"]
    with bot_stack(aws, AccountIds="alice,bob", KmsKeyArn=key) as outputs:
        policies = [policy_at(aws, outputs["BotPolicyArn"])]
    with bot_stack(aws, AccountIds="alice,bob") as outputs:
        without_a_key = [policy_at(aws, outputs["BotPolicyArn"])]
    table = f"arn:aws:dynamodb:eu-west-1:123456789012:table/{aws.outputs['ListenKeysTableName']}"

    def read(account: str, action: str = "GetItem") -> Request:
        return Request(policies, f"dynamodb:{action}", table, {"dynamodb:LeadingKeys": [account]})

    def opened(by: str, arn: str = key) -> Request:
        return Request(policies, "kms:Decrypt", arn, {"kms:ViaService": f"{by}.eu-west-1.amazonaws.com"})

    assert decide(read("alice"), read("bob"), opened("dynamodb")) == ["Allowed"] * 3
    denied = [
        read("carol"), read("alice", "Query"), read("alice", "Scan"),
        opened("secretsmanager"), opened("dynamodb", EVERYTHING["SecretsKmsKeyArn"]),
        Request(policies, "kms:Decrypt", key),
        replace(opened("dynamodb"), policies=without_a_key),
    ]  # fmt: skip
    assert decide(*denied) == ["ImplicitlyDenied"] * len(denied)


def policy_at(aws: LocalAws, arn: str) -> dict[str, Any]:
    found = aws.client("iam").get_policy_version(PolicyArn=arn, VersionId="v1")
    document: dict[str, Any] = found["PolicyVersion"]["Document"]
    return document
