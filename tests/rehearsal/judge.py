"""Evaluates policies as IAM does, with @cloud-copilot/iam-simulate, which knows all keys and operators."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.paths import ROOT


@dataclass
class Request:
    """A request of a principal with these policies. `context` has the condition keys that AWS would add."""

    policies: list[dict[str, Any]]
    action: str
    resource: str
    context: dict[str, Any] = field(default_factory=dict)


def decide(*requests: Request) -> list[str]:
    """Return for each request Allowed, ImplicitlyDenied or ExplicitlyDenied, or what is wrong with it."""
    results: list[str] = _ask(requests=[asdict(request) for request in requests])["results"]
    return results


def types_of(keys: list[str]) -> dict[str, str]:
    """Return each condition key's type, such as String or ArrayOfString."""
    types: dict[str, str] = _ask(keys=keys)["types"]
    return types


def _ask(requests: list[dict[str, Any]] | None = None, keys: list[str] | None = None) -> dict[str, Any]:
    done = subprocess.run(
        ["node", Path(__file__).with_suffix(".mjs")],
        input=json.dumps({"requests": requests or [], "keys": keys or []}),
        env=os.environ | {"SIMULATOR": str(ROOT / ".simulator")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
