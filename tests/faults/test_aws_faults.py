"""AWS throttles, fails, half answers or denies: rows 25 to 35, 47 and 48 of the fault matrix."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from listenkeys.aws.clients import MAX_TRIES
from listenkeys.model import LEASE, iso
from local.world import World
from tests.faults.matrix import (
    INCOMPLETE,
    SWEEP,
    TICK,
    api_key_of,
    events,
    kept,
    metrics,
    raised,
    summary,
)
from tests.faults.refusals import SDK_ATTEMPTS, Body, Refusals, asks_for, is_of, of_table
from tests.scene import Scene

ALL = {"force": True}
pytestmark = pytest.mark.usefixtures("botocore_sleeps")


def outcomes(world: World, *names: str) -> dict[str, Any]:
    """Return each account's recorded outcome, and with it the error code where there is one."""
    found = {}
    for name in names:
        current = world.current(name)
        code = current.get("errorCode")
        found[name] = f"{current.get('outcome')} {code}" if code else current.get("outcome")
    return found


UNAVAILABLE = "FAILED SECRET_UNAVAILABLE"
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:listenkeys/bob-AbCdEf"


def answer_with(refusals: Refusals, name: str, code: str, named: str | None = "") -> None:
    """Let Secrets Manager leave a secret out and say this of it, by another name; None: not a word."""

    def partly(answer: Body) -> None:
        values = [s for s in answer["SecretValues"] if s["Name"] != name]
        if named is not None and len(values) < len(answer["SecretValues"]):
            answer["Errors"].append({"SecretId": named or name, "ErrorCode": code, "Message": "no"})
        answer["SecretValues"] = values

    refusals.half_do("secretsmanager", "BatchGetSecretValue", partly)


def many(count: int) -> list[str]:
    return [f"account{number:03}" for number in range(count)]


# Secrets Manager


@pytest.mark.row(25)
@pytest.mark.parametrize("code", ["ThrottlingException", "InternalServiceError"])
def test_one_throttled_batch_of_secrets_is_retried_and_the_others_go_on(world: Scene, code: str) -> None:
    names = many(25)  # two batches: 20 and 5
    world.live(*names)
    status = 500 if code == "InternalServiceError" else 400
    refusal = world.refusals.refuse(
        "secretsmanager", "BatchGetSecretValue", code, status=status, when=asks_for("listenkeys/account024")
    )

    done = world.invoke(TICK)

    assert raised(done) == INCOMPLETE
    assert outcomes(world, *names[:20]) == dict.fromkeys(names[:20], "EXTENDED")
    assert outcomes(world, *names[20:]) == dict.fromkeys(names[20:], "FAILED SECRET_UNAVAILABLE")
    assert refusal.hits == SDK_ATTEMPTS, "no key is at risk: the next try comes in a minute"
    assert len(world.exchange.requests) == 20


SECRETS, TABLES = ("BatchGetSecretValue",), ("Scan", "BatchGetItem", "TransactWriteItems")


@pytest.mark.slow
@pytest.mark.row(25, 29, 30)
@pytest.mark.parametrize(
    ("minutes", "renew_after", "first_sweep"), [(25, 30, 0.1), (25, 30, 3.0), (25, 30, 4.9), (45, 10, 4.9)]
)
def test_an_outage_of_aws_that_is_as_long_as_promised_costs_no_key(
    world: Scene, row: int, minutes: int, renew_after: int, first_sweep: float
) -> None:
    """It begins a moment before the keys would have been renewed."""
    world.live("alice", "bob", minutes=30 if renew_after == 30 else 11)
    world.function = world.variant(RENEW_AFTER_MINUTES=str(renew_after))
    throttled, until = row == 25, world.clock.timestamp() + 60 * minutes
    code, status = ("ThrottlingException", 400) if throttled else ("InternalServerError", 500)
    for operation in TABLES if row == 30 else SECRETS:
        service = "dynamodb" if row == 30 else "secretsmanager"
        world.refusals.refuse(service, operation, code, status=status, until=until)

    runs = []
    for run in world.rules(0.0, first_sweep).follow(minutes + 35):
        runs.append(run)
        assert kept(world, "alice"), "at every moment"
        assert kept(world, "bob"), "at every moment"

    assert raised(runs[0].done) == INCOMPLETE
    assert sum(refusal.hits for refusal in world.refusals.all) <= 70 * SDK_ATTEMPTS, "a handful in each run"
    assert outcomes(world, "alice", "bob") == {"alice": "EXTENDED", "bob": "EXTENDED"}
    told = {entry.get("errorCode") for entry in world.ledger("alice")}
    assert ("SECRET_UNAVAILABLE" in told) == (row != 30)
    assert "RECREATED" not in {entry["outcome"] for entry in world.ledger("alice")}


@pytest.mark.row(25)
def test_a_throttled_batch_that_is_answered_on_a_retry_is_not_a_fault(world: Scene) -> None:
    world.live("alice")
    world.refusals.refuse(
        "secretsmanager", "BatchGetSecretValue", "ThrottlingException", times=SDK_ATTEMPTS - 1
    )

    done = world.invoke(TICK)

    assert done.error is None
    assert world.refusals.requests["BatchGetSecretValue"] == SDK_ATTEMPTS
    assert outcomes(world, "alice") == {"alice": "EXTENDED"}


