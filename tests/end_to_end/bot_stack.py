"""A bot's own stack beside the keeper's: its queue, and the rule that fills it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from samtranslator.yaml_helper import yaml_parse

from local.aws.stack import LocalAws, known_to_moto


@contextmanager
def bot_stack(aws: LocalAws, template: str, **parameters: str) -> Iterator[str]:
    """Deploy a template, in YAML, that has a queue; yield the queue's URL."""
    cloudformation = aws.client("cloudformation")
    cloudformation.create_stack(
        StackName="bot",
        TemplateBody=json.dumps(known_to_moto(yaml_parse(template))),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
    )
    [stack] = cloudformation.describe_stacks(StackName="bot")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    yield next(output["OutputValue"] for output in stack["Outputs"] if output["OutputKey"] == "QueueUrl")
    cloudformation.delete_stack(StackName="bot")
