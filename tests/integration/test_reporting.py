"""What the function reports: its report, log lines, metrics and events; and never a key."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from listenkeys.view.remedies import REMEDIES
from local.clock import VirtualClock
from local.invoke import Invocation
from local.world import World
from tests.faults.matrix import SWEEP, TICK
from tests.leaks import WatchedFunction

REPORT = [
    "runId", "trigger", "accounts", "extended", "changed", "created", "recreated", "skipped",
    "failed", "deferred", "rejected", "minRemainingSeconds", "usedWeight", "durationMs", "problems",
]  # fmt: skip
METRICS = {
    "SweepsCompleted", "TicksCompleted", "KeysExtended", "KeysChanged", "KeysFailed",
    "KeysDeferred", "KeysRejected", "MinRemainingSeconds", "UsedWeight", "KeysAtRisk",
}  # fmt: skip
UNITS = {"MinRemainingSeconds": "Seconds"}
CHANGED, FAILING, RECOVERED = "Listen Key Changed", "Listen Key Failing", "Listen Key Recovered"


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


@pytest.mark.parametrize("event", [TICK, SWEEP, {}, {"force": True}, {"accounts": ["alice"]}], ids=str)
def test_a_report_has_the_fields_of_the_contract(
    demo: World, function: WatchedFunction, event: dict[str, Any]
) -> None:
    report = function.invoke(event).report

    assert report is not None
    assert list(report) == REPORT
    assert list(json.loads(json.dumps(report))) == REPORT
    for problem in report["problems"]:
        assert list(problem) == ["accountId", "outcome", "errorCode", "errorMessage"]


def test_a_report_of_the_demonstration(demo: World, function: WatchedFunction) -> None:
    report = function.invoke(TICK).report

    assert report is not None
    numbers = {name: report[name] for name in REPORT if isinstance(report[name], int)}
    assert numbers.pop("usedWeight") in range(4, 8)  # with the one that made alice
    assert numbers.pop("durationMs") >= 0
    assert numbers == {
        "accounts": 4, "extended": 1, "changed": 0, "created": 1, "recreated": 1, "skipped": 0,
        "failed": 0, "deferred": 0, "rejected": 1, "minRemainingSeconds": 0,
    }  # fmt: skip
    assert report["trigger"] == "tick"
    [problem] = report["problems"]
    assert (problem["accountId"], problem["outcome"], problem["errorCode"]) == (
        "dave",
        "REJECTED",
        "INVALID_API_KEY",
    )


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


def test_at_debug_a_run_says_why_each_account_is_or_is_not_due_and_each_failure_as_it_happens(
    demo: World, clock: VirtualClock
) -> None:
    function = WatchedFunction(demo, clock, POWERTOOLS_LOG_LEVEL="DEBUG")
    demo.exchange.fault(status=503, times=1)

    first, second = function.invoke(TICK), function.invoke(TICK)

    due = {line["accountId"]: line["why"] for line in lines(first, "due")}
    assert due == {
        "alice": "renewed 34 min ago", "carol": "renewed 74 min ago",
        "bob": "no key yet", "dave": "no key yet",
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
def test_a_signing_secret_is_warned_of_once_a_run(world: World, function: WatchedFunction, name: str) -> None:
    for account in ("alice", "bob"):
        world.add_account(account, f"CANARY{account}".ljust(64, "x"))
        content = {"apiKey": f"CANARY{account}".ljust(64, "x"), name: f"CANARYsigning{account}secret"}
        world.put_secret(f"listenkeys/{account}", content)

    done = function.invoke(TICK)

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


def test_metrics_agree_with_the_report(demo: World, function: WatchedFunction) -> None:
    done = function.invoke(TICK)

    [emitted] = metrics(done)
    assert done.report is not None
    for name, field in [("UsedWeight", "usedWeight"), ("MinRemainingSeconds", "minRemainingSeconds")]:
        assert emitted[name] == [done.report[field]]


@pytest.mark.parametrize(
    "event", [{}, {"force": True}, {"accounts": ["alice"]}, {"dryRun": True}, {"surprise": 1}], ids=str
)
def test_a_run_by_hand_counts_nothing_for_it_does_not_show_that_the_rules_run(
    demo: World, function: WatchedFunction, event: dict[str, Any]
) -> None:
    assert metrics(function.invoke(event)) == []


def test_a_run_that_raises_for_its_accounts_is_counted(demo: World, function: WatchedFunction) -> None:
    demo.exchange.fault(status=503)

    done = function.invoke(TICK)

    [emitted] = metrics(done)
    assert done.error is not None
    assert emitted["TicksCompleted"] == [1]
    assert emitted["KeysFailed"][0] + emitted["KeysDeferred"][0] == 4


def test_without_accounts_nothing_is_said_of_the_time_left(world: World, function: WatchedFunction) -> None:
    [emitted] = metrics(function.invoke(TICK))

    assert METRICS - emitted.keys() == {"MinRemainingSeconds"}
    assert emitted["TicksCompleted"] == [1]


def test_the_counts_of_one_run_do_not_show_up_in_the_next(demo: World, function: WatchedFunction) -> None:
    function.invoke(TICK)

    [emitted] = metrics(function.invoke(TICK))

    assert (emitted["TicksCompleted"], emitted["KeysChanged"]) == ([1], [0])


def told(world: World) -> list[tuple[str, str, str]]:
    return [
        (event["detail"]["accountId"], event["detail-type"], event["detail"]["outcome"])
        for event in world.aws.account_events()
    ]


def test_changes_are_announced_as_the_contract_says(demo: World, function: WatchedFunction) -> None:
    function.invoke(TICK)

    table = {"listenKeysTable": demo.aws.outputs["ListenKeysTableName"]}
    events = {event["detail"]["accountId"]: event for event in demo.aws.account_events()}
    assert {event["source"] for event in events.values()} == {"listenkey-keeper"}
    assert {id_: (event["detail-type"], event["detail"]) for id_, event in events.items()} == {
        "bob": (
            CHANGED,
            {
                "id": f"bob/{demo.current('bob')['attemptedAt']}/Changed",
                "accountId": "bob", "product": "usdm", "outcome": "CREATED", "errorCode": None,
                "expiresAt": demo.current("bob")["expiresAt"], **table,
            },
        ),
        "carol": (
            CHANGED,
            {
                "id": f"carol/{demo.current('carol')['attemptedAt']}/Changed",
                "accountId": "carol", "product": "usdm", "outcome": "RECREATED", "errorCode": None,
                "expiresAt": demo.current("carol")["expiresAt"], **table,
            },
        ),
        "dave": (
            FAILING,
            {
                "id": f"dave/{demo.current('dave')['attemptedAt']}/Failing",
                "accountId": "dave", "product": "usdm", "outcome": "REJECTED",
                "errorCode": "INVALID_API_KEY", "expiresAt": None,
                "remedy": REMEDIES["INVALID_API_KEY"], **table,
            },
        ),
    }  # fmt: skip
    assert len(demo.aws.account_events()) == 3


def test_an_announcement_that_was_sent_is_no_longer_kept(demo: World, function: WatchedFunction) -> None:
    function.invoke(TICK)

    assert [name for name in ("alice", "bob", "carol", "dave") if "unannounced" in demo.current(name)] == []


def test_a_failure_and_its_end_are_announced_once_each(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    world.add_account("alice", "CANARYalice".ljust(64, "x"))
    function.invoke(TICK)
    clock.advance(minutes=10)
    fault = world.exchange.fault(status=503)
    for _ in range(3):
        function.invoke(TICK)
        clock.advance(minutes=5)
    fault.clear()
    for _ in range(2):
        function.invoke(TICK)
        clock.advance(minutes=30)

    assert told(world) == [
        ("alice", CHANGED, "CREATED"),
        ("alice", FAILING, "FAILED"),
        ("alice", RECOVERED, "EXTENDED"),
    ]


def test_a_key_that_somebody_replaced_is_announced(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    api_key = "CANARYalice".ljust(64, "x")
    world.add_account("alice", api_key)
    function.invoke(TICK)
    clock.advance(minutes=30)
    world.exchange.rotate(api_key, "usdm")

    function.invoke(TICK)

    assert told(world)[1:] == [("alice", CHANGED, "CHANGED")]


def test_what_an_earlier_run_could_not_announce_the_next_one_does_even_for_a_fresh_account(
    world: World, function: WatchedFunction, clock: VirtualClock
) -> None:
    detail = {"accountId": "alice", "product": "usdm", "outcome": "CREATED", "errorCode": None}
    text = json.dumps({"detailType": CHANGED, "detail": detail})
    world.add_account("alice", "CANARYalice".ljust(64, "x"))
    world.put_current("alice", "k" * 64, clock.now() - timedelta(minutes=1), unannounced={"L": [{"S": text}]})

    done = function.invoke(SWEEP)

    assert done.report is not None
    assert done.report["skipped"] == 1
    assert told(world) == [("alice", CHANGED, "CREATED")]
    assert "unannounced" not in world.current("alice")


def test_many_changes_are_all_announced(world: World, function: WatchedFunction) -> None:
    for n in range(23):
        world.add_account(f"a{n}", f"CANARY{n}".ljust(64, "x"))

    function.invoke(TICK)

    assert sorted(told(world)) == sorted((f"a{n}", CHANGED, "CREATED") for n in range(23))


def test_a_bus_that_does_not_answer_leaves_the_news_with_the_record_and_the_tick_raises(
    world: World, function: WatchedFunction
) -> None:
    world.add_account("alice", "CANARYalice".ljust(64, "x"))
    client = function.app.keeper.announcer.events

    def elsewhere(request: Any, **_: Any) -> None:
        request.url = "http://127.0.0.1:1/"

    client.meta.events.register("before-send.eventbridge.PutEvents", elsewhere)
    done = function.invoke(TICK)
    client.meta.events.unregister("before-send.eventbridge.PutEvents", elsewhere)
    kept = world.current("alice")

    function.invoke(SWEEP)

    assert "EventBridge did not take the announcements" in str(done.error)
    assert (kept["outcome"], len(kept["unannounced"])) == ("CREATED", 1)
    assert told(world) == [("alice", CHANGED, "CREATED")]
    assert "unannounced" not in world.current("alice")
