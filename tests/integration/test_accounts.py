"""AccountsTable, read from moto: what a row may say, what becomes of one that makes no sense, and paging."""

from __future__ import annotations

from typing import Any

import pytest

from listenkeys.aws.accounts import Accounts
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
        ({"product": "coinm"}, {"product": "coinm"}),
        ({"product": "portfolio"}, {"product": "portfolio"}),
        ({"product": "options"}, {"product": "options"}),
        ({"product": "portfolio-pro"}, {"product": "portfolio-pro"}),
        ({"environment": "demo", "product": "coinm"}, {"environment": "demo", "product": "coinm"}),
        ({"environment": "testnet"}, {"environment": "testnet"}),
        ({"secretId": "shared/keys"}, {"secret_id": "shared/keys"}),
        ({"secretId": "a.b_c+d=e@f-g/h"}, {"secret_id": "a.b_c+d=e@f-g/h"}),
        ({"secretId": ARN}, {"secret_id": ARN}),
        ({"secretId": ARN[:-7]}, {"secret_id": ARN[:-7]}),
        ({"secretId": ARN.replace("aws", "aws-cn", 1)}, {"secret_id": ARN.replace("aws", "aws-cn", 1)}),
        ({"secretField": "alice key"}, {"secret_field": "alice key"}),
        ({"enabled": False}, {"enabled": False}),
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
        ("älice", {}, "accountId must be"),
        ("alice\n", {}, "accountId must be"),
        ("a" * 65, {}, "accountId must be"),
        ("a", {"product": "spot"}, "product spot: Binance removed its listenKeys on 2026-02-20"),
        (
            "a",
            {"product": "margin"},
            "product margin: Binance removed its listenKeys on 2026-02-20, all but",
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
        ("a", {"product": {"N": "1"}}, "product must be a string (S), not empty"),
        ("a", {"product": ""}, "product must be a string"),
        ("a", {"secretId": {"L": [{"S": "x"}]}}, "secretId must be a string"),
        ("a", {"secretId": "with space"}, "secretId must be the name or the ARN of a secret"),
        ("a", {"secretId": "line\nbreak"}, "secretId must be the name or the ARN"),
        ("a", {"secretId": "x" * 513}, "secretId must be the name or the ARN"),
        ("a", {"secretId": "arn:aws:s3:::bucket"}, "secretId must be the name or the ARN"),
        ("a", {"secretField": ""}, "secretField must be a string"),
        ("a", {"enabled": "false"}, "enabled must be true or false (BOOL)"),
        ("a", {"createIfMissing": "no"}, "createIfMissing must be true or false"),
        ("a", {"renewAfterMinutes": "abc"}, "renewAfterMinutes must be a whole number (N) from 1 to 38"),
        ("a", {"renewAfterMinutes": {"N": "0"}}, "renewAfterMinutes must be a whole number"),
        ("a", {"renewAfterMinutes": {"N": "39"}}, "renewAfterMinutes must be a whole number"),
        ("a", {"renewAfterMinutes": {"N": "1.5"}}, "renewAfterMinutes must be a whole number"),
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