@pytest.mark.slow
@pytest.mark.row(25)
def test_secrets_manager_that_is_down_is_not_asked_for_each_account(world: Scene) -> None:
    for name in many(240):
        world.put_row(name)
    refusal = world.refusals.refuse(
        "secretsmanager", "BatchGetSecretValue", "InternalServiceError", status=500
    )

    world.invoke(TICK)

    # 12 batches, five times over, would be 180 requests. Four readers ask at once, then nobody.
    assert refusal.hits <= 5 * SDK_ATTEMPTS * (3 + 4)
    assert world.exchange.requests == []


@pytest.mark.row(26)
def test_an_error_for_one_secret_of_a_batch_is_that_accounts_alone(world: Scene) -> None:
    gone = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:listenkeys/gone-AbCdEf"
    expected = {
        "ResourceNotFoundException": "REJECTED SECRET_NOT_FOUND",
        "AccessDeniedException": "REJECTED SECRET_DENIED",
        "DecryptionFailure": "REJECTED SECRET_DENIED",
        "KMSAccessDeniedException": "REJECTED SECRET_DENIED",
        "InvalidRequestException": "REJECTED SECRET_INVALID",
        "InvalidParameterException": "REJECTED SECRET_INVALID",
        "InternalServiceError": UNAVAILABLE,
        "ThrottlingException": UNAVAILABLE,
        "SomethingNew": UNAVAILABLE,
    }
    world.live("alice", *expected, "carol")
    world.put_row("gone", secretId=gone)
    for code in expected:
        answer_with(world.refusals, f"listenkeys/{code}", code)

    done = world.invoke(TICK)

    expected |= {"alice": "EXTENDED", "carol": "EXTENDED", "gone": "REJECTED SECRET_NOT_FOUND"}
    assert outcomes(world, *expected) == expected
    assert raised(done) == INCOMPLETE
    assert (metrics(done)["KeysRejected"], metrics(done)["KeysFailed"]) == (7, 3)
    assert kept(world, "alice")
    assert kept(world, "carol")


@pytest.mark.row(26)
def test_one_secret_that_makes_the_whole_call_invalid_costs_no_other(world: Scene) -> None:
    names = many(20)
    world.live(*names)
    bad = "listenkeys/account013"
    world.refusals.refuse(
        "secretsmanager", "BatchGetSecretValue", "InvalidParameterException", when=asks_for(bad)
    )

    done = world.invoke(TICK)

    assert outcomes(world, "account013") == {"account013": "REJECTED SECRET_INVALID"}
    assert metrics(done)["KeysExtended"] == 19
    assert world.refusals.requests["BatchGetSecretValue"] <= 2 * 5 + 1  # halved until it stands alone


@pytest.mark.row(66)
@pytest.mark.parametrize(
    ("named", "code", "outcome"),
    [
        pytest.param(ARN, "InternalServiceError", UNAVAILABLE, id="arn"),
        pytest.param(ARN[:-7], "InternalServiceError", UNAVAILABLE, id="partial arn"),
        pytest.param("listenkeys/bob", "InternalServiceError", UNAVAILABLE, id="name"),
        pytest.param(ARN, "ResourceNotFoundException", "REJECTED SECRET_NOT_FOUND", id="no such arn"),
        pytest.param(None, "", UNAVAILABLE, id="not at all"),
    ],
)
@pytest.mark.parametrize("asked_by", ["name", "arn"])
def test_an_error_that_names_a_secret_in_another_form_finds_it(
    world: Scene, asked_by: str, named: str | None, code: str, outcome: str
) -> None:
    """One that is not mentioned is not a missing secret."""
    world.live("alice", "bob")
    real = world.aws.client("secretsmanager").describe_secret(SecretId="listenkeys/bob")["ARN"]
    answer_with(world.refusals, "listenkeys/bob", code, named)
    if asked_by == "arn":
        world.put_row("bob", secretId=ARN)
        world.refusals.ask_for(  # moto's own random end is another one
            "secretsmanager",
            "BatchGetSecretValue",
            lambda body: {**body, "SecretIdList": [real if i == ARN else i for i in body["SecretIdList"]]},
        )

    done = world.invoke(TICK)

    assert raised(done) == (INCOMPLETE if outcome == UNAVAILABLE else "")
    assert outcomes(world, "alice", "bob") == {"alice": "EXTENDED", "bob": outcome}
    assert kept(world, "bob")


@pytest.mark.row(53)
def test_an_api_key_of_every_letter_that_there_is_goes_out(world: Scene) -> None:
    world.put_row("alice")
    letters = string.ascii_letters + string.digits + "-_"
    world.put_secret("listenkeys/alice", {"apiKey": letters})

    world.invoke(TICK)

    assert {request.api_key for request in world.exchange.requests} == {letters}


CANARY = "CANARYsecretCANARYsecretCANARYsecret"
MALFORMED: list[Any] = [
    CANARY,
    '{"apiKey": "' + CANARY,
    json.dumps([CANARY]),
    json.dumps(CANARY),
    "[" * 100_000,
    {"apikey": CANARY},
    {"apiKey": None, "note": CANARY},
    {"apiKey": 12345, "note": CANARY},
    {"apiKey": {"apiKey": CANARY}},
    {"apiKey": "", "note": CANARY},
    {"apiKey": CANARY + "\n"},
    {"apiKey": CANARY + "\r\nX-Injected: 1"},
    {"apiKey": CANARY + "\x00"},
    {"apiKey": f" {CANARY} "},
    {"apiKey": CANARY + "\u20ac"},  # outside Latin-1
    {"apiKey": CANARY + "\u00e4"},
    {"apiKey": CANARY * 100},
]


