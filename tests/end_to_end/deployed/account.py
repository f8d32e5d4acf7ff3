"""An AWS account to deploy to with the real SAM CLI: moto, which learns the SAM transform here."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, Self

from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer

from local.aws.stack import choose, expand, known_to_moto
from tests.sam import REGION, Deployer


class Account(Deployer):
    """An empty account of moto's, and its user."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        # By this name moto takes a bucket's name from the path of a URL, not from its host.
        self.url = f"http://localhost:{self._server.get_host_and_port()[1]}"
        _teach_the_transform(home / "template.yaml")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        # Not all of moto: in another region are the stacks of this session's other tests.
        for service in ("cloudformation", "dynamodb", "events", "lambda", "logs", "sns", "sqs"):
            get_backend(service)[DEFAULT_ACCOUNT_ID][REGION].reset()

    def parameters(self) -> dict[str, str]:
        """Return the deployed stack's parameters; moto shows a list of Python's."""
        given = super().parameters()
        return {n: ",".join(ast.literal_eval(v)) if v.startswith("[") else v for n, v in given.items()}


def _teach_the_transform(scratch: Path) -> None:
    """Make moto expand a template as AWS does, and keep the outputs of a stack that a change set has made."""
    backend: Any = get_backend("cloudformation")[DEFAULT_ACCOUNT_ID][REGION]
    create, execute = backend.create_change_set, backend.execute_change_set

    def create_change_set(*, template: str, parameters: dict[str, str], **rest: Any) -> Any:
        if "AWS::Serverless::Function" in template:
            scratch.write_text(template)
            template = json.dumps(known_to_moto(choose(expand(scratch), parameters)))
        return create(template=template, parameters=parameters, **rest)

    def execute_change_set(*arguments: Any, **rest: Any) -> None:
        execute(*arguments, **rest)
        for stack in backend.stacks.values():
            stack._parse_template()
            stack.output_map = stack._create_output_map()

    backend.create_change_set, backend.execute_change_set = create_change_set, execute_change_set
