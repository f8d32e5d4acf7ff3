"""The local AWS: what DynamoDB promises of writes at the same time, and what it refuses to guess."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from listenkeys.aws.clients import Deadline, client
from local.aws.stack import TABLES, LocalAws, choose


@pytest.fixture(autouse=True)
def empty(aws: LocalAws) -> None:
    aws.reset()


def test_only_the_ledger_forgets(aws: LocalAws) -> None:
    def time_to_live(table: str) -> str | None:
        described = aws.client("dynamodb").describe_time_to_live(TableName=aws.outputs[f"{table}Name"])
        name: str | None = described["TimeToLiveDescription"].get("AttributeName")
        return name

    assert {table: time_to_live(table) for table in TABLES} == dict.fromkeys(TABLES) | {"LedgerTable": "ttl"}


def record(table: str, account: str, at: str, **condition: str) -> dict[str, Any]:
    item = {"accountId": {"S": account}, "record": {"S": "CURRENT"}, "attemptedAt": {"S": at}}
    return {"Put": {"TableName": table, "Item": item, **condition}}


def test_transactions_at_the_same_time_lose_nothing_when_some_are_refused(aws: LocalAws) -> None:
    dynamodb, table = aws.client("dynamodb"), aws.outputs["ListenKeysTableName"]
    dynamodb.put_item(**record(table, "taken", "1")["Put"])
    refuse = record(table, "taken", "2", ConditionExpression="attribute_not_exists(accountId)")

    def write(number: int) -> None:
        extra = [refuse] if number % 2 else []
        with suppress(dynamodb.exceptions.TransactionCanceledException):
            dynamodb.transact_write_items(TransactItems=[record(table, f"account{number}", "1"), *extra])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(80)))

    found = {item["accountId"]["S"] for item in dynamodb.scan(TableName=table)["Items"]}
    assert found == {"taken", *(f"account{number}" for number in range(0, 80, 2))}


def test_updates_at_once_never_pass_a_condition_together(aws: LocalAws) -> None:
    key = {"accountId": {"S": "#counter"}, "record": {"S": "now"}}
    dynamodb, table = aws.client("dynamodb"), aws.outputs["ListenKeysTableName"]

    def take(_: int) -> bool:
        try:
            dynamodb.update_item(
                TableName=table,
                Key=key,
                UpdateExpression="ADD used :one",
                ConditionExpression="attribute_not_exists(used) OR used < :cap",
                ExpressionAttributeValues={":one": {"N": "1"}, ":cap": {"N": "40"}},
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads meet between the check and the write
    try:
        with ThreadPoolExecutor(16) as pool:
            taken = list(pool.map(take, range(80)))
    finally:
        sys.setswitchinterval(usual)
    assert taken.count(True) == 40
    assert dynamodb.get_item(TableName=table, Key=key)["Item"]["used"] == {"N": "40"}


def test_threads_that_meet_a_clients_first_error_at_once_know_its_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            dynamodb = client("dynamodb", Deadline(time.monotonic))
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(lambda _, made=dynamodb: id(made.exceptions), range(8)))
            assert len(set(found)) == 1
    finally:
        sys.setswitchinterval(usual)


def test_an_unknown_parameter_is_refused_as_cloudformation_would() -> None:
    with pytest.raises(ValueError, match=r"no parameter RenewAfter$"):
        LocalAws({"RenewAfter": "30"})


def test_a_condition_it_cannot_decide_is_an_error_not_a_guess() -> None:
    template = {
        "Parameters": {},
        "Conditions": {"Odd": {"Fn::FindInMap": ["a", "b", "c"]}},
        "Resources": {"Thing": {"Type": "AWS::SNS::Topic", "Condition": "Odd"}},
        "Outputs": {},
    }
    with pytest.raises(NotImplementedError, match="FindInMap"):
        choose(template, {})
