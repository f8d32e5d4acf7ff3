"""What the function reports: its report, log lines, metrics and events; and never a key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from listenkeys.view.remedies import remedy
from local.clock import VirtualClock
from local.invoke import Invocation
from local.world import World
from tests.faults.matrix import SWEEP, TICK
from tests.leaks import WatchedFunction
from tests.scene import Scene

METRICS = {
    "SweepsCompleted", "TicksCompleted", "KeysExtended", "KeysChanged", "KeysFailed",
    "KeysDeferred", "KeysRejected", "MinRemainingSeconds", "UsedWeight", "KeysAtRisk",
}  # fmt: skip
UNITS = {"MinRemainingSeconds": "Seconds"}


def lines(done: Invocation, message: str) -> list[dict[str, Any]]:
    printed = [json.loads(line) for line in done.output.splitlines()]
    return [line for line in printed if line.get("message") == message]


def metrics(done: Invocation) -> list[dict[str, Any]]:
    printed = [json.loads(line) for line in done.output.splitlines()]
    return [line for line in printed if "_aws" in line]


@pytest.fixture
def demo(world: World, clock: VirtualClock) -> World:
    """A world of alice (alive), bob (new), carol (forgotten) and dave (bad key)."""
    world.add_demo_accounts(clock.now())
    return world


def test_a_run_is_logged_in_one_line_with_its_report(demo: World, function: WatchedFunction) -> None:
    done = function.invoke(TICK)

    [line] = lines(done, "run")
    assert done.report is not None
    expected = {name: value for name, value in done.report.items() if name != "problems"}
    assert line["report"] == expected
    assert (line["level"], line.get("incomplete")) == ("INFO", None)
    assert line["function_request_id"] == done.report["runId"]


def test_each_account_that_did_not_simply_extend_is_logged_in_one_line(
    demo: World, function: WatchedFunction
) -> None:
    done = function.invoke(TICK)

    logged = {
        line["accountId"]: (line["level"], line["outcome"], line.get("errorCode"), line["product"])
        for line in lines(done, "account")
    }
    assert logged == {
        "bob": ("INFO", "CREATED", None, "usdm"),
        "carol": ("INFO", "RECREATED", None, "usdm"),
        "dave": ("ERROR", "REJECTED", "INVALID_API_KEY", "usdm"),
    }
    assert lines(function.invoke(SWEEP), "account") == []  # what stands is not said again


def test_at_debug_a_run_says_why_an_account_is_due_and_each_failure(demo: World, clock: VirtualClock) -> None:
    function = WatchedFunction(demo, clock, POWERTOOLS_LOG_LEVEL="DEBUG")
    demo.exchange.fault(status=503, times=1)

    first, second = function.invoke(TICK), function.invoke(TICK)

    due = {line["accountId"]: line["why"] for line in lines(first, "due")}
    assert due == {
        "alice": "renewed 34 min ago", "carol": "renewed 74 min ago",
        "bob": "no listenKey yet", "dave": "no listenKey yet",
    }  # fmt: skip
    assert {line["accountId"]: line["why"] for line in lines(second, "not due")} == dict.fromkeys(
        ("alice", "bob", "carol"), "renewed 0 min ago"
    )
    failed, *others = [(line["accountId"], line["errorCode"]) for line in lines(first, "failure")]
    assert failed == ("alice", "SERVER_ERROR"), "it is in no report: the second attempt succeeded"
    assert sorted(others) == [
        ("bob", "LISTEN_KEY_NOT_FOUND"), ("carol", "LISTEN_KEY_NOT_FOUND"), ("dave", "INVALID_API_KEY"),
    ]  # fmt: skip
    told = [json.loads(line).get("message") for line in first.output.splitlines()]
    assert told.index("failure") < told.index("run")
    assert {line["level"] for line in lines(first, "due") + lines(first, "failure")} == {"DEBUG"}
    assert {line["function_request_id"] for line in lines(first, "failure")} == {
        lines(first, "run")[0]["function_request_id"]
    }


def test_an_incomplete_run_is_logged_as_an_error_with_its_reason(
    demo: World, function: WatchedFunction
) -> None:
    demo.exchange.fault(status=503)

    done = function.invoke(TICK)

    [line] = lines(done, "run")
    assert (line["level"], line["incomplete"]) == ("ERROR", str(done.error))


@pytest.mark.parametrize("name", ["apiSecret", "secretKey"])
def test_a_signing_secret_is_warned_of_once_a_run(world: Scene, name: str) -> None:
    for account in ("alice", "bob"):
        world.add_account(account, f"CANARY{account}".ljust(64, "x"))
        content = {"apiKey": f"CANARY{account}".ljust(64, "x"), name: f"CANARYsigning{account}secret"}
        world.put_secret(f"listenkeys/{account}", content)

    done = world.invoke(TICK)

    [line] = lines(done, "secret")
    assert (line["level"], "never needed" in line["warning"]) == ("WARNING", True)


@pytest.mark.parametrize(
    ("event", "sweeps", "ticks"), [(TICK, [0], [1]), (SWEEP, [1], [0])], ids=["tick", "sweep"]
)
def test_a_rules_run_counts_everything_in_one_namespace_and_one_dimension(
    demo: World, function: WatchedFunction, event: dict[str, Any], sweeps: list[int], ticks: list[int]
) -> None:
    done = function.invoke(event)

    [emitted] = metrics(done)
    [directive] = emitted["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "ListenKeyKeeper"
    assert directive["Dimensions"] == [["service"]]
    assert emitted["service"] == demo.aws.stack_name
    units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    assert units == {name: UNITS.get(name, "Count") for name in METRICS}
    values = {name: emitted[name] for name in METRICS - {"UsedWeight"}}
    assert values == {
        "SweepsCompleted": sweeps, "TicksCompleted": ticks, "KeysExtended": [1], "KeysChanged": [2],
        "KeysFailed": [0], "KeysDeferred": [0], "KeysRejected": [1],
        "MinRemainingSeconds": [0], "KeysAtRisk": [1],
    }  # fmt: skip
    assert emitted.keys() == {"_aws", "service", *METRICS}
    assert done.report is not None
    assert emitted["UsedWeight"] == [done.report["usedWeight"]]
    assert done.report["usedWeight"] in range(4, 8)  # with the one that made alice


@pytest.mark.parametrize(
    "event", [{}, {"force": True}, {"accounts": ["alice"]}, {"dryRun": True}, {"surprise": 1}], ids=str
)
def test_a_run_by_hand_does_not_show_that_the_rules_run(
    demo: World, function: WatchedFunction, event: dict[str, Any]
) -> None:
    assert metrics(function.invoke(event)) == []


def test_without_accounts_nothing_is_said_of_the_time_left(world: Scene) -> None:
    [emitted] = metrics(world.invoke(TICK))

    assert METRICS - emitted.keys() == {"MinRemainingSeconds"}
    assert emitted["TicksCompleted"] == [1]


def test_the_counts_of_one_run_do_not_show_up_in_the_next(demo: World, function: WatchedFunction) -> None:
    function.invoke(TICK)

    [emitted] = metrics(function.invoke(TICK))

    assert (emitted["TicksCompleted"], emitted["KeysChanged"]) == ([1], [0])


def test_changes_are_announced_as_the_contract_says(demo: World, function: WatchedFunction) -> None:
    function.invoke(TICK)

    def of(name: str, kind: str, outcome: str, **more: Any) -> dict[str, Any]:
        current = demo.current(name)
        return {
            "id": f"{name}/{current['attemptedAt']}/{kind}", "accountId": name, "product": "usdm",
            "outcome": outcome, "errorCode": current.get("errorCode"), "expiresAt": current.get("expiresAt"),
            "diedEarly": False, "listenKeysTable": demo.aws.outputs["ListenKeysTableName"],
            **more,
        }  # fmt: skip

    events = demo.aws.account_events()
    assert {event["source"] for event in events} == {"listenkey-keeper"}
    assert sorted((event["detail-type"], event["detail"]["accountId"]) for event in events) == [
        ("Listen Key Changed", "bob"), ("Listen Key Changed", "carol"), ("Listen Key Failing", "dave"),
    ]  # fmt: skip
    assert {event["detail"]["accountId"]: event["detail"] for event in events} == {
        "bob": of("bob", "Changed", "CREATED"),
        "carol": of("carol", "Changed", "RECREATED"),
        "dave": of("dave", "Failing", "REJECTED", remedy=remedy("INVALID_API_KEY", "dave")),
    }
