"""The inequalities that the constants of time must satisfy, whatever their values are."""

from __future__ import annotations

import random

import pytest
from samtranslator.yaml_helper import yaml_parse

from listenkeys import timing as t
from listenkeys.aws.clients import jitter
from tests.paths import ROOT

TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
FUNCTION = TEMPLATE["Globals"]["Function"] | TEMPLATE["Resources"]["KeepaliveFunction"]["Properties"]
RUN = float(FUNCTION["Timeout"])
SWEEP = 60.0 * 5
WIRE = t.Timeouts()


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        pytest.param(t.LET_GO + 2 * (t.AWS_CONNECT + t.AWS_READ), t.RESERVE - t.END_EARLY,
                     id="a run lets go of what hangs and still records twice before its end"),
        pytest.param(WIRE.connect + WIRE.read, t.LET_GO, id="a request has timed out when a run lets it go"),
        pytest.param(WIRE.read, WIRE.total, id="an answer may take more than one read"),
        pytest.param(t.PROBE_CAP, SWEEP / 2, id="a host that is back is noticed before the next sweep"),
        pytest.param(t.BACKOFF_BASE, t.BACKOFF_CAP, id="an account's tries move apart"),
        pytest.param(t.BACKOFF_CAP, t.PROBE_CAP, id="a dead host is asked less often than an account"),
        pytest.param(SWEEP, RUN + t.RESERVE, id="while a key is at risk, runs leave no gap between sweeps"),
        pytest.param(2 * SWEEP + 60.0, t.AT_RISK, id="a key at risk meets two more sweeps"),
        pytest.param(60.0 * (8 + 1), t.LAST_RUN, id="a key that a run gives up meets another"),
        pytest.param(SWEEP + t.LAST_RUN, t.AT_RISK + 0.1,
                     id="a run has reported a key at risk before another takes all its time for it"),
        pytest.param(t.AT_RISK_MINUTES, t.LEASE_MINUTES / 2, id="a healthy key is not at risk"),
        pytest.param(t.FRESH.total_seconds(), 60.0 * 30, id="a renewed key is due again at the next tick"),
        pytest.param(RUN, t.LAST_TRY.total_seconds(), id="an event is tried for longer than a run takes"),
        pytest.param(t.AWS_CONNECT + t.AWS_READ, 60.0 - t.EDGE, id="weight can be used in its minute"),
        pytest.param(60.0 + t.LET_GO, t.CANNOT_WAIT, id="a key that waits for a minute's end is still saved"),
        pytest.param(t.AT_ONCE, t.AWS_READ, id="a call that hangs is not one that fails at once"),
        pytest.param(60.0 + WIRE.total, t.COUNTER_KEPT, id="a counter outlives its minute"),
        pytest.param(t.FLUSH, t.FLUSH_PAUSE_CAP, id="a table that takes nothing is asked less often"),
        pytest.param(t.SHARD_RETRY, t.SHARD_STALE, id="a shard is tried again before it is stale"),
    ],
)  # fmt: skip
def test_the_shorter_is_shorter(shorter: float, longer: float) -> None:
    assert shorter < longer


def test_a_further_call_waits_at_random_for_up_to_twice_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda *bounds: bounds)

    assert [jitter(attempt) for attempt in (1, 2, 9)] == [(0, 0.2), (0, 0.4), (0, 2.0)]


def test_an_event_is_not_tried_after_its_last_try() -> None:
    config = TEMPLATE["Resources"]["KeepaliveFunction"]["Properties"]["EventInvokeConfig"]

    assert config["MaximumEventAgeInSeconds"] == t.LAST_TRY.total_seconds()
