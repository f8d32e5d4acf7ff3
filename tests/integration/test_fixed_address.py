"""docs/fixed-address.yaml: what is in its subnet sends from the address that it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from samtranslator.yaml_helper import yaml_parse

from tests.integration.test_documentation import TEMPLATE
from tests.paths import ROOT

TEXT = (ROOT / "docs/fixed-address.yaml").read_text()
# In a process of its own: moto's decorator forgets the stack of the other tests.
DEPLOY = """
import json, sys, boto3, moto
with moto.mock_aws():
    stacks, ec2 = (boto3.client(service, "eu-west-1") for service in ("cloudformation", "ec2"))
    stacks.create_stack(StackName="fixed", TemplateBody=sys.stdin.read())
    made = [stacks.describe_stacks()["Stacks"],
            stacks.describe_stack_resources(StackName="fixed")["StackResources"],
            ec2.describe_nat_gateways()["NatGateways"], ec2.describe_route_tables()["RouteTables"]]
print(json.dumps(made, default=str))
"""


def test_what_is_in_the_subnet_sends_from_the_elastic_ip() -> None:
    made = subprocess.run(
        [sys.executable, "-c", DEPLOY],
        input=TEXT,
        env=os.environ | {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"},
        capture_output=True,
        text=True,
        check=True,
    )
    [stack], resources, [nat], route_tables = json.loads(made.stdout)
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    tables = {table["RouteTableId"]: table["Routes"] for table in route_tables}

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