NO_API_KEYS = [
    "<script>alert(1)</script>", "two words", "%27%20OR%201=1", "../../etc/passwd", "key;drop", "k\u00e9y",
    "\uff21\uff22\uff23", "\u0661\u0662\u0663", "key\u200b", '{"apiKey": "x"}',
]  # fmt: skip


@pytest.mark.row(27, 53)
def test_what_is_no_api_key_is_rejected_and_neither_sent_nor_repeated(world: Scene, row: int) -> None:
    contents = {27: MALFORMED, 53: [{"apiKey": text} for text in NO_API_KEYS]}[row]
    bad = {f"bad{number:02}": content for number, content in enumerate(contents)}
    world.live("alice")
    for name, content in bad.items():
        world.put_row(name)
        world.put_secret(f"listenkeys/{name}", content)
    world.put_row("binary")
    binary = json.dumps({"apiKey": CANARY}).encode()
    world.aws.client("secretsmanager").create_secret(Name="listenkeys/binary", SecretBinary=binary)

    done = world.invoke(TICK)

    assert done.error is None
    assert outcomes(world, *bad, "binary") == dict.fromkeys((*bad, "binary"), "REJECTED SECRET_INVALID")
    assert metrics(done)["KeysRejected"] == len(bad) + 1
    assert [request.api_key for request in world.exchange.requests] == [api_key_of("alice")]
    records = [record for name in (*bad, "binary") for record in world.records(name)]
    said = done.output + json.dumps([done.report, records], ensure_ascii=False)
    for text in (CANARY[:12], *NO_API_KEYS):
        assert text not in said
    assert all("secret" in world.current(name)["errorMessage"] for name in bad)


@pytest.mark.row(27)
def test_a_field_that_a_shared_secret_lacks_costs_one_account_only(world: Scene) -> None:
    for name in ("alice", "bob", "carol"):
        world.exchange.add_account(api_key_of(name))
    world.put_secret(
        "listenkeys/team", {"alice": api_key_of("alice"), "bob": None, "carol": api_key_of("carol")}
    )
    for name in ("alice", "bob", "carol", "dave"):
        world.put_row(name, secretId="listenkeys/team", secretField=name)

    world.invoke(TICK)

    assert outcomes(world, "alice", "bob", "carol", "dave") == {
        "alice": "CREATED",
        "bob": "REJECTED SECRET_INVALID",
        "carol": "CREATED",
        "dave": "REJECTED SECRET_INVALID",
    }


@pytest.mark.row(28)
@pytest.mark.parametrize(
    ("then", "outcome", "sent"),
    [
        ("is a good key", "RECREATED", ["PUT", "PUT", "POST"]),
        ("is another bad key", "REJECTED INVALID_API_KEY", ["PUT", "PUT"]),
        ("is the same key", "REJECTED INVALID_API_KEY", ["PUT"]),
        ("cannot be read", "REJECTED INVALID_API_KEY", ["PUT"]),
    ],
)
def test_a_secret_rotated_between_read_and_put_is_read_once_more(
    world: Scene, then: str, outcome: str, sent: list[str]
) -> None:
    """It may also be that the key is refused for good: then the secret is not asked for a third time."""
    world.live("alice", "bob")
    new_key, secrets = api_key_of("newkeyofalice"), ("secretsmanager", "BatchGetSecretValue")
    if then == "is a good key":
        world.exchange.add_account(new_key)

    def rotate(_: Body) -> None:
        if world.refusals.requests["BatchGetSecretValue"] == 1:
            world.exchange.revoke(api_key_of("alice"))
            if then not in ("is the same key", "cannot be read"):
                world.put_secret("listenkeys/alice", {"apiKey": new_key})

    world.refusals.half_do(*secrets, rotate)
    if then == "cannot be read":
        read = world.refusals.requests
        world.refusals.refuse(*secrets, "AccessDeniedException", when=lambda _: read[secrets[1]] > 1)

    done = world.invoke(TICK)

    assert done.error is None
    assert outcomes(world, "alice", "bob") == {"alice": outcome, "bob": "EXTENDED"}
    assert [r.method for r in world.exchange.requests if r.api_key != api_key_of("bob")] == sent
    asked = [body["SecretIdList"] for name, body in world.refusals.bodies if name == secrets[1]]
    assert asked[1:] == [["listenkeys/alice"]]
    if outcome == "RECREATED":
        assert world.current("alice")["listenKey"] == world.exchange.live_key(new_key, "usdm")


@pytest.mark.row(29)
@pytest.mark.parametrize("event", [TICK, SWEEP], ids=["tick", "sweep"])
def test_secrets_that_come_back_within_two_minutes_are_waited_for(
    world: Scene, event: dict[str, Any]
) -> None:
    world.live("alice", minutes=55)
    world.refusals.refuse(
        "secretsmanager", "BatchGetSecretValue", "InternalServiceError", status=500,
        until=world.clock.timestamp() + 110,
    )  # fmt: skip

    assert world.invoke(event).error is None

    assert kept(world, "alice")
    assert outcomes(world, "alice") == {"alice": "EXTENDED"}


