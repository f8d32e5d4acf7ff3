"""The probe asks Binance once, with a made-up API key, and says what the answer shows."""

import json
from typing import Any

import pytest

from listenkeys.sending.probe import MADE_UP
from local.clock import VirtualClock
from tests.leaks import WatchedFunction
from tests.scene import Scene

PROBE = {"dryRun": True, "probe": True}
SERVED = {"served": True, "address": "127.0.0.1", "errorCode": None, "errorMessage": None}


def probed(function: WatchedFunction, event: Any = PROBE) -> dict[str, Any]:
    done = function.invoke(event)
    assert done.error is None
    assert done.report
    found: dict[str, Any] = done.report["probe"]
    return found


def test_a_refused_key_shows_that_binance_serves_this_address(function: WatchedFunction) -> None:
    assert probed(function) == {"host": "127.0.0.1", **SERVED}


def test_it_is_one_put_with_a_made_up_key_and_nothing_else(world: Scene) -> None:
    world.add_account("alice", "CANARYalice".ljust(64, "x"))
    probed(world.function)
    assert world.clock.monotonic() == 0
    assert [(r.method, r.path, r.api_key) for r in world.exchange.requests] == [
        ("PUT", "/fapi/v1/listenKey", MADE_UP)
    ]
    assert world.records("alice") == []


def test_a_key_whose_format_is_refused_shows_it_too(world: Scene) -> None:
    world.exchange.fault(status=401, code=-2014)
    assert probed(world.function) == {"host": "127.0.0.1", **SERVED, "address": None}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 451}, "RESTRICTED_LOCATION"),
        ({"status": 403, "body": "<html>203.0.113.7</html>"}, "WAF_BLOCKED"),
        ({"status": 418}, "IP_BANNED"),
        ({"status": 429}, "RATE_LIMITED"),
        ({"status": 503}, "SERVER_ERROR"),
        ({"status": 404, "body": "request ip: 203.0.113.7"}, "BAD_REQUEST"),
        ({"status": 200, "body": '{"listenKey": "CANARYlistenKey"}'}, "BAD_RESPONSE"),
        ({"status": 200, "body": "{}"}, "BAD_RESPONSE"),
        ({"status": 200, "body": "hello"}, "BAD_RESPONSE"),
        ({"kind": "reset"}, "CONNECTION"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_other_answer_is_named_and_does_not_fail_the_dry_run(
    world: Scene, fault: dict[str, Any], code: str
) -> None:
    world.exchange.fault(**fault)
    found = probed(world.function)
    assert (found["served"], found["address"], found["errorCode"]) == (False, None, code)
    assert found["errorMessage"]
    assert len(world.exchange.requests) == 1


def test_a_message_that_only_looks_like_an_address_is_not_one(world: Scene) -> None:
    world.exchange.fault(status=401, code=-2015, msg="request ip: <b>CANARY</b>")
    assert probed(world.function)["address"] is None


def counter(clock: VirtualClock) -> dict[str, Any]:
    """Return the key of the counter that this clock minute's weight is taken from."""
    return {"accountId": {"S": "#weight:futures"}, "record": {"S": f"{clock.now():%Y-%m-%dT%H:%MZ}"}}


def test_its_weight_is_taken_from_the_stack_s_budget(world: Scene) -> None:
    table = world.aws.outputs["LedgerTableName"]
    for sent in (1, 2):
        probed(world.function)
        item = world.aws.client("dynamodb").get_item(TableName=table, Key=counter(world.clock))["Item"]
        assert item["used"] == {"N": f"{sent}"}


def test_where_the_minute_s_weight_is_used_up_nothing_is_sent(world: Scene) -> None:
    table = world.aws.outputs["LedgerTableName"]
    item = counter(world.clock) | {"used": {"N": "1200"}}
    world.aws.client("dynamodb").put_item(TableName=table, Item=item)
    found = probed(world.function)
    assert (found["served"], found["errorCode"]) == (False, "RATE_LIMITED")
    assert found["errorMessage"].startswith("not sent")
    assert world.exchange.requests == []


def test_only_an_event_that_asks_for_it_has_it_in_its_report(function: WatchedFunction) -> None:
    for event in ({"dryRun": True}, {"dryRun": True, "probe": False}, {}):
        done = function.invoke(event)
        assert done.report
        assert "probe" not in done.report


def test_the_log_shows_what_was_found(function: WatchedFunction) -> None:
    done = function.invoke(PROBE)
    [run] = [line for line in map(json.loads, done.output.splitlines()) if line.get("message") == "run"]
    assert run["report"]["probe"]["address"] == "127.0.0.1"
    assert MADE_UP not in done.output
