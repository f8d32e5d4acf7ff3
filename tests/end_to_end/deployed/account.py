"""An AWS account to deploy to with the real SAM CLI: moto, which learns the SAM transform here."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

import boto3
from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer

from local.aws.runtime import BUILD
from local.aws.stack import choose, expand, known_to_moto
from tests.paths import ROOT
from tests.terminal import Terminal

SAM = str(ROOT / ".venv-sam/bin/sam")
REGION = "ap-northeast-1"  # samconfig.toml's
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


class Account:
    """An empty account, and a folder of its user with the built application and samconfig.toml."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "listenkey-keeper"
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

    def put_the_built_application_there(self) -> None:
        """Copy what a clone has after `sam build`, as far as `sam deploy` looks at it."""
        shutil.copytree(BUILD, self.folder / ".aws-sam/build")
        for name in ("samconfig.toml", "LICENSE", "README.md"):
            shutil.copy(ROOT / name, self.folder)

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {
            **kept,
            **CREDENTIALS,
            "HOME": str(self.home),
            "SAM_CLI_TELEMETRY": "0",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "localhost",
            "no_proxy": "localhost",
        }

    def terminal(self, *arguments: str) -> Terminal:
        """Return SAM with a person at the keyboard."""
        return Terminal(arguments, 200, self.environment(), (SAM,), self.folder)

    def sam(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run SAM with nobody at the keyboard: a question would end it."""
        return subprocess.run(
            [SAM, *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
        )

    def set(self, line: str) -> None:
        """Edit a setting in samconfig.toml, as with an editor."""
        name = line.partition("=")[0]
        config = self.folder / "samconfig.toml"
        lines = config.read_text().splitlines()
        [at] = [number for number, each in enumerate(lines) if each.startswith(f"  '{name}=")]
        lines[at] = f"  '{line}',"
        config.write_text("\n".join(lines) + "\n")

    def parameters(self) -> dict[str, str]:
        """Return the deployed stack's parameters. The stack must be whole."""
        keys = {name.lower(): value for name, value in CREDENTIALS.items()}
        client = boto3.client("cloudformation", region_name=REGION, endpoint_url=self.url, **keys)
        [stack] = client.describe_stacks(StackName="listenkey-keeper")["Stacks"]
        assert stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        given = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
        # moto shows a list of Python's.
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
