"""The local AWS is the template: what it says is there, and nothing that it does not say."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import Any

import boto3
import pytest

from local.aws.stack import TABLES, LocalAws, choose

PARAMETERS = {"SecretPrefix": "team/keys", "MaxConcurrency": "3", "BinanceBaseUrl": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def world() -> Iterator[LocalAws]:
    with LocalAws(PARAMETERS) as aws:
        yield aws


@pytest.fixture
def aws(world: LocalAws) -> LocalAws:
    world.reset()
    return world


def test_the_tables_have_their_keys_and_only_the_ledger_forgets(aws: LocalAws) -> None:
    dynamodb = aws.client("dynamodb")

    def keys(table: str) -> list[tuple[str, str]]:
        schema = dynamodb.describe_table(TableName=aws.outputs[table])["Table"]["KeySchema"]
        return [(key["AttributeName"], key["KeyType"]) for key in schema]

    def time_to_live(table: str) -> str | None:
        described = dynamodb.describe_time_to_live(TableName=aws.outputs[table])
        name: str | None = described["TimeToLiveDescription"].get("AttributeName")
        return name

    assert keys("AccountsTableName") == [("accountId", "HASH")]
    assert keys("ListenKeysTableName") == [("accountId", "HASH"), ("record", "RANGE")]
    assert keys("LedgerTableName") == keys("ListenKeysTableName")
    tables = ("AccountsTableName", "ListenKeysTableName", "LedgerTableName")
    assert [time_to_live(table) for table in tables] == [None, None, "ttl"]


def test_the_functions_settings_are_the_parameters_and_the_tables(aws: LocalAws) -> None:
    assert aws.function_environment() == {
        "ACCOUNTS_TABLE": aws.outputs["AccountsTableName"],
        "LISTEN_KEYS_TABLE": aws.outputs["ListenKeysTableName"],
        "LEDGER_TABLE": aws.outputs["LedgerTableName"],
        "SECRET_PREFIX": "team/keys",
        "SCHEDULE_EXPRESSION": aws.parameters["ScheduleExpression"],
        "SWEEP_EXPRESSION": aws.parameters["SweepExpression"],
        "RENEW_AFTER_MINUTES": aws.parameters["RenewAfterMinutes"],
        "BINANCE_BASE_URL": "http://127.0.0.1:9",
        "BINANCE_STREAM_URL": "",
        "MAX_CONCURRENCY": "3",
        "MAX_WEIGHT_PER_MINUTE": aws.parameters["MaxWeightPerMinute"],
        "LEDGER_MODE": aws.parameters["LedgerMode"],
        "LEDGER_DAYS": aws.parameters["LedgerDays"],
        "SHARD_COUNT": "1",
        "WORK_QUEUE_URL": "",
        "HEARTBEAT_SECRET_ID": "",
        "POWERTOOLS_SERVICE_NAME": aws.stack_name,
        "POWERTOOLS_METRICS_NAMESPACE": "ListenKeyKeeper",
        "POWERTOOLS_LOG_LEVEL": aws.parameters["LogLevel"],
    }


def test_both_rules_start_the_function_each_with_its_own_input(aws: LocalAws) -> None:
    events, functions = aws.client("events"), aws.client("lambda")
    name = aws.outputs["KeepaliveFunctionName"]
    arn = functions.get_function_configuration(FunctionName=name)["FunctionArn"]

    for rule, schedule, event in [
        ("KeepaliveFunctionTick", "rate(30 minutes)", None),
        ("KeepaliveFunctionSweep", "rate(5 minutes)", {"overdueOnly": True}),
    ]:
        described = events.describe_rule(Name=aws.resources[rule])
        [target] = events.list_targets_by_rule(Rule=aws.resources[rule])["Targets"]
        assert (described["ScheduleExpression"], described["State"]) == (schedule, "ENABLED")
        assert target["Arn"] == arn
        assert json.loads(target.get("Input", "null")) == event


def test_a_process_with_this_environment_reaches_the_local_aws(
    aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    table = boto3.Session().client("dynamodb")
    table.put_item(TableName=aws.outputs["AccountsTableName"], Item={"accountId": {"S": "alice"}})
    table.close()

    found = aws.client("dynamodb").scan(TableName=aws.outputs["AccountsTableName"])["Items"]
    assert found == [{"accountId": {"S": "alice"}}]


def test_an_event_that_was_sent_can_be_read_back(aws: LocalAws) -> None:
    entry = {
        "Source": "listenkey-keeper",
        "DetailType": "Listen Key Changed",
        "Detail": '{"accountId": "alice"}',
    }
    aws.client("events").put_events(Entries=[entry])

    [event] = aws.sent_events()
    assert (event["source"], event["detail-type"]) == ("listenkey-keeper", "Listen Key Changed")
    assert event["detail"] == {"accountId": "alice"}


def test_a_reset_empties_everything_and_leaves_the_stack(aws: LocalAws) -> None:
    tables = [aws.outputs[f"{name}Name"] for name in TABLES]
    dynamodb, secrets, sqs = (aws.client(name) for name in ("dynamodb", "secretsmanager", "sqs"))
    for table in tables:
        dynamodb.put_item(TableName=table, Item={"accountId": {"S": "alice"}, "record": {"S": "CURRENT"}})
    secrets.create_secret(Name="team/keys/alice", SecretString="{}")
    sqs.send_message(QueueUrl=aws.resources["DeadLetterQueue"], MessageBody="{}")
    aws.client("events").put_events(Entries=[{"Source": "any", "DetailType": "any", "Detail": "{}"}])

    aws.reset()

    assert [dynamodb.scan(TableName=table)["Items"] for table in tables] == [[], [], []]
    assert secrets.list_secrets()["SecretList"] == []
    assert "Messages" not in sqs.receive_message(QueueUrl=aws.resources["DeadLetterQueue"])
    assert aws.sent_events() == []
    secrets.create_secret(Name="team/keys/alice", SecretString="{}")


def record(table: str, account: str, at: str, **condition: str) -> dict[str, Any]:
    item = {"accountId": {"S": account}, "record": {"S": "CURRENT"}, "attemptedAt": {"S": at}}
    return {"Put": {"TableName": table, "Item": item, **condition}}


def test_a_refused_transaction_leaves_each_item_as_it_was_and_says_which_was_refused(aws: LocalAws) -> None:
    dynamodb, table = aws.client("dynamodb"), aws.outputs["ListenKeysTableName"]
    dynamodb.transact_write_items(TransactItems=[record(table, "alice", "1"), record(table, "bob", "1")])
    before = dynamodb.scan(TableName=table)["Items"]
    update = {
        "TableName": table,
        "Key": {"accountId": {"S": "bob"}, "record": {"S": "CURRENT"}},
        "UpdateExpression": "SET attemptedAt = :at",
        "ExpressionAttributeValues": {":at": {"S": "2"}},
    }
    new = {"ConditionExpression": "attribute_not_exists(accountId)"}

    with pytest.raises(dynamodb.exceptions.TransactionCanceledException) as refused:
        dynamodb.transact_write_items(
            TransactItems=[
                record(table, "carol", "2"),
                {"Update": update},
                record(table, "alice", "2", **new),
            ]
        )

    reasons = [reason["Code"] for reason in refused.value.response["CancellationReasons"]]
    assert reasons == ["None", "None", "ConditionalCheckFailed"]
    assert dynamodb.scan(TableName=table)["Items"] == before


@pytest.mark.slow
def test_a_full_transaction_into_a_table_of_10_000_rows_is_quick(aws: LocalAws) -> None:
    dynamodb, table = aws.client("dynamodb"), aws.outputs["ListenKeysTableName"]
    rows = [f"account{number}" for number in range(10_000)]
    for start in range(0, len(rows), 100):
        dynamodb.transact_write_items(
            TransactItems=[record(table, account, "1") for account in rows[start : start + 100]]
        )
    begun = monotonic()
    dynamodb.transact_write_items(TransactItems=[record(table, account, "2") for account in rows[:100]])
    assert monotonic() - begun < 1


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


def test_updates_of_one_counter_at_the_same_time_never_pass_its_condition_together(aws: LocalAws) -> None:
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


def test_a_secret_read_in_a_batch_comes_back_beside_the_error_of_the_missing_one(aws: LocalAws) -> None:
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name="team/keys/alice", SecretString="{}")

    answer = secrets.batch_get_secret_value(SecretIdList=["team/keys/alice", "team/keys/bob"])

    assert [secret["Name"] for secret in answer["SecretValues"]] == ["team/keys/alice"]
    assert [error["SecretId"] for error in answer["Errors"]] == ["team/keys/bob"]


def test_an_unknown_parameter_is_refused_as_cloudformation_would() -> None:
    with pytest.raises(ValueError, match=r"no parameter RenewAfter$"):
        LocalAws({"RenewAfter": "30"})


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {"KmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c"},
        {"SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"},
        {"ReservedConcurrency": "3", "AlarmEmail": "ops@example.com"},
    ],
    ids=lambda parameters: "+".join(parameters),
)
def test_a_second_world_with_other_parameters_stands_beside_the_first(
    aws: LocalAws, parameters: dict[str, str]
) -> None:
    with LocalAws(parameters) as other:
        assert other.outputs["AccountsTableName"] != aws.outputs["AccountsTableName"]
        assert other.endpoint_url != aws.endpoint_url
    assert aws.client("dynamodb").scan(TableName=aws.outputs["AccountsTableName"])["Items"] == []


def test_a_condition_it_cannot_decide_is_an_error_not_a_guess() -> None:
    template = {
        "Parameters": {},
        "Conditions": {"Odd": {"Fn::FindInMap": ["a", "b", "c"]}},
        "Resources": {"Thing": {"Type": "AWS::SNS::Topic", "Condition": "Odd"}},
        "Outputs": {},
    }
    with pytest.raises(NotImplementedError, match="FindInMap"):
        choose(template, {})
