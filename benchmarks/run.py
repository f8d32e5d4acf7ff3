"""Runs a subject against the responders, in a process of its own, and returns what it measured."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from benchmarks.responders import AWS_DELAY, BINANCE_DELAY, Responders, responders
from local.aws.stack import choose, expand

SHOW_ERROR = 3000  # characters


@cache
def template_environment() -> dict[str, str]:
    """Return the function's environment variables in the template, with its parameters' defaults."""
    template = choose(expand(), {})
    function = template["Resources"]["KeepaliveFunction"]["Properties"]
    defaults = {name: str(parameter["Default"]) for name, parameter in template["Parameters"].items()}

    def text(value: Any) -> str:
        # AWS would generate a physical id; here it is the logical one.
        return defaults.get(value["Ref"], value["Ref"]) if isinstance(value, dict) else str(value)

    return {name: text(value) for name, value in function["Environment"]["Variables"].items()}


def environment(up: Responders, **changes: str) -> dict[str, str]:
    """Return the environment of a process that is measured with these responders."""
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        **template_environment(),
        "PYTHONPATH": f"functions/keepalive{os.pathsep}.",
        "AWS_ENDPOINT_URL": up.aws_url,
        "BINANCE_BASE_URL": up.binance_url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        **up.variables,
        **changes,
    }


def run(
    accounts: int,
    subject: str,
    *arguments: str | int,
    python: str = sys.executable,
    delays: tuple[float, float] = (BINANCE_DELAY, AWS_DELAY),
    close: bool = False,
    tls: bool = True,
    variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run one subject once. Returns what it measured, and the responders' counts; times are in seconds."""
    with responders(accounts, *delays, close, tls) as up:
        done = subprocess.run(
            [python, "-m", f"benchmarks.subjects.{subject}", str(accounts), *map(str, arguments)],
            env=environment(up, **(variables or {})),
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"{subject} failed:\n{done.stdout[-SHOW_ERROR:]}\n{done.stderr[-SHOW_ERROR:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "accounts": accounts, "calls": up.calls, "responder_cpu": up.cpu, "minutes": up.minutes}
