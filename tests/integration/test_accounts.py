"""AccountsTable, read from moto: what a row may say, what becomes of one that makes no sense, and paging."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from listenkeys.aws.accounts import Accounts
from listenkeys.errors import Unavailable
from listenkeys.model import Account
from local.aws.stack import LocalAws
from local.clock import VirtualClock
from local.world import World

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shared/keys-AbCdEf"


@pytest.fixture
def accounts(aws: LocalAws, clock: VirtualClock) -> Accounts:
    return Accounts(aws.client("dynamodb"), aws.outputs["AccountsTableName"], "listenkeys", clock.clock.sleep)


def listed(accounts: Accounts) -> list[Account]:
    return [account for page in accounts.pages() for account in page]


def test_a_row_of_its_id_alone_has_the_documented_defaults(world: World, accounts: Accounts) -> None:
    world.put_row("alice")

    assert listed(accounts) == [Account("alice", "usdm", "listenkeys/alice", "apiKey", True, True, None)]


@pytest.mark.parametrize(
    ("attributes", "fields"),
    [
        ({"product": "usdm"}, {"product": "usdm"}),
        ({"product": "coinm"}, {"product": "coinm"}),
        ({"product": "portfolio"}, {"product": "portfolio"}),
        ({"product": "options"}, {"product": "options"}),
        ({"product": "portfolio-pro"}, {"product": "portfolio-pro"}),
        ({"environment": "live"}, {"environment": "live"}),
        ({"environment": "demo", "product": "coinm"}, {"environment": "demo", "product": "coinm"}),
        ({"environment": "testnet"}, {"environment": "testnet"}),
        ({"secretId": "shared/keys"}, {"secret_id": "shared/keys"}),
        ({"secretId": "a.b_c+d=e@f-g/h"}, {"secret_id": "a.b_c+d=e@f-g/h"}),
        ({"secretId": ARN}, {"secret_id": ARN}),
        ({"secretId": ARN[:-7]}, {"secret_id": ARN[:-7]}),
        ({"secretId": ARN.replace("aws", "aws-cn", 1)}, {"secret_id": ARN.replace("aws", "aws-cn", 1)}),
        ({"secretField": "alice key"}, {"secret_field": "alice key"}),
        ({"enabled": False}, {"enabled": False}),
        ({"enabled": True}, {"enabled": True}),
        ({"createIfMissing": False}, {"create_if_missing": False}),
        ({"renewAfterMinutes": {"N": "1"}}, {"renew_after": 1}),
        ({"renewAfterMinutes": {"N": "38"}}, {"renew_after": 38}),
        ({"note": "an attribute of the operator's own", "tags": {"SS": ["a"]}}, {}),
    ],
)
def test_a_row_may_say(
    world: World, accounts: Accounts, attributes: dict[str, Any], fields: dict[str, Any]
) -> None:
    world.put_row("alice", **attributes)

    [account] = listed(accounts)
    assert account.problem is None
    assert {name: getattr(account, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("id_", "attributes", "said"),
    [
        ("alice smith", {}, "accountId must be 1 to 64 of A-Z a-z 0-9 . _ -"),
        ("alice/1", {}, "accountId must be"),
        ("älice", {}, "accountId must be"),
        ("alice\n", {}, "accountId must be"),
        ("a" * 65, {}, "accountId must be"),
        ("a", {"product": "spot"}, "product spot: Binance removed its listenKeys on 2026-02-20"),
        (
            "a",
            {"product": "margin"},
            "product margin: Binance removed its listenKeys on 2026-02-20, all but the cross-margin risk",
        ),
        (
            "a",
            {"product": "stocks"},
            "product stocks: Binance has listenKeys for it, which are not supported",
        ),
        ("a", {"environment": "prod"}, "environment must be one of live, demo, testnet"),
        ("a", {"environment": {"N": "1"}}, "environment must be a string"),
        (
            "a",
            {"product": "portfolio", "environment": "demo"},
            "environment demo: Binance has no portfolio there",
        ),
        (
            "a",
            {"product": "futures"},
            "product must be one of usdm, coinm, portfolio, portfolio-pro, options",
        ),
        ("a", {"product": "USDM"}, "product must be one of"),
        ("a", {"product": {"N": "1"}}, "product must be a string (S), not empty"),
        ("a", {"product": {"NULL": True}}, "product must be a string"),
        ("a", {"product": ""}, "product must be a string"),
        ("a", {"secretId": ""}, "secretId must be a string"),
        ("a", {"secretId": {"L": [{"S": "x"}]}}, "secretId must be a string"),
        ("a", {"secretId": "with space"}, "secretId must be the name or the ARN of a secret"),
        ("a", {"secretId": "line\nbreak"}, "secretId must be the name or the ARN"),
        ("a", {"secretId": "x" * 513}, "secretId must be the name or the ARN"),
        ("a", {"secretId": "arn:aws:s3:::bucket"}, "secretId must be the name or the ARN"),
        ("a", {"secretField": ""}, "secretField must be a string"),
        ("a", {"secretField": {"BOOL": True}}, "secretField must be a string"),
        ("a", {"enabled": "false"}, "enabled must be true or false (BOOL)"),
        ("a", {"enabled": {"N": "0"}}, "enabled must be true or false"),
        ("a", {"enabled": {"NULL": True}}, "enabled must be true or false"),
        ("a", {"createIfMissing": "no"}, "createIfMissing must be true or false"),
        ("a", {"renewAfterMinutes": "abc"}, "renewAfterMinutes must be a whole number (N) from 1 to 38"),
        ("a", {"renewAfterMinutes": "5"}, "renewAfterMinutes must be a whole number"),
        ("a", {"renewAfterMinutes": {"N": "0"}}, "renewAfterMinutes must be a whole number"),
        ("a", {"renewAfterMinutes": {"N": "39"}}, "renewAfterMinutes must be a whole number"),
        ("a", {"renewAfterMinutes": {"N": "1.5"}}, "renewAfterMinutes must be a whole number"),
        ("a", {"renewAfterMinutes": {"N": "-5"}}, "renewAfterMinutes must be a whole number"),
        ("a", {"renewAfterMinutes": {"NULL": True}}, "renewAfterMinutes must be a whole number"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_row_that_makes_no_sense_is_a_problem_of_its_own(
    world: World, accounts: Accounts, id_: str, attributes: dict[str, Any], said: str
) -> None:
    world.put_row(id_, **attributes)
    world.put_row("well")

    found = {account.id: account for account in listed(accounts)}

    assert found["well"].problem is None
    problem = found[id_].problem
    assert problem is not None
    assert (problem.code, problem.retryable) == ("INVALID_ACCOUNT", False)
    assert problem.message.startswith(f"AccountsTable row: {said}")
    assert found[id_].enabled


def test_a_row_that_is_disabled_is_disabled_whatever_else_is_wrong_with_it(
    world: World, accounts: Accounts
) -> None:
    world.put_row("alice", enabled=False, product="spot")

    [account] = listed(accounts)
    assert not account.enabled


def test_no_rows_are_no_accounts(world: World, accounts: Accounts) -> None:
    assert listed(accounts) == []


def test_more_than_a_megabyte_of_rows_comes_in_pages_and_whole(world: World, accounts: Accounts) -> None:
    names = [f"account-{n}" for n in range(14)]
    for name in names:
        world.put_row(name, note="x" * 200_000)

    pages = list(accounts.pages())

    assert len(pages) >= 3
    assert sorted(account.id for page in pages for account in page) == sorted(names)


def test_a_page_that_cannot_be_read_comes_after_those_that_could(aws: LocalAws) -> None:
    dynamodb = aws._session.client("dynamodb", aws_access_key_id="x", aws_secret_access_key="x")
    accounts = Accounts(dynamodb, "accounts", "listenkeys", lambda seconds: None)
    row = {"accountId": {"S": "alice"}}
    with Stubber(dynamodb) as stub:
        asked = {"TableName": "accounts", "Limit": ANY}
        stub.add_response("scan", {"Items": [row], "LastEvaluatedKey": row}, asked)
        stub.add_client_error(
            "scan",
            "InternalServerError",
            expected_params={**asked, "ExclusiveStartKey": row},
        )
        pages = accounts.pages()

        assert [account.id for account in next(pages)] == ["alice"]
        with pytest.raises(Unavailable, match=r"^AccountsTable could not be read: InternalServerError$"):
            next(pages)


def test_named_accounts_come_in_the_order_asked_for_and_an_unknown_one_is_a_problem(
    world: World, accounts: Accounts
) -> None:
    for name in ("alice", "bob", "carol"):
        world.put_row(name)
    world.put_row("dave", product="spot")

    found = accounts.named(["carol", "nobody", "alice", "dave"])

    assert [account.id for account in found] == ["carol", "nobody", "alice", "dave"]
    assert [account.problem and account.problem.code for account in found] == [
        None,
        "ACCOUNT_NOT_FOUND",
        None,
        "INVALID_ACCOUNT",
    ]


def test_more_names_than_a_batch_takes_are_all_read(world: World, accounts: Accounts) -> None:
    names = [f"account-{n}" for n in range(230)]
    with (
        world.aws._session.resource(
            "dynamodb",
            endpoint_url=world.aws.dynamodb_url or world.aws.endpoint_url,
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        .Table(world.aws.outputs["AccountsTableName"])
        .batch_writer() as batch
    ):
        for name in names:
            batch.put_item({"accountId": name})

    found = accounts.named(names)

    assert [account.id for account in found] == names
    assert all(account.problem is None for account in found)


def test_keys_that_dynamodb_leaves_unprocessed_are_asked_for_again_after_a_pause(aws: LocalAws) -> None:
    dynamodb = aws._session.client("dynamodb", aws_access_key_id="x", aws_secret_access_key="x")
    clock = VirtualClock()
    rows = [{"accountId": {"S": name}} for name in ("alice", "bob")]

    def request(*keys: Any) -> dict[str, Any]:
        return {"RequestItems": {"accounts": {"Keys": list(keys), "ConsistentRead": True}}}

    with Stubber(dynamodb) as stub:
        first = {
            "Responses": {"accounts": rows[:1]},
            "UnprocessedKeys": {"accounts": {"Keys": rows[1:]}},
        }
        stub.add_response("batch_get_item", first, request(*rows))
        stub.add_response("batch_get_item", {"Responses": {"accounts": rows[1:]}}, request(rows[1]))

        found = Accounts(dynamodb, "accounts", "listenkeys", clock.sleep).named(["alice", "bob"])

    assert [account.problem for account in found] == [None, None]
    assert len(clock.slept) == 1


def test_keys_that_stay_unprocessed_are_given_up_after_five_tries(aws: LocalAws) -> None:
    dynamodb = aws._session.client("dynamodb", aws_access_key_id="x", aws_secret_access_key="x")
    clock = VirtualClock()
    row = {"accountId": {"S": "alice"}}
    nothing = {"Responses": {}, "UnprocessedKeys": {"accounts": {"Keys": [row]}}}
    with Stubber(dynamodb) as stub:
        for _ in range(5):
            stub.add_response("batch_get_item", nothing)

        with pytest.raises(Unavailable, match="unprocessed keys remained"):
            Accounts(dynamodb, "accounts", "listenkeys", clock.sleep).named(["alice"])

        stub.assert_no_pending_responses()
