"""An event is a tick, a sweep or a manual run, or it is refused with what would be allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from listenkeys.errors import InvalidEvent
from listenkeys.trigger import MANUAL, SWEEP, TICK, Trigger

EVENTS = Path(__file__).parent.parent.parent / "events"

# event, the field it names, a part of what is allowed
BAD_EVENTS: list[tuple[Any, str, str]] = [
    (None, "null", '"accounts"'),
    ("tick", "a string", '"accounts"'),
    (5, "a number", '"accounts"'),
    (True, "a boolean", '"accounts"'),
    (["alice"], "a list", '"accounts"'),
    ({"account": ["alice"]}, "'account'", '"accounts" (a list of account ids)'),
    ({"accounts": ["alice"], "Force": True}, "'Force'", '"force" (true or false)'),
    ({"source": "aws.events"}, "'source'", "scheduled event"),
    ({"source": "aws.s3", "detail-type": "Scheduled Event"}, "'source'", "scheduled event"),
    ({"Records": [{"body": "{}"}]}, "'Records'", "scheduled event"),
    ({"x" * 500: 1}, "x" * 64, '"accounts"'),
    ({"overdueOnly": False}, "overdueOnly", "must be true"),
    ({"overdueOnly": 1}, "overdueOnly", "must be true"),
    ({"overdueOnly": "true"}, "overdueOnly", "must be true"),
    ({"overdueOnly": True, "force": True}, "overdueOnly", "stand alone"),
    ({"overdueOnly": True, "accounts": ["alice"]}, "overdueOnly", "stand alone"),
    ({"accounts": []}, "accounts", "at least one account id"),
    ({"accounts": None}, "accounts", "at least one account id"),
    ({"accounts": "alice"}, "accounts", "a list"),
    ({"accounts": {"alice": True}}, "accounts", "a list"),
    ({"accounts": [1]}, "accounts", "strings"),
    ({"accounts": ["alice", None]}, "accounts", "strings"),
    ({"accounts": [""]}, "accounts", "1 to 64 characters"),
    ({"accounts": ["a" * 65]}, "accounts", "1 to 64 characters"),
    ({"force": "yes"}, "force", "true or false, not a string"),
    ({"force": 1}, "force", "true or false, not a number"),
    ({"force": None}, "force", "true or false, not null"),
    ({"dryRun": 0.5}, "dryRun", "true or false, not a number"),
    ({"dryRun": []}, "dryRun", "true or false, not a list"),
    ({"dryRun": {}}, "dryRun", "true or false, not an object"),
]


@pytest.mark.parametrize(
    ("event", "trigger"),
    [
        ({}, Trigger(MANUAL)),
        ({"force": True}, Trigger(MANUAL, force=True)),
        ({"dryRun": True}, Trigger(MANUAL, dry_run=True)),
        ({"force": False, "dryRun": False}, Trigger(MANUAL)),
        ({"accounts": ["alice"]}, Trigger(MANUAL, ("alice",))),
        ({"accounts": ["b", "a", "b"]}, Trigger(MANUAL, ("b", "a"))),
        ({"accounts": ["a" * 64]}, Trigger(MANUAL, ("a" * 64,))),
        ({"accounts": ["a"], "force": True, "dryRun": True}, Trigger(MANUAL, ("a",), True, True)),
        ({"overdueOnly": True}, Trigger(SWEEP)),
        ({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}, Trigger(TICK)),
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
        ("force-all.json", Trigger(MANUAL, force=True)),
    ],
)
def test_an_event_file_is_what_its_name_says(file: str, trigger: Trigger) -> None:
    assert Trigger.from_event(json.loads((EVENTS / file).read_text())) == trigger


@pytest.mark.parametrize(("event", "named", "allowed"), BAD_EVENTS)
def test_any_other_event_is_refused_with_the_field_and_what_is_allowed(
    event: Any, named: str, allowed: str
) -> None:
    with pytest.raises(InvalidEvent) as refused:
        Trigger.from_event(event)

    assert named in str(refused.value)
    assert allowed in str(refused.value)
    assert len(str(refused.value)) < 400
