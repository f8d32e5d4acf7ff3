"""What CloudFormation refuses before it makes anything: the template's Rules section, evaluated.

The functions are those of the CloudFormation User Guide, "Rule-specific intrinsic functions".
"""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from local.aws.stack import expand

TEMPLATE = expand()


def refusals(region: str = "ap-northeast-1", **parameters: str) -> list[str]:
    """Return what CloudFormation says against a deployment with these parameters."""
    values: dict[str, Any] = {"AWS::Region": region}
    for name, declared in TEMPLATE["Parameters"].items():
        text = parameters.get(name, str(declared["Default"]))
        values[name] = text.split(",") if declared["Type"] == "CommaDelimitedList" else text

    def evaluate(node: Any) -> Any:
        match node:
            case {"Ref": name}:
                return values[name]
            case {"Fn::Or": inner}:
                return any(map(evaluate, inner))
            case {"Fn::Not": [inner]}:
                return not evaluate(inner)
            case {"Fn::Equals": [left, right]}:
                return evaluate(left) == evaluate(right)
            case {"Fn::Contains": [members, value]}:
                return evaluate(value) in evaluate(members)
            case {"Fn::EachMemberEquals": [members, value]}:
                return all(member == evaluate(value) for member in evaluate(members))
            case str() | list():
                return node
        raise NotImplementedError(node)

    return [
        assertion["AssertDescription"]
        for rule in TEMPLATE["Rules"].values()
        for assertion in rule["Assertions"]
        if not evaluate(assertion["Assert"])
    ]


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov"])
def test_the_regions_of_the_united_states_and_no_others_need_a_base_url(partition: str) -> None:
    regions = boto3.Session().get_available_regions("lambda", partition_name=partition)
    assert regions
    for region in regions:
        refused = refusals(region)
        assert bool(refused) == region.startswith("us-"), region
        assert all("451" in said for said in refused)
        assert refusals(region, BinanceBaseUrl="https://demo-fapi.binance.com") == []


@pytest.mark.parametrize(
    ("parameters", "taken"),
    [
        ({}, True),
        ({"SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"}, True),
        ({"SubnetIds": "subnet-1,subnet-2"}, False),
        ({"SecurityGroupIds": "sg-1"}, True),
    ],
)
def test_subnets_need_security_groups(parameters: dict[str, str], taken: bool) -> None:
    assert (refusals(**parameters) == []) is taken
