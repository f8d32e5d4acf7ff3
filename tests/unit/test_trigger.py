"""An event is a tick, a sweep or a manual run, or it is refused with what would be allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from listenkeys.trigger import MANUAL, SWEEP, TICK, Trigger
from tests.paths import ROOT

EVENTS = ROOT / "events"


@pytest.mark.parametrize(
    ("event", "trigger"),
    [
        ({}, Trigger(MANUAL)),
        ({"force": True}, Trigger(MANUAL, force=True)),
        ({"dryRun": True}, Trigger(MANUAL, dry_run=True)),
        ({"force": False, "dryRun": False}, Trigger(MANUAL)),
        ({"accounts": ["alice"]}, Trigger(MANUAL, ("alice",))),
        ({"accounts": ["alice"], "widgetContext": {"theme": "dark"}}, Trigger(MANUAL, ("alice",))),
        ({"accounts": ["b", "a", "b"]}, Trigger(MANUAL, ("b", "a"))),
        ({"accounts": ["a" * 64]}, Trigger(MANUAL, ("a" * 64,))),
        ({"accounts": ["a"], "force": True, "dryRun": True}, Trigger(MANUAL, ("a",), True, True)),
        ({"dryRun": True, "probe": True}, Trigger(MANUAL, dry_run=True, probe=True)),
        (
            {"accounts": ["a"], "dryRun": True, "probe": True},
            Trigger(MANUAL, ("a",), dry_run=True, probe=True),
        ),
        ({"probe": False}, Trigger(MANUAL)),
        ({"overdueOnly": True}, Trigger(SWEEP)),
        *(
            ({"source": source, "detail-type": "Scheduled Event", "detail": {}}, Trigger(TICK))
            for source in ("aws.events", "aws.scheduler")
        ),
    ],
)
def test_a_documented_event_is_understood(event: Any, trigger: Trigger) -> None:
    assert Trigger.from_event(event) == trigger


@pytest.mark.parametrize(
    ("file", "trigger"),
    [
        ("scheduled.json", Trigger(TICK)),
        ("sweep.json", Trigger(SWEEP)),
        ("one-account.json", Trigger(MANUAL, ("alice",))),
        ("dry-run.json", Trigger(MANUAL, dry_run=True)),
        ("probe.json", Trigger(MANUAL, dry_run=True, probe=True)),
        ("force-all.json", Trigger(MANUAL, force=True)),
    ],
)
def test_an_event_file_is_what_its_name_says(file: str, trigger: Trigger) -> None:
    assert Trigger.from_event(json.loads((EVENTS / file).read_text())) == trigger
