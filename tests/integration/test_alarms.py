"""Every alarm, fired by what the function really printed, and quiet while all is well.

The metrics are the EMF lines of real invocations, dated by the virtual clock; the alarms are the deployed
template's. DeadLetterAlarm and ThrottlesAlarm read metrics that AWS publishes by itself: their data points
are put there as SQS and Lambda would, for letters and throttles that the rules really brought about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.dashboard import widgets_of
from tests.faults.matrix import api_key_of, kept
from tests.integration.alarms import Metrics
from tests.integration.watched import Watched
from tests.scene import Scene

AT_RISK, REJECTED = "KeyAtRiskAlarm", "RejectedAccountsAlarm"
DEAD_LETTER = "DeadLetterAlarm"
pytestmark = pytest.mark.usefixtures("botocore_sleeps")


@pytest.mark.slow
def test_all_alarms_are_quiet_on_a_healthy_day(watched: Watched) -> None:
    watched.go(60 * 24)

    assert watched.alarms.firing() == set()
    assert {name: len(alarm.history) for name, alarm in watched.alarms.items()} == dict.fromkeys(
        watched.alarms, 1
    )
    assert not watched.rules.letters


def test_all_alarms_are_quiet_when_there_are_no_accounts(world: Scene) -> None:
    watched = Watched(world, world.function, world.clock)
    watched.go(120)
    assert watched.alarms.firing() == set()


@pytest.mark.slow
def test_a_rejected_account_is_paged_until_a_person_fixes_it(watched: Watched) -> None:
    watched.world.exchange.revoke(api_key_of("bob"))
    watched.go(10)
    for _ in range(20):  # the sweeps between the ticks, and after the key has died, do not end it
        watched.go(5)
        assert REJECTED in watched.alarms.firing()

    watched.world.exchange.add_account(api_key_of("bob"))
    watched.go(40)
    assert watched.alarms.firing() == set()
    assert kept(watched.world, "bob")


def test_a_rejected_account_that_is_disabled_is_no_longer_paged(watched: Watched) -> None:
    watched.world.exchange.revoke(api_key_of("bob"))
    watched.go(40)
    watched.world.put_row("bob", enabled=False)
    watched.go(10)
    assert watched.alarms.firing() == set()


@pytest.mark.slow
def test_a_tick_that_fails_with_its_retries_shows_as_a_dead_letter(watched: Watched) -> None:
    watched.go(29)
    watched.world.exchange.fault(status=503)
    watched.go(20)
    watched.world.exchange.clear_faults()
    watched.go(15)

    [letter] = watched.rules.letters
    assert letter["responsePayload"]["errorType"] == "KeepaliveIncomplete"
    # What a person finds in the queue says what happened.
    assert "2 of 2 accounts left for another try" in letter["responsePayload"]["errorMessage"]
    [left_at] = watched.rules.left_at
    begun, over = (change for change in watched.alarms[DEAD_LETTER].history if change[0] >= left_at)
    assert (begun[1], begun[0] - left_at <= 60) == ("ALARM", True)
    assert over[1] == "OK"
    assert 20 <= (over[0] - begun[0]) / 60 < 22  # though the letter is still there

    assert watched.alarms.firing() == set()


def emitted(runs: Iterable[Any]) -> Metrics:
    metrics = Metrics()
    for run in runs:
        metrics.read(run.done.output, run.at)
    return metrics


def test_the_metrics_are_those_that_alarms_and_dashboard_read(watched: Watched) -> None:
    watched.go(1)
    written = emitted(watched.rules.runs).names("ListenKeyKeeper")
    template = watched.world.aws.template
    alarms = {a.series[1] for a in watched.alarms.values() if a.series[0] == "ListenKeyKeeper"}
    shown = set()
    for widget in widgets_of(template):
        namespace = None
        for line in widget["properties"].get("metrics", ()):
            namespace = line[0] if line[0] != "." else namespace
            if namespace == "ListenKeyKeeper":
                shown.add(line[1])

    assert written == alarms | shown


def test_every_metric_has_the_one_dimension_that_the_alarms_ask_for(watched: Watched) -> None:
    watched.go(60)
    metrics = emitted(watched.rules.runs)
    ours = {a.series[2] for a in watched.alarms.values() if a.series[0] == "ListenKeyKeeper"}
    assert (
        metrics.dimensions("ListenKeyKeeper")
        == ours
        == {frozenset({("service", watched.world.aws.stack_name)})}
    )
