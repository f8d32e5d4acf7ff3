"""docs/fixed-address.yaml: what is in its subnet sends from the address that it prints."""

from __future__ import annotations

import boto3
import pytest
from moto import mock_aws
from samtranslator.yaml_helper import yaml_parse

from local.aws.stack import REGION
from tests.integration.test_documentation import TEMPLATE
from tests.paths import ROOT

TEXT = (ROOT / "docs/fixed-address.yaml").read_text()


def test_what_is_in_the_subnet_sends_from_the_elastic_ip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        stacks, ec2 = (boto3.client(service, REGION) for service in ("cloudformation", "ec2"))
        stacks.create_stack(StackName="fixed", TemplateBody=TEXT)
        [stack] = stacks.describe_stacks(StackName="fixed")["Stacks"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        resources = stacks.describe_stack_resources(StackName="fixed")["StackResources"]
        [nat] = ec2.describe_nat_gateways()["NatGateways"]
        tables = {
            table["RouteTableId"]: table["Routes"] for table in ec2.describe_route_tables()["RouteTables"]
        }

    # moto associates no subnet with a table, so that comes from the template.
    ids = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources}
    default = {
        ids[each["Properties"]["SubnetId"]["Ref"]]: route
        for each in yaml_parse(TEXT)["Resources"].values()
        if each["Type"] == "AWS::EC2::SubnetRouteTableAssociation"
        for route in tables[ids[each["Properties"]["RouteTableId"]["Ref"]]]
        if route.get("DestinationCidrBlock") == "0.0.0.0/0"
    }
    assert default[outputs["SubnetIds"]]["NatGatewayId"] == nat["NatGatewayId"]
    assert default[nat["SubnetId"]]["GatewayId"] == ids["InternetGateway"]
    assert [each["PublicIp"] for each in nat["NatGatewayAddresses"]] == [outputs["Address"]]
    assert outputs.keys() - {"Address"} <= TEMPLATE["Parameters"].keys()