@pytest.mark.row(29)
@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
def test_an_attempt_without_secrets_is_recorded_and_overwrites_nothing(world: Scene, hangs: bool) -> None:
    world.live("alice")
    before, secrets = world.current("alice"), ("secretsmanager", "BatchGetSecretValue")
    if hangs:
        hang = ConnectTimeoutError(endpoint_url="https://secretsmanager.eu-west-1.amazonaws.com/")
        refusal = world.refusals.break_off(*secrets, hang, times=None)
    else:
        refusal = world.refusals.refuse(*secrets, "InternalServiceError", status=500)

    done = world.invoke(TICK)

    after = world.current("alice")
    assert raised(done) == INCOMPLETE
    assert "SECRET_UNAVAILABLE" in str(done.error)
    assert refusal.hits <= 6 * SDK_ATTEMPTS
    assert ("ConnectTimeoutError" in after["errorMessage"]) == hangs
    assert [entry["errorCode"] for entry in world.ledger("alice")] == ["SECRET_UNAVAILABLE"]
    for known in ("listenKey", "renewedAt", "expiresAt", "product"):
        assert after[known] == before[known]
    assert after["consecutiveFailures"] == 1


# The accounts


@pytest.mark.row(30)
@pytest.mark.parametrize("event", [TICK, SWEEP, ALL], ids=["tick", "sweep", "manual"])
@pytest.mark.parametrize(
    ("table", "code"),
    [
        ("AccountsTable", "InternalServerError"),
        ("AccountsTable", "ProvisionedThroughputExceededException"),
        ("ListenKeysTable", "InternalServerError"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_failed_run(
    world: Scene, event: dict[str, Any], table: str, code: str
) -> None:
    world.live("alice", minutes=40)
    status = 500 if code == "InternalServerError" else 400
    refusal = world.refusals.refuse("dynamodb", "Scan", code, status=status, when=of_table(table))

    done = world.invoke(event)

    assert raised(done) == INCOMPLETE
    assert f"{table} could not be read: {code}" in str(done.error)
    assert refusal.hits == SDK_ATTEMPTS
    assert metrics(done) == {}  # a RunsCompleted here would keep MissedRunsAlarm quiet
    assert world.exchange.requests == []


@pytest.mark.row(31)
def test_when_page_two_of_the_accounts_fails_page_one_is_renewed(world: Scene) -> None:
    names = many(8)
    world.live(*names, note="x" * 300_000)  # 1 MB is a page
    refusal = world.refusals.refuse(
        "dynamodb", "Scan", "InternalServerError", status=500, when=lambda body: "ExclusiveStartKey" in body
    )

    done = world.invoke(TICK)

    renewed = [
        name for name in names if world.current(name)["attemptedAt"] > iso(world.clock.now() - LEASE / 3)
    ]
    assert refusal.hits == SDK_ATTEMPTS
    assert raised(done) == INCOMPLETE
    assert 0 < len(renewed) < len(names)
    assert outcomes(world, *renewed) == dict.fromkeys(renewed, "EXTENDED")
    assert metrics(done) == {}

    refusal.end()
    assert world.invoke(TICK).error is None
    assert all(kept(world, name) for name in names)


MALFORMED_ROWS: list[dict[str, Any]] = [
    {"product": "futures"},
    {"product": "spot"},
    {"product": "USDM"},
    {"product": {"N": "1"}},
    {"product": {"NULL": True}},
    {"secretId": {"L": []}},
    {"secretId": "listenkeys/with space"},
    {"secretField": True},
    {"enabled": "true"},
    {"enabled": {"N": "1"}},
    {"createIfMissing": "false"},
]
BAD_IDS = ["with space", "semi;colon", "x" * 65, "\u00fcml\u00e4ut", "../alice", "line\nbreak"]


@pytest.mark.row(34)
@pytest.mark.parametrize("event", [TICK, SWEEP], ids=["tick", "sweep"])
def test_malformed_rows_are_rejected_and_the_others_renewed(world: Scene, event: dict[str, Any]) -> None:
    world.live("alice", "bob", minutes=32)
    bad = {f"bad{number}": row for number, row in enumerate(MALFORMED_ROWS)}
    bad |= {id_: {} for id_ in BAD_IDS}
    for id_, row in bad.items():
        world.put_row(id_, **row)
    world.put_row("off", product="futures", enabled=False)

    done = world.invoke(event)

    assert done.error is None  # trying again would not help
    assert kept(world, "alice")
    assert kept(world, "bob")
    assert len(world.exchange.requests) == 2
    assert outcomes(world, *bad) == dict.fromkeys(bad, "REJECTED INVALID_ACCOUNT")
    assert metrics(done)["KeysRejected"] == len(bad)
    assert metrics(done)["KeysAtRisk"] == len(bad)  # none of them has a key
    assert all("AccountsTable row" in world.current(id_)["errorMessage"] for id_ in bad)
    assert world.records("off") == [], "who is disabled is left alone"


@pytest.mark.row(34)
def test_a_row_that_breaks_keeps_its_key_recorded_until_it_is_fixed(world: Scene) -> None:
    broken = {f"broken{number}": row for number, row in enumerate(MALFORMED_ROWS)}
    world.live(*broken, minutes=31)
    before = {name: world.current(name) for name in broken}
    for name, row in broken.items():
        world.put_row(name, **row)

    world.invoke(TICK)

    assert outcomes(world, *broken) == dict.fromkeys(broken, "REJECTED INVALID_ACCOUNT")
    for name in broken:
        for known in ("listenKey", "expiresAt", "product"):
            assert world.current(name)[known] == before[name][known]
        world.put_row(name)
    world.clock.advance(minutes=5)
    world.invoke(SWEEP)
    assert outcomes(world, *broken) == dict.fromkeys(broken, "EXTENDED")


# The records


WRITES = ("dynamodb", "TransactWriteItems")
GONE = ConnectTimeoutError(endpoint_url="https://dynamodb.eu-west-1.amazonaws.com/")
Hinder = Callable[[Refusals, int | None], object]
HINDRANCES: dict[str, Hinder] = {
    "call": lambda refusals, times: refusals.refuse(*WRITES, "ThrottlingException", times=times),
    "item": lambda refusals, times: refusals.cancel("ThrottlingError", times=times),
    "conflict": lambda refusals, times: refusals.cancel("TransactionConflict", times=times),
    "timeout": lambda refusals, times: refusals.break_off(*WRITES, GONE, times=times),
}


@pytest.mark.row(32)
@pytest.mark.parametrize("hinder", HINDRANCES.values(), ids=HINDRANCES)
def test_a_result_that_is_throttled_after_the_put_is_written_by_a_retry(world: Scene, hinder: Hinder) -> None:
    world.live("alice", "bob")
    hinder(world.refusals, 2)

    done = world.invoke(TICK)

    assert done.error is None
    assert outcomes(world, "alice", "bob") == {"alice": "EXTENDED", "bob": "EXTENDED"}
    assert len(world.ledger("alice")) == 1
    assert kept(world, "alice")
    # What was renewed when it was sent, not when it could be written.
    [sent] = [r.at for r in world.exchange.requests if r.api_key == api_key_of("alice")]
    assert abs(datetime.fromisoformat(world.current("alice")["renewedAt"]).timestamp() - sent) < 0.01


@pytest.mark.row(32)
@pytest.mark.parametrize(
    ("hindrance", "why"),
    [
        ("call", "ThrottlingException"),
        ("item", "ThrottlingError"),
        ("conflict", "TransactionConflict"),
        ("timeout", "ConnectTimeoutError"),
    ],
)
def test_a_result_that_cannot_be_written_raises_and_is_tried_again(
    world: Scene, hindrance: str, why: str
) -> None:
    world.live("alice")
    before = world.current("alice")
    HINDRANCES[hindrance](world.refusals, None)

    done = world.invoke(TICK)

    assert raised(done) == INCOMPLETE
    assert "RECORD_UNAVAILABLE" in str(done.error)
    assert f"ListenKeysTable could not be written: {why}" in str(done.error)
    assert metrics(done)["KeysFailed"] == 1
    assert metrics(done)["KeysExtended"] == 0
    assert world.current("alice") == before
    assert kept(world, "alice")
    # Once as results come, once more at the end, each MAX_TRIES times what the SDK does.
    assert world.refusals.requests["TransactWriteItems"] <= 2 * MAX_TRIES * SDK_ATTEMPTS

    world.refusals.requests.clear()
    world.clock.advance(minutes=1)
    for refusal in world.refusals.all:
        refusal.end()
    assert world.invoke(TICK).error is None
    assert world.refusals.requests["TransactWriteItems"] == 1
    assert kept(world, "alice")


@pytest.mark.row(32)
def test_a_new_key_that_could_not_be_written_is_learnt_by_the_next_run(world: Scene) -> None:
    world.live("alice", minutes=61)
    old = world.current("alice")["listenKey"]
    refusal = world.refusals.cancel("ThrottlingError")

    assert raised(world.invoke(TICK)) == INCOMPLETE
    assert world.current("alice")["listenKey"] == old
    assert events(world) == []

    refusal.end()
    world.clock.advance(minutes=1)
    assert world.invoke(TICK).error is None
    assert kept(world, "alice")
    [event] = events(world)
    # The key is the one that the first run made: nobody has to be told twice, but once.
    assert event["outcome"] == "CHANGED"
    assert [r.method for r in world.exchange.requests] == ["PUT", "POST", "PUT"]


@pytest.mark.row(32)
@pytest.mark.parametrize("reason", ["ItemCollectionSizeLimitExceeded", "ValidationError", "AccessDenied"])
def test_one_account_whose_record_takes_no_write_costs_the_others_nothing(world: Scene, reason: str) -> None:
    world.live("alice", "bob", "carol")
    world.refusals.cancel(reason, when=is_of("bob"))

    done = world.invoke(TICK)

    assert raised(done) == INCOMPLETE
    assert "1 of 3 accounts" in str(done.error)
    assert kept(world, "alice")
    assert kept(world, "carol")
    assert world.ledger("bob") == []


@pytest.mark.row(33)
def test_a_newer_record_is_kept_and_the_others_of_its_batch_are_written(world: Scene) -> None:
    world.live("alice", "bob", "carol")
    later = world.clock.now() + timedelta(seconds=30)
    written = []

    def another_run(answer: Body) -> None:
        if "listenKey" in answer["Items"][0] and not written:  # after our read, and before our write
            written.append(world.put_current("bob", "another".ljust(64, "8"), later, runId="another"))

    world.refusals.half_do("dynamodb", "Scan", another_run)

    done = world.invoke(TICK)

    assert done.error is None
    assert world.current("bob")["runId"] == "another"
    assert world.current("bob")["attemptedAt"] == iso(later)
    assert [entry["outcome"] for entry in world.ledger("bob")] == ["EXTENDED"]  # it was an attempt
    assert kept(world, "alice")
    assert kept(world, "carol")
    assert [len(world.ledger(name)) for name in ("alice", "carol")] == [1, 1]


@pytest.mark.row(33)
def test_a_newer_failure_is_not_taken_back_by_an_older_success(
    world: Scene,
) -> None:
    world.live("alice")
    ahead = world.clock.now() + timedelta(seconds=50)  # another environment's clock, within the slack
    world.put_current(
        "alice", world.current("alice")["listenKey"], world.clock.now() - timedelta(minutes=30),
        attemptedAt=iso(ahead), outcome="FAILED", consecutiveFailures={"N": "3"},
    )  # fmt: skip
    before = world.current("alice")

    world.invoke(ALL)
    after = world.current("alice")
    assert kept(world, "alice"), "until when the key lives is known from the success"
    changed = {n for n in after if after[n] != before.get(n)}
    assert changed == {"renewedAt", "expiresAt", "streamUrl", "runId"}

    world.clock.advance(minutes=2)
    world.invoke(ALL)
    assert world.current("alice")["attemptedAt"] > before["attemptedAt"]
    assert world.current("alice")["consecutiveFailures"] == 0


# What AWS leaves undone


def leave_undone(refusals: Refusals, done: int, times: int | None = None) -> list[int]:
    """Let BatchGetItem answer only the first `done` keys of a call, as under load; return the sizes."""
    sizes: list[int] = []

    def partly(answer: Body) -> None:
        for table, items in answer["Responses"].items():
            if "-ListenKeysTable-" not in table:
                continue
            sizes.append(len(items))
            if times is not None and len(sizes) > times:
                return
            answer["Responses"][table] = items[:done]
            if items[done:]:
                keys = [{name: item[name] for name in ("accountId", "record")} for item in items[done:]]
                answer["UnprocessedKeys"] = {table: {"Keys": keys, "ConsistentRead": True}}

    refusals.half_do("dynamodb", "BatchGetItem", partly)
    return sizes


@pytest.mark.row(35)
def test_unprocessed_keys_are_asked_for_again_after_a_pause(world: Scene) -> None:
    """The program has no BatchWriteItem, so no UnprocessedItems: it writes in transactions, whole or not."""
    names = many(10)
    world.live(*names, minutes=2)  # renewed a moment ago: only who reads the record knows
    sizes = leave_undone(world.refusals, done=3)
    world.clock.slept.clear()

    done = world.invoke({"accounts": names})

    assert done.report is not None
    assert done.report["skipped"] == 10
    assert sizes == [10, 7, 4, 1]
    assert len(world.clock.slept) == 3
    assert "BatchWriteItem" not in world.refusals.requests
    assert world.exchange.requests == []


@pytest.mark.row(35)
def test_keys_that_stay_unprocessed_fail_the_run_after_a_few_tries(world: Scene) -> None:
    world.live(*many(3), minutes=30)
    sizes = leave_undone(world.refusals, done=0)

    done = world.invoke({"accounts": many(3)})

    assert raised(done) == INCOMPLETE
    assert "unprocessed keys remained" in str(done.error)
    assert sizes == [3] * 5
    assert world.exchange.requests == []


# Records of other versions


@pytest.mark.row(47)
def test_attributes_that_a_newer_version_wrote_survive_this_ones_update(world: Scene) -> None:
    """Its rows have more attributes, too."""
    world.live("alice", "bob", tier={"N": "3"}, tags={"L": []}, owner={"M": {}})
    new = {"streamVersion": {"N": "2"}, "hosts": {"SS": ["a", "b"]}, "more": {"M": {"x": {"NULL": True}}}}
    for name in ("alice", "bob"):
        current = world.current(name)
        world.put_current(name, current["listenKey"], world.clock.now() - timedelta(minutes=30), **new)
    world.exchange.revoke(api_key_of("bob"))

    world.invoke(TICK)

    table = world.aws.outputs["ListenKeysTableName"]
    for name, outcome in (("alice", "EXTENDED"), ("bob", "REJECTED")):
        key = {"accountId": {"S": name}, "record": {"S": "CURRENT"}}
        item = world.aws.client("dynamodb").get_item(TableName=table, Key=key)["Item"]
        assert item["outcome"] == {"S": outcome}
        assert {attribute: item[attribute] for attribute in new} == new


FULL = (
    "listenKey", "product", "outcome", "attemptedAt", "renewedAt", "expiresAt", "listenKeyChangedAt",
    "consecutiveFailures", "runId",
)  # fmt: skip
OTHER_TYPES: dict[str, dict[str, Any]] = {
    "a number": {"N": "7"},
    "null": {"NULL": True},
    "binary": {"B": b"\x00\xff"},
    "a list of odd things": {"L": [{"N": "1"}, {"S": "{"}, {"S": "[]"}, {"S": '{"detailType": 1}'}]},
    "other text": {"S": "yesterday"},
    "a date without an hour": {"S": "2026-01-01"},
    "the end of time": {"S": "9999-12-31T23:59:59.999-14:00"},
    "the beginning of time": {"S": "0001-01-01T00:00:00.000+14:00"},
}


@pytest.mark.row(47)
@pytest.mark.parametrize("event", [TICK, SWEEP], ids=["tick", "sweep"])
@pytest.mark.parametrize("works", [True, False], ids=["binance works", "binance fails"])
def test_records_of_an_older_or_newer_version_are_read_and_renewed(
    world: Scene, event: dict[str, Any], works: bool
) -> None:
    """An account for each attribute that an older version lacks, and one whose outcome is not known here."""
    world.live(*FULL, "newer", minutes=0)
    for name in (*FULL, "newer"):
        other = {"outcome": "PROLONGED"} if name == "newer" else {name: None}
        world.put_current(name, world.current(name)["listenKey"], world.clock.now(), **other)
    world.clock.advance(minutes=32)
    if not works:
        world.exchange.fault(status=404)

    done = world.invoke(event)

    assert done.error is None
    expected = "EXTENDED" if works else "REJECTED BAD_REQUEST"
    assert outcomes(world, *FULL, "newer") == dict.fromkeys((*FULL, "newer"), expected)
    assert not works or all(kept(world, name) for name in (*FULL, "newer"))


@pytest.mark.slow
@pytest.mark.row(47)
@pytest.mark.parametrize("works", [True, False], ids=["binance works", "binance fails"])
def test_broken_records_never_crash_a_run_nor_cost_the_others_theirs(world: Scene, works: bool) -> None:
    """An account for each attribute and each way in which it can be broken, and one that is well."""
    broken = {
        f"{attribute}x{number}": (attribute, value)
        for attribute in (*FULL, "unannounced", "errorCode")
        for number, value in enumerate(OTHER_TYPES.values())
    }
    broken["fraction"] = ("consecutiveFailures", {"N": "-1.5"})
    world.live(*broken, "well", minutes=0)
    for name, (attribute, value) in broken.items():
        world.put_current(name, world.current(name)["listenKey"], world.clock.now(), **{attribute: value})
    world.clock.advance(minutes=32)
    if not works:
        world.exchange.fault(status=404)

    for event in (TICK, SWEEP, {"dryRun": True}, ALL):
        done = world.invoke(event)
        assert raised(done) in ("", INCOMPLETE)
        assert done.report is None or done.report["accounts"] == len(broken) + 1
        world.clock.advance(minutes=1)

    assert outcomes(world, "well") == {"well": "EXTENDED" if works else "REJECTED BAD_REQUEST"}
    if works:
        # What cannot be added to (a list that is none) is not recorded, and the run says so.
        not_a_list = {f"unannouncedx{n}" for n, value in enumerate(OTHER_TYPES.values()) if "L" not in value}
        readable = broken.keys() - not_a_list
        assert [name for name in readable if not kept(world, name)] == []
        # Recorded again, too: nothing that was broken keeps refusing the write.
        recently = iso(world.clock.now() - timedelta(minutes=5))
        assert [name for name in readable if world.current(name)["renewedAt"] < recently] == []
        assert all(world.exchange.live_key(api_key_of(name), "usdm") for name in broken)


# Announcements


@pytest.mark.row(48)
@pytest.mark.parametrize("code", ["InternalException", "ThrottlingException"])
def test_a_change_that_the_bus_does_not_take_is_announced_by_the_next_run(world: Scene, code: str) -> None:
    world.add_account("alice", api_key_of("alice"))
    refusal = world.refusals.refuse(
        "events", "PutEvents", code, status=500 if code == "InternalException" else 400
    )

    done = world.invoke(TICK)

    assert raised(done) == INCOMPLETE
    assert f"EventBridge did not take the announcements: {code}" in str(done.error)
    assert refusal.hits == SDK_ATTEMPTS
    assert kept(world, "alice")  # the record stands
    assert world.current("alice")["unannounced"]
    assert events(world) == []

    refusal.end()
    world.clock.advance(minutes=1)
    again = world.invoke(TICK)  # Lambda's retry: the account itself is fresh
    assert again.error is None
    assert again.report is not None
    assert again.report["skipped"] == 1
    [event] = events(world)
    assert (event["accountId"], event["outcome"]) == ("alice", "CREATED")
    assert "unannounced" not in world.current("alice")

    world.invoke(TICK)
    assert len(events(world)) == 1


@pytest.mark.slow
@pytest.mark.row(48)
def test_a_bus_that_is_down_is_asked_once_in_a_run(world: Scene) -> None:
    for name in many(60):
        world.add_account(name, api_key_of(name))
    refusal = world.refusals.refuse("events", "PutEvents", "InternalException", status=500)
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert refusal.hits == SDK_ATTEMPTS
    assert summary(done)["created"] == 60


@pytest.mark.row(48)
def test_a_bus_that_takes_only_some_is_given_the_others_by_the_next_run(world: Scene) -> None:
    names = many(12)  # two calls of ten at most
    for name in names:
        world.add_account(name, api_key_of(name))
    left_out = {names[3], names[11]}
    refused: list[list[int]] = []
    sizes: list[int] = []
    broken = [True]

    def drop(body: Body) -> Body:
        kept_entries, positions = [], []
        sizes.append(len(body["Entries"]))
        for position, entry in enumerate(body["Entries"]):
            if broken[0] and json.loads(entry["Detail"])["accountId"] in left_out:
                positions.append(position)
            else:
                kept_entries.append(entry)
        refused.append(positions)
        return {"Entries": kept_entries}

    def tell(answer: Body) -> None:
        for position in refused[-1]:
            answer["Entries"].insert(position, {"ErrorCode": "InternalFailure", "ErrorMessage": "no"})
        answer["FailedEntryCount"] = len(refused[-1])

    world.refusals.ask_for("events", "PutEvents", drop)
    world.refusals.half_do("events", "PutEvents", tell)

    done = world.invoke(TICK)

    assert raised(done) == INCOMPLETE
    assert "2 accounts' changes not announced" in str(done.error)
    assert sizes[:2] == [10, 2], "PutEvents takes ten"
    assert {event["accountId"] for event in events(world)} == set(names) - left_out
    assert {name for name in names if "unannounced" in world.current(name)} == left_out

    broken[0] = False
    world.clock.advance(minutes=1)
    assert world.invoke(SWEEP).error is None
    assert sorted(event["accountId"] for event in events(world)) == names
    assert not any("unannounced" in world.current(name) for name in names)


class Killed(BaseException):
    """The process dies: nothing in the program can catch this."""


@pytest.mark.row(48)
@pytest.mark.parametrize(
    ("where", "events_sent"),
    [(("events", "PutEvents"), 0), (("dynamodb", "TransactWriteItems"), 1)],
    ids=["between record and event", "between event and its clearing"],
)
def test_a_run_that_dies_around_the_event_leaves_it_to_the_next(
    world: Scene, where: tuple[str, str], events_sent: int
) -> None:
    world.add_account("alice", api_key_of("alice"))
    if events_sent:  # the second transaction is the clearing
        writes: list[Body] = []
        refusal = world.refusals.break_off(*where, Killed())
        refusal.when = lambda body: writes.append(body) or len(writes) == 2  # type: ignore[func-returns-value]
    else:
        world.refusals.break_off(*where, Killed())

    with pytest.raises(Killed):
        world.invoke(TICK)

    assert kept(world, "alice")
    assert len(events(world)) == events_sent
    created = world.current("alice")

    world.clock.advance(minutes=1)
    done = world.invoke(SWEEP)

    assert done.error is None
    assert len(events(world)) == events_sent + 1  # at least once
    assert world.current("alice")["listenKey"] == created["listenKey"]
    assert "unannounced" not in world.current("alice")


@pytest.mark.row(48)
@pytest.mark.parametrize(
    "text", ["nonsense", "[1]", "1", '{"detail": {}}', '{"detailType": 1, "detail": {}}', "[" * 200_000]
)
def test_an_announcement_that_no_run_has_recorded_is_dropped(world: Scene, text: str) -> None:
    world.live("alice")
    waiting = {"L": [{"S": text}]}
    world.put_current("alice", world.current("alice")["listenKey"], world.clock.now(), unannounced=waiting)
    assert world.invoke(TICK).error is None
    assert events(world) == []
    assert "unannounced" not in world.current("alice")


@pytest.mark.row(48)
def test_what_was_sent_and_cannot_be_cleared_makes_the_run_incomplete(world: Scene) -> None:
    world.add_account("alice", api_key_of("alice"))
    world.refusals.refuse(
        "dynamodb", "TransactWriteItems", "InternalServerError", status=500,
        when=lambda body: "REMOVE unannounced" in json.dumps(body),
    )  # fmt: skip

    done = world.invoke(TICK)

    assert raised(done) == INCOMPLETE
    assert "could not be written" in str(done.error)
    assert kept(world, "alice")


@pytest.mark.row(48)
def test_an_accounts_changes_while_the_bus_is_down_are_sent_in_order(world: Scene) -> None:
    world.add_account("alice", api_key_of("alice"))
    refusal = world.refusals.refuse("events", "PutEvents", "InternalException", status=500)
    world.invoke(TICK)
    world.clock.advance(minutes=30)
    fault = world.exchange.fault(status=404)
    world.invoke(TICK)
    world.clock.advance(minutes=35)
    fault.clear()
    world.invoke(TICK)
    refusal.end()
    world.clock.advance(minutes=1)
    world.invoke(SWEEP)

    told = [(e["detail-type"], e["detail"]["outcome"]) for e in world.aws.account_events()]
    assert told == [
        ("Listen Key Changed", "CREATED"),
        ("Listen Key Failing", "REJECTED"),
        ("Listen Key Changed", "RECREATED"),
        ("Listen Key Recovered", "RECREATED"),
    ]


@pytest.mark.row(48)
def test_a_bus_that_stays_down_does_not_let_the_record_grow_without_end(world: Scene) -> None:
    """Of twenty changes that wait to be announced, the oldest gives way."""
    world.live("alice", minutes=0)
    key = world.exchange.rotate(api_key_of("alice"), "usdm")
    waiting = {"L": [{"S": f"change {number}"} for number in range(20)]}
    world.put_current("alice", "older".ljust(64, "0"), world.clock.now(), unannounced=waiting)
    world.clock.advance(minutes=30)
    world.refusals.refuse("events", "PutEvents", "InternalException", status=500)

    world.invoke(TICK)

    current = world.current("alice")
    assert current["listenKey"] == key
    *older, newest = current["unannounced"]
    assert older == [f"change {number}" for number in range(1, 20)]
    assert json.loads(newest)["detail"]["outcome"] == "CHANGED"
