"""Deploys a bot's own stack beside the keeper's: its queue, the rule that fills it, and its policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from samtranslator.yaml_helper import yaml_parse

from local.aws.stack import LocalAws, choose, known_to_moto
from tests.paths import ROOT

TEMPLATE = ROOT / "examples/bot/template.yaml"


@contextmanager
def bot_stack(aws: LocalAws, **parameters: str) -> Iterator[dict[str, str]]:
    """Deploy examples/bot beside the keeper's stack; yield its outputs."""
    # moto does not split a list's default.
    given = {"AccountIds": "alice", "ListenKeysTableName": aws.outputs["ListenKeysTableName"]}
    parameters = given | parameters
    template = choose(yaml_parse(TEMPLATE.read_text()), parameters)
    cloudformation = aws.client("cloudformation")
    cloudformation.create_stack(
        StackName="bot",
        TemplateBody=json.dumps(known_to_moto(template)),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
    )
    [stack] = cloudformation.describe_stacks(StackName="bot")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    yield {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    cloudformation.delete_stack(StackName="bot")
