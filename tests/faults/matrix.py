"""What the fault matrix's tests share: their row numbers, and what an invocation printed, read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.invoke import Invocation

TICK = {"source": "aws.events", "detail-type": "Scheduled Event"}
SWEEP = {"overdueOnly": True}


def rows_of(node: pytest.Item | pytest.Function) -> list[int]:
    """Return the numbers of the rows that a test is marked with."""
    return sorted({number for mark in node.iter_markers("row") for number in mark.args})


def lines(done: Invocation) -> list[dict[str, Any]]:
    """Return the JSON lines an invocation printed; whatever else it printed fails the test."""
    return [json.loads(line) for line in done.output.splitlines()]


def metrics(done: Invocation) -> dict[str, float]:
    """Return the metrics an invocation emitted; empty where it emitted none."""
    found: dict[str, float] = {}
    for line in lines(done):
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
            for metric in directive["Metrics"]:
                [value] = line[metric["Name"]]
                found[metric["Name"]] = value
    return found
