"""The function as a user gets it: packaged and deployed by sam, its zip taken back out of S3."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID

from local.aws.runtime import BUILD, RuntimeEmulator, Unusable
from local.aws.stack import REGION, LocalAws, choose, expand, known_to_moto
from local.world import World
from tests.paths import ROOT

RECORDER = ROOT / "tests/recorder"


class SamDeployed(LocalAws):
    """The local AWS with the stack made by `sam package` and `sam deploy`; `zips` has what S3 then holds."""

    def __init__(self, folder: Path, parameters: Mapping[str, str] | None = None) -> None:
        if not (BUILD / "template.yaml").exists():
            raise Unusable("nothing is built: `make build` does it")
        self._folder = folder
        self.calls = folder / "calls.jsonl"
        super().__init__(parameters, BUILD / "template.yaml")

    def _create_stack(self, parameters: Mapping[str, str]) -> None:
        bucket = self.stack_name
        s3 = self.client("s3")
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        packaged, expanded = self._folder / "packaged.yaml", self._folder / "expanded.json"
        # fmt: off
        self._sam(
            "package", "--template-file", str(BUILD / "template.yaml"), "--s3-bucket", bucket,
            "--output-template-file", str(packaged),
        )
        # moto has neither the transform nor, in a list, AWS::NoValue.
        template = choose(expand(packaged), parameters)
        expanded.write_text(json.dumps(known_to_moto(template)))
        overrides = [f"{name}={value}" for name, value in parameters.items()]
        self._sam(
            "deploy", "--template-file", str(expanded), "--stack-name", self.stack_name,
            "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset",
            *(["--parameter-overrides", *overrides] if overrides else []),
        )
        # fmt: on
        # moto forgets the outputs of a stack that a change set has made.
        [stack] = get_backend("cloudformation")[DEFAULT_ACCOUNT_ID][REGION].describe_stacks(self.stack_name)
        stack._parse_template()
        stack.output_map = stack._create_output_map()
        self.code: dict[str, Path] = {}
        for name, resource in template["Resources"].items():
            if resource["Type"] == "AWS::Lambda::Function":
                where = resource["Properties"]["Code"]
                self.code[name] = self._folder / name
                with s3.get_object(Bucket=where["S3Bucket"], Key=where["S3Key"])["Body"] as body:
                    zipped = self._folder / f"{name}.zip"
                    zipped.write_bytes(body.read())
                with ZipFile(zipped) as contents:
                    contents.extractall(self.code[name])

    def _sam(self, *arguments: str) -> None:
        environment = {
            # Without the variables that name a function's tables: there is no function yet.
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "SAM_CLI_TELEMETRY": "0",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        done = subprocess.run(
            [str(ROOT / ".venv-sam/bin/sam"), *arguments],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def emulator(
        self,
        world: World,
        logical_id: str = "KeepaliveFunction",
        timeout: int | None = None,
        **variables: str | None,
    ) -> RuntimeEmulator:
        """Return an execution environment of a deployed function; its AWS calls go into the file `calls`.

        `variables` change its environment; None takes one out.
        """
        function = self.client("lambda").get_function_configuration(FunctionName=self.resources[logical_id])
        environment: dict[str, str | None] = {
            **world.environment(),
            **self.function_environment(logical_id),
            "BINANCE_BASE_URL": world.binance_url,
            "PYTHONPATH": str(RECORDER),
            "AWS_CALLS": str(self.calls),
            **variables,
        }
        return RuntimeEmulator(
            self.code[logical_id],
            {name: value for name, value in environment.items() if value is not None},
            handler=function["Handler"],
            timeout=timeout or function["Timeout"],
            memory=function["MemorySize"],
        )

    def recorded_calls(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return service, operation and parameters of each AWS call that the functions have made."""
        recorded = self.calls.read_text() if self.calls.exists() else ""
        return [tuple(json.loads(line)[:3]) for line in recorded.splitlines()]
