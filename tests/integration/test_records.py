"""The tables in moto: what a record holds, and that it never moves backwards or loses a key."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from listenkeys.aws.clients import MAX_TRIES
from listenkeys.aws.record_items import MAX_UNANNOUNCED, iso
from listenkeys.aws.records import BATCH, Records, Saved
from listenkeys.errors import AccountError, ErrorCode, Unavailable
from listenkeys.model import LEASE, NOTHING, Current, Outcome, Result
from local.aws.stack import LocalAws
from local.clock import VirtualClock
from local.world import World

AT = datetime(2026, 1, 1, 12, 0, 0, 123000, tzinfo=UTC)
KEY, OTHER = "a" * 64, "b" * 64
ALL_RESULTS = [outcome for outcome in Outcome if outcome not in (Outcome.SKIPPED, Outcome.DEFERRED)]
SUCCESSES = ["EXTENDED", "CHANGED", "CREATED", "RECREATED"]


def records_of(aws: LocalAws, mode: str = "all", days: int = 30) -> Records:
    tables = aws.outputs["ListenKeysTableName"], aws.outputs["LedgerTableName"]
    return Records(aws.client("dynamodb"), *tables, mode, days, VirtualClock().sleep)


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


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (AT, "2026-01-01T12:00:00.123Z"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00.000Z"),
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=5))), "2025-12-31T21:00:00.000Z"),
        (datetime(2026, 1, 1, 0, 0, 0, 999999, tzinfo=UTC), "2026-01-01T00:00:00.999Z"),
    ],
)
def test_times_are_text_that_sorts(moment: datetime, text: str) -> None:
    assert iso(moment) == text


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
        "ttl": {"N": str(int((AT + timedelta(days=30)).timestamp()))},
    }


def test_a_failure_is_recorded_as_the_contract_says_and_touches_no_key(
    world: World, records: Records
) -> None:
    save(records, success())

    save(records, failure(minutes=30), run_id="run-2")

    _, ledger, current = sorted(raw(world), key=lambda item: item["record"]["S"])
    assert current == {
        "accountId": {"S": "alice"},
        "record": {"S": "CURRENT"},
        "listenKey": {"S": KEY},
        "product": {"S": "usdm"},
        "outcome": {"S": "FAILED"},
        "attemptedAt": {"S": "2026-01-01T12:30:00.123Z"},
        "renewedAt": {"S": "2026-01-01T12:00:00.123Z"},
        "expiresAt": {"S": "2026-01-01T13:00:00.123Z"},
        "listenKeyChangedAt": {"S": "2026-01-01T12:00:00.123Z"},
        "streamUrl": {"S": "wss://fstream.binance.com"},
        "consecutiveFailures": {"N": "1"},
        "errorCode": {"S": "SERVER_ERROR"},
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
        "ttl": {"N": str(int((AT + timedelta(minutes=30, days=30)).timestamp()))},
    }


@pytest.mark.parametrize("outcome", ["FAILED", "REJECTED"])
def test_an_account_that_never_had_a_key_gets_none_from_a_failure(
    world: World, records: Records, outcome: str
) -> None:
    save(records, failure(outcome=outcome))

    assert world.current("alice").keys().isdisjoint({"listenKey", "renewedAt", "expiresAt"})
    assert "expiresAt" not in world.ledger("alice")[0]


@pytest.mark.parametrize("outcome", SUCCESSES)
def test_a_success_clears_the_error_and_the_count(world: World, records: Records, outcome: str) -> None:
    for minutes in (0, 5, 10):
        save(records, failure(minutes=minutes))
    assert world.current("alice")["consecutiveFailures"] == 3

    save(records, success(minutes=15, outcome=outcome))

    current = world.current("alice")
    assert current["consecutiveFailures"] == 0
    assert current.keys().isdisjoint({"errorCode", "errorMessage"})


def test_the_time_of_the_last_change_moves_only_with_the_key(world: World, records: Records) -> None:
    changed: list[str] = []
    for minutes, key in [(0, KEY), (30, KEY), (60, OTHER), (90, None), (120, OTHER)]:
        save(records, success(minutes=minutes, key=key))
        changed.append(world.current("alice")["listenKeyChangedAt"])
    save(records, failure(minutes=150))

    at_first, at_60 = iso(AT), iso(AT + timedelta(minutes=60))
    assert changed == [at_first, at_first, at_60, at_60, at_60]
    assert world.current("alice")["listenKeyChangedAt"] == at_60


def test_a_success_that_named_no_key_keeps_the_recorded_one(world: World, records: Records) -> None:
    save(records, success())

    save(records, success(minutes=30, key=None))

    current = world.current("alice")
    assert current["listenKey"] == KEY
    assert current["expiresAt"] == iso(AT + timedelta(minutes=90))
    assert world.ledger("alice")[-1]["listenKeyFingerprint"] == hashlib.sha256(KEY.encode()).hexdigest()[:12]


@pytest.mark.parametrize("late", [success(minutes=-1, key=OTHER), failure(minutes=-1)])
def test_an_older_attempt_leaves_a_newer_record_alone_and_has_its_ledger_entry(
    world: World, records: Records, late: Result
) -> None:
    save(records, success())
    before = world.current("alice")

    save(records, late, run_id="late")

    assert world.current("alice") == before
    assert [entry["runId"] for entry in world.ledger("alice")] == ["late", "run-1"]


def test_of_a_success_before_a_recorded_failure_the_key_is_kept_and_the_failure_stands(
    world: World, records: Records
) -> None:
    save(records, success(minutes=-30))
    save(records, failure(), run_id="failed")
    save(records, success(minutes=-1, outcome="RECREATED", key=OTHER), run_id="late")

    current = world.current("alice")
    assert (current["outcome"], current["consecutiveFailures"]) == ("FAILED", 1)
    assert (current["listenKey"], current["renewedAt"]) == (OTHER, iso(AT - timedelta(minutes=1)))
    assert kinds(current) == ["Changed", "Failing", "Changed"]


def kinds(current: dict[str, Any]) -> list[str]:
    return [json.loads(text)["detailType"].split()[-1] for text in current.get("unannounced", [])]


@pytest.mark.slow
def test_a_refused_account_does_not_cost_the_others_of_its_batch_theirs(
    world: World, records: Records
) -> None:
    newer = {f"a{n}" for n in (0, 7, 49)}
    save(records, *(success(id_, minutes=5) for id_ in newer))

    save(records, *(success(f"a{n}", key=OTHER) for n in range(BATCH)))

    for n in range(BATCH):
        expected = (KEY, iso(AT + timedelta(minutes=5))) if f"a{n}" in newer else (OTHER, iso(AT))
        current = world.current(f"a{n}")
        assert (current["listenKey"], current["attemptedAt"]) == expected
        assert len(world.ledger(f"a{n}")) == (2 if f"a{n}" in newer else 1)


def test_a_full_batch_is_one_call(world: World, records: Records) -> None:
    sent: list[int] = []
    events = world.aws.client("dynamodb").meta.events
    name = "provide-client-params.dynamodb.TransactWriteItems"

    def count(params: dict[str, Any], **_: Any) -> None:
        sent.append(len(params["TransactItems"]))

    events.register(name, count)
    try:
        save(records, *(success(f"a{n}") for n in range(BATCH)))
    finally:
        events.unregister(name, count)

    assert sent == [2 * BATCH]


def test_a_late_failure_never_touches_the_key_a_newer_run_renewed(world: World, records: Records) -> None:
    save(records, success())
    stale = dict(records.read(["alice"]))["alice"]
    save(records, success(minutes=30, key=OTHER))

    late = failure(minutes=31)
    late.before = stale
    records.save([late], "late")

    current = world.current("alice")
    assert (current["listenKey"], current["outcome"]) == (OTHER, "FAILED")
    assert current["renewedAt"] == iso(AT + timedelta(minutes=30))
    assert current["expiresAt"] == iso(AT + timedelta(minutes=90))


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


@pytest.mark.parametrize("days", [1, 30, 3650])
def test_an_entry_lives_for_ledger_days_and_the_current_record_for_ever(world: World, days: int) -> None:
    save(records_of(world.aws, days=days), success())

    assert world.ledger("alice")[0]["ttl"] == int((AT + timedelta(days=days)).timestamp())
    assert "ttl" not in world.current("alice")


@pytest.mark.parametrize("outcome", ALL_RESULTS)
def test_what_is_written_is_read(world: World, records: Records, outcome: Outcome) -> None:
    done = outcome in SUCCESSES
    result = (success if done else failure)(outcome=outcome)
    save(records, result)

    assert dict(records.read()) == {"alice": dict(records.read(["alice"]))["alice"]}
    assert dict(records.read(["alice", "nobody"])) == {
        "nobody": NOTHING,
        "alice": Current(
            listen_key=KEY if done else None,
            outcome=outcome,
            attempted_at=AT,
            renewed_at=AT if done else None,
            expires_at=AT + LEASE if done else None,
            consecutive_failures=0 if done else 1,
            error_code=None if done else "SERVER_ERROR",
            error_message=None if done else "Binance could not process the request",
            unannounced=tuple(result.unannounced),
            run_id="run-1",
            attempted=iso(AT),
        ),
    }


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("listenKey", {"N": "5"}),
        ("listenKey", {"S": ""}),
        ("renewedAt", {"S": "yesterday"}),
        ("renewedAt", {"N": "1767268800"}),
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
    expected = Current(KEY, "EXTENDED", AT, AT, AT + LEASE, run_id="earlier", attempted=iso(AT))

    differing = {name for name in Current.__slots__ if getattr(read, name) != getattr(expected, name)}
    names = {"listenKey": "listen_key", "renewedAt": "renewed_at", "expiresAt": "expires_at"}
    assert differing <= {names.get(attribute, attribute)}


def test_an_unknown_attribute_is_left_in_place(world: World, records: Records) -> None:
    world.put_current("alice", KEY, AT, somethingNew="of a later version")

    save(records, success(minutes=30))

    assert world.current("alice")["somethingNew"] == "of a later version"


def test_more_accounts_than_a_batch_takes_are_all_read(world: World, records: Records) -> None:
    written = ["a0", "a99", "a100", "a229"]
    save(records, *(success(id_) for id_ in written))

    found = dict(records.read([f"a{n}" for n in range(230)]))
    assert (len(found), {id_ for id_, record in found.items() if record != NOTHING}) == (230, set(written))


def test_what_was_announced_is_cleared_unless_more_has_come(world: World, records: Records) -> None:
    alice, bob = failure("alice"), failure("bob")
    save(records, alice, bob)
    save(records, success("bob", minutes=1))

    records.announced({"alice": alice.unannounced, "bob": bob.unannounced})

    assert "unannounced" not in world.current("alice")
    assert kinds(world.current("bob")) == ["Failing", "Changed", "Recovered"]


def test_what_could_not_be_announced_is_kept_up_to_a_bound(world: World, records: Records) -> None:
    sent = []
    for n in range(MAX_UNANNOUNCED + 5):
        result = success(minutes=n, outcome="CHANGED", key=str(n))
        save(records, result)
        sent += result.unannounced

    assert world.current("alice")["unannounced"] == sent[5:]


def stubbed(aws: LocalAws) -> tuple[Any, Records, VirtualClock]:
    client = aws._session.client("dynamodb", aws_access_key_id="x", aws_secret_access_key="x")
    clock = VirtualClock()
    return client, Records(client, "keys", "ledger", "all", 30, clock.sleep), clock


def cancelled(stub: Stubber, *codes: str) -> None:
    """Let a transaction be refused; two reasons to an account."""
    stub.add_client_error(
        "transact_write_items",
        "TransactionCanceledException",
        modeled_fields={"CancellationReasons": [{"Code": code} for code in codes]},
    )


def test_a_conflict_is_tried_again_after_a_pause(aws: LocalAws) -> None:
    client, records, clock = stubbed(aws)
    with Stubber(client) as stub:
        cancelled(stub, "TransactionConflict", "None")
        cancelled(stub, "ThrottlingError", "None")
        stub.add_response("transact_write_items", {})

        assert records.save([success()], "run") == Saved()

        stub.assert_no_pending_responses()
    assert len(clock.slept) == 2


def test_a_record_that_does_not_take_the_write_is_named_and_the_others_are_written(aws: LocalAws) -> None:
    client, records, _ = stubbed(aws)
    written: list[set[str]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        items = [item.get("Update", {}).get("Key") or item["Put"]["Item"] for item in params["TransactItems"]]
        written.append({item["accountId"]["S"] for item in items})

    client.meta.events.register("provide-client-params.dynamodb.TransactWriteItems", note)
    with Stubber(client) as stub:
        cancelled(stub, "None", "None", "ValidationError", "None")
        stub.add_response("transact_write_items", {})

        saved = records.save([success(name) for name in ("a", "b")], "run")

        stub.assert_no_pending_responses()
    assert saved == Saved(lost={"b"})
    assert written == [{"a", "b"}, {"a"}]


def test_a_table_that_stays_busy_is_given_up_after_a_few_tries(aws: LocalAws) -> None:
    client, records, clock = stubbed(aws)
    with Stubber(client) as stub:
        for _ in range(MAX_TRIES):
            cancelled(stub, "ProvisionedThroughputExceeded", "None")

        with pytest.raises(Unavailable, match=r"could not be written: ProvisionedThroughputExceeded$"):
            records.save([success()], "run")

        stub.assert_no_pending_responses()
    assert len(clock.slept) == MAX_TRIES - 1


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "InternalServerError", "ResourceNotFoundException"]
)
def test_a_table_that_cannot_be_written_is_unavailable_and_no_key_is_told(aws: LocalAws, code: str) -> None:
    client, records, _ = stubbed(aws)
    with Stubber(client) as stub:
        stub.add_client_error("transact_write_items", code, f"about {KEY}")

        with pytest.raises(Unavailable, match=rf"^ListenKeysTable could not be written: {code}$") as raised:
            records.save([success()], "run")

    assert not isinstance(raised.value.__context__, ClientError)


@pytest.mark.parametrize("code", ["AccessDeniedException", "InternalServerError"])
def test_a_table_that_cannot_be_read_is_unavailable(aws: LocalAws, code: str) -> None:
    client, records, _ = stubbed(aws)
    with Stubber(client) as stub:
        stub.add_client_error("batch_get_item", code, f"about {KEY}")

        with pytest.raises(Unavailable, match=rf"^ListenKeysTable could not be read: {code}$") as raised:
            dict(records.read(["alice"]))

    assert not isinstance(raised.value.__context__, ClientError)


def test_the_current_records_are_read_consistently(aws: LocalAws) -> None:
    client, records, _ = stubbed(aws)
    with Stubber(client) as stub:
        key = {"accountId": {"S": "alice"}, "record": {"S": "CURRENT"}}
        stub.add_response(
            "batch_get_item",
            {"Responses": {"keys": []}},
            {"RequestItems": {"keys": {"Keys": [key], "ConsistentRead": True}}},
        )

        assert dict(records.read(["alice"])) == {"alice": NOTHING}


def test_a_key_does_not_show_in_what_is_read() -> None:
    assert KEY not in repr(Current(listen_key=KEY)) + repr(success())
