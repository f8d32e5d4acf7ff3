"""The tables in moto: what a record holds, and that it never moves backwards or loses a key."""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.stub import Stubber

from listenkeys.aws.records import BATCH, Records
from listenkeys.errors import AccountError, ErrorCode, Unavailable
from listenkeys.model import LEASE, NOTHING, Current, Outcome, Result, iso
from local.aws.stack import LocalAws
from local.clock import VirtualClock
from local.world import World

AT = datetime(2026, 1, 1, 12, 0, 0, 123000, tzinfo=UTC)
KEY, OTHER = "a" * 64, "b" * 64
SUCCESSES = ["EXTENDED", "CHANGED", "CREATED", "RECREATED"]


def records_of(aws: LocalAws, mode: str = "all") -> Records:
    tables = aws.outputs["ListenKeysTableName"], aws.outputs["LedgerTableName"]
    return Records(aws.client("dynamodb"), *tables, mode, 7, VirtualClock().sleep)


@pytest.fixture
def records(world: World) -> Records:
    return records_of(world.aws)


def success(
    id_: str = "alice", minutes: float = 0, outcome: str = "EXTENDED", key: str | None = KEY
) -> Result:
    at = AT + timedelta(minutes=minutes)
    return Result(
        id_, "usdm", Outcome(outcome), at, NOTHING, key, http_status=200, attempts=1, latency_ms=21,
        stream_url="wss://fstream.binance.com",
    )  # fmt: skip


def failure(id_: str = "alice", minutes: float = 0, outcome: str = "FAILED") -> Result:
    at = AT + timedelta(minutes=minutes)
    made = Result(id_, "usdm", Outcome(outcome), at, NOTHING, attempts=4, latency_ms=5000)
    return made.explain(AccountError(ErrorCode.SERVER_ERROR, "Binance could not process the request", 503))


def save(records: Records, *results: Result, run_id: str = "run-1") -> None:
    """Record results as a run would: after reading what is recorded."""
    before = dict(records.read([result.account_id for result in results]))
    for result in results:
        result.before = before[result.account_id]
        result.expires_at = result.expires_at or result.before.expires_at
    assert records.save(results, run_id).lost == set()


def raw(world: World) -> list[dict[str, Any]]:
    """Return all that is recorded, the ledger first, but for what is to be announced."""
    items = [*world.aws.items("LedgerTable"), *world.aws.items("ListenKeysTable")]
    return [{name: value for name, value in item.items() if name != "unannounced"} for item in items]


def test_a_success_is_recorded_as_the_contract_says(world: World, records: Records) -> None:
    save(records, success(outcome="CREATED"))

    ledger, current = raw(world)
    assert current == {
        "accountId": {"S": "alice"},
        "record": {"S": "CURRENT"},
        "listenKey": {"S": KEY},
        "product": {"S": "usdm"},
        "outcome": {"S": "CREATED"},
        "attemptedAt": {"S": "2026-01-01T12:00:00.123Z"},
        "renewedAt": {"S": "2026-01-01T12:00:00.123Z"},
        "expiresAt": {"S": "2026-01-01T13:00:00.123Z"},
        "listenKeyChangedAt": {"S": "2026-01-01T12:00:00.123Z"},
        "streamUrl": {"S": "wss://fstream.binance.com"},
        "consecutiveFailures": {"N": "0"},
        "runId": {"S": "run-1"},
    }
    assert ledger == {
        "accountId": {"S": "alice"},
        "record": {"S": "2026-01-01T12:00:00.123Z"},
        "outcome": {"S": "CREATED"},
        "httpStatus": {"N": "200"},
        "attempts": {"N": "1"},
        "latencyMs": {"N": "21"},
        "runId": {"S": "run-1"},
        "expiresAt": {"S": "2026-01-01T13:00:00.123Z"},
        "listenKeyFingerprint": {"S": hashlib.sha256(KEY.encode()).hexdigest()[:12]},
        "ttl": {"N": str(int((AT + timedelta(days=7)).timestamp()))},
    }


def test_a_failure_is_recorded_as_the_contract_says_and_touches_no_key(
    world: World, records: Records
) -> None:
    save(records, success())
    _, before = raw(world)

    save(records, failure(minutes=30), run_id="run-2")

    _, ledger, current = sorted(raw(world), key=lambda item: item["record"]["S"])
    assert current == before | {
        "outcome": {"S": "FAILED"},
        "attemptedAt": {"S": "2026-01-01T12:30:00.123Z"},
        "consecutiveFailures": {"N": "1"},
        "errorCode": {"S": "SERVER_ERROR"},
        "onlyErrorCode": {"S": "SERVER_ERROR"},
        "errorMessage": {"S": "Binance could not process the request"},
        "runId": {"S": "run-2"},
    }
    assert ledger == {
        "accountId": {"S": "alice"},
        "record": {"S": "2026-01-01T12:30:00.123Z"},
        "outcome": {"S": "FAILED"},
        "errorCode": {"S": "SERVER_ERROR"},
        "errorMessage": {"S": "Binance could not process the request"},
        "httpStatus": {"N": "503"},
        "attempts": {"N": "4"},
        "latencyMs": {"N": "5000"},
        "runId": {"S": "run-2"},
        "expiresAt": {"S": "2026-01-01T13:00:00.123Z"},
        "ttl": {"N": str(int((AT + timedelta(minutes=30, days=7)).timestamp()))},
    }


