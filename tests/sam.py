"""Runs the real SAM CLI as a person does: in a folder with the built application and samconfig.toml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import boto3

from local.aws.runtime import BUILD
from tests.paths import ROOT
from tests.terminal import Terminal

SAM = str(ROOT / ".venv-sam/bin/sam")
REGION = "ap-northeast-1"  # samconfig.toml's
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


class Deployer:
    """A person who deploys `stack` from a folder to an AWS account at `url`."""

    url: str
    credentials = CREDENTIALS

    def __init__(self, home: Path, stack: str = "listenkey-keeper") -> None:
        self.home, self.stack = home, stack
        self.folder = home / stack

    def put_the_built_application_there(self) -> None:
        """Copy the files of a clone after `sam build` that `sam deploy` reads."""
        shutil.copytree(BUILD, self.folder / ".aws-sam/build")
        for name in ("LICENSE", "README.md"):
            shutil.copy(ROOT / name, self.folder)
        self.reset_the_settings()

    def reset_the_settings(self) -> None:
        """Write the shipped samconfig.toml, changing only the stack's name."""
        shipped = (ROOT / "samconfig.toml").read_text()
        named = shipped.replace('stack_name = "listenkey-keeper"', f'stack_name = "{self.stack}"')
        (self.folder / "samconfig.toml").write_text(named)

    def set(self, line: str) -> None:
        """Change or add a `Name=value` line in the parameter overrides of samconfig.toml."""
        config, name = self.folder / "samconfig.toml", line.partition("=")[0]
        text = re.sub(rf"^  '{name}=.*\n", "", config.read_text(), flags=re.MULTILINE)
        assert text.endswith("]\n")
        config.write_text(f"{text[:-2]}  '{line}',\n]\n")

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {
            **kept,
            **self.credentials,
            "HOME": str(self.home),
            "SAM_CLI_TELEMETRY": "0",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "localhost,127.0.0.1",
            "no_proxy": "localhost,127.0.0.1",
        }

    def terminal(self, *arguments: str) -> Terminal:
        """Start SAM in a terminal."""
        return Terminal(arguments, 200, self.environment(), (SAM,), self.folder)

    def sam(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run SAM without input: a question would end it."""
        return subprocess.run(
            [SAM, *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=250,
        )

    def deploy(self) -> None:
        """Run `sam deploy`, which must succeed."""
        done = self.sam("deploy")
        assert done.returncode == 0, done.stdout + done.stderr

    def client(self, service: str) -> Any:
        """Return a client of the account."""
        keys = {name.lower(): value for name, value in CREDENTIALS.items()}
        return boto3.client(service, region_name=REGION, endpoint_url=self.url, **keys)

    def described(self) -> dict[str, Any]:
        """Return CloudFormation's description of the stack."""
        [stack] = self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"]
        return dict(stack)

    def parameters(self) -> dict[str, str]:
        """Return the stack's parameters. Its last deployment must have succeeded."""
        stack = self.described()
        assert stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        return {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
