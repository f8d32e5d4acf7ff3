"""Fixtures of the rehearsal: MiniStack in its own process, a Binance stand-in, and a person who deploys."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.binance.server import BinanceServer
from tests.paths import PYTHONPATH, ROOT
from tests.sam import CREDENTIALS, REGION, Deployer
from tests.waiting import eventually

PYTHON = ROOT / ".venv-ministack/bin/python"
ACCOUNT_ID = "123456789012"


class Stage(Deployer):
    """A person who uses this AWS with `sam` and `listenkeys`."""

    def __init__(self, home: Path, url: str, calls: Path, stack: str = "listenkey-keeper") -> None:
        super().__init__(home, stack)
        self.url, self.calls = url, calls

    def another(self, stack: str) -> Stage:
        """Return the same person with a second stack."""
        return Stage(self.home, self.url, self.calls, stack)

    def listenkeys(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command in the folder of samconfig.toml."""
        return subprocess.run(
            [sys.executable, "-m", "listenkey_keeper.cli.main", *arguments],
            cwd=self.folder,
            env=self.environment() | {"PYTHONPATH": PYTHONPATH},
            input=typed,
            capture_output=True,
            text=True,
            timeout=250,
        )

    def outcomes(self) -> dict[str, str]:
        """Return each account's last outcome, as `listenkeys status` shows it."""
        done = self.listenkeys("status", "--json")
        assert done.returncode in (0, 1), done.stderr
        return {each["accountId"]: each["outcome"] for each in json.loads(done.stdout)["accounts"]}

    def resources(self) -> dict[str, str]:
        """Return the physical ids of the stack's resources, by logical id."""
        found = self.client("cloudformation").describe_stack_resources(StackName=self.stack)
        return {
            each["LogicalResourceId"]: each["PhysicalResourceId"]
            for each in found["StackResources"]
            if each["ResourceStatus"] != "DELETE_COMPLETE"
        }

    def recorded_calls(self) -> list[tuple[str, str, dict[str, Any], str]]:
        """Return the AWS calls that functions have made: service, operation, parameters and function."""
        return [tuple(json.loads(line)) for line in self.calls.read_text().splitlines()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with emulated(tmp_path_factory.mktemp("rehearsal")) as made:
        yield made


@contextmanager
def emulated(folder: Path) -> Iterator[Stage]:
    """Run an AWS that enforces policies, and yield its administrator."""
    port = _free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = kept | {
        "AWS_ACCESS_KEY_ID": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        "AUTH": "true",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
        "LAMBDA_EXECUTOR": "local",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
        "AWS_CALLS": str(folder / "calls.jsonl"),
        "PYTHONPATH": str(ROOT / "tests/recorder"),
    }
    log = (folder / "ministack.log").open("w")
    process = subprocess.Popen(
        [PYTHON, ROOT / "tests/rehearsal/emulator.py"], cwd=folder, env=environment, stdout=log, stderr=log
    )
    url = f"http://localhost:{port}"

    def up() -> bool:
        assert process.poll() is None, (folder / "ministack.log").read_text()
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        eventually(up)
        yield Stage(folder, url, folder / "calls.jsonl")
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


@pytest.fixture(scope="session")
def binance() -> Iterator[BinanceServer]:
    with BinanceServer() as made:
        yield made