def test_failures_are_counted_until_a_success(world: World, records: Records) -> None:
    for minutes in (0, 30):
        save(records, failure(minutes=minutes))
    assert world.current("alice")["consecutiveFailures"] == 2

    save(records, success(minutes=60))

    current = world.current("alice")
    assert current["consecutiveFailures"] == 0
    assert current.keys().isdisjoint({"errorCode", "errorMessage"})


def kinds(current: dict[str, Any]) -> list[str]:
    return [json.loads(text)["detailType"].split()[-1] for text in current.get("unannounced", [])]


@pytest.fixture
def calls(aws: LocalAws) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """What DynamoDB is asked: operations and their parameters."""
    made: list[tuple[str, dict[str, Any]]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        made.append((model.name, params))

    events = aws.client("dynamodb").meta.events
    events.register("provide-client-params.dynamodb", note)
    yield made
    events.unregister("provide-client-params.dynamodb", note)


def test_a_full_batch_is_one_call(
    records: Records, calls: list[tuple[str, dict[str, Any]]], world: World
) -> None:
    save(records, *(success(f"a{n}") for n in range(BATCH)))

    sent = [len(asked["TransactItems"]) for name, asked in calls if name == "TransactWriteItems"]
    assert sent == [2 * BATCH]


def test_the_current_records_are_read_consistently(
    records: Records, calls: list[tuple[str, dict[str, Any]]], world: World
) -> None:
    assert [*records.read(["alice"]), *records.read()] == [("alice", NOTHING)]

    (batch, one), (scan, all_) = calls
    assert (batch, scan) == ("BatchGetItem", "Scan")
    assert one["RequestItems"][records.table]["ConsistentRead"] is all_["ConsistentRead"] is True


@pytest.mark.parametrize(
    ("sequence", "in_all", "in_changes"),
    [
        (["CREATED", "EXTENDED", "EXTENDED", "EXTENDED"], 4, 2),
        (["EXTENDED", "FAILED", "EXTENDED", "EXTENDED"], 4, 3),
        (["EXTENDED", "CHANGED", "EXTENDED"], 3, 3),
        (["FAILED", "FAILED", "REJECTED"], 3, 3),
        (["RECREATED", "RECREATED"], 2, 2),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else None,
)
def test_mode_changes_leaves_out_an_extended_that_follows_an_extended(
    world: World, sequence: list[str], in_all: int, in_changes: int
) -> None:
    for id_, mode in [("all", "all"), ("changes", "changes")]:
        records = records_of(world.aws, mode)
        for n, outcome in enumerate(sequence):
            made = success if outcome in SUCCESSES else failure
            save(records, made(id_, 30 * n, outcome))

    assert [len(world.ledger("all")), len(world.ledger("changes"))] == [in_all, in_changes]
    currents = [world.current(id_) | {"accountId": "", "unannounced": ""} for id_ in ("all", "changes")]
    assert currents[0] == currents[1]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("listenKey", {"N": "5"}),
        ("renewedAt", {"S": "yesterday"}),
        ("renewedAt", {"S": "2026-01-01T12:00:00"}),
        ("renewedAt", {"S": "0001-01-01T00:00:00+14:00"}),  # before the year 1 in UTC
        ("expiresAt", {"NULL": True}),
        ("consecutiveFailures", {"S": "many"}),
        ("consecutiveFailures", {"N": "-1"}),
        ("unannounced", {"S": "x"}),
        ("unannounced", {"L": [{"N": "1"}]}),
        ("outcome", {"S": "SOMETHING_NEW"}),
        ("somethingNew", {"M": {}}),
    ],
    ids=str,
)
def test_a_broken_or_unknown_attribute_does_not_cost_the_others(
    world: World, records: Records, attribute: str, value: dict[str, Any]
) -> None:
    world.put_current("alice", KEY, AT, **{attribute: value})

    read = dict(records.read(["alice"]))["alice"]
    expected = Current(
        KEY, "EXTENDED", AT, AT, AT + LEASE, run_id="earlier", attempted=iso(AT), product="usdm"
    )

    differing = {name for name in Current.__slots__ if getattr(read, name) != getattr(expected, name)}
    names = {"listenKey": "listen_key", "renewedAt": "renewed_at", "expiresAt": "expires_at"}
    assert differing <= {names.get(attribute, attribute)}


def test_what_was_announced_is_cleared_unless_more_has_come(world: World, records: Records) -> None:
    alice, bob = failure("alice"), failure("bob")
    save(records, alice, bob)
    save(records, success("bob", minutes=1))

    records.announced({"alice": alice.unannounced, "bob": bob.unannounced})

    assert "unannounced" not in world.current("alice")
    assert kinds(world.current("bob")) == ["Failing", "Changed", "Recovered"]


def test_what_dynamodb_says_of_a_key_does_not_come_along(aws: LocalAws) -> None:
    client = aws._session.client("dynamodb", aws_access_key_id="x", aws_secret_access_key="x")
    records = Records(client, "keys", "ledger", "all", 7, VirtualClock().sleep)
    with Stubber(client) as stub:
        for operation in ("batch_get_item", "transact_write_items"):
            stub.add_client_error(operation, "AccessDeniedException", f"about {KEY}")
            with pytest.raises(Unavailable, match=r"AccessDeniedException$") as raised:
                list(records.read(["alice"])) if "get" in operation else records.save([success()], "run")
            assert KEY not in "".join(traceback.format_exception(raised.value))


def test_a_key_does_not_show_in_what_is_read() -> None:
    assert KEY not in repr(Current(listen_key=KEY)) + repr(success())
