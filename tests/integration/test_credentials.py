"""API keys read from Secrets Manager: in batches, each secret once, each problem its own account's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

from listenkeys.aws.credentials import ApiKey, Credentials
from listenkeys.errors import AccountError
from listenkeys.model import Account
from local.aws.stack import LocalAws
from local.world import World

KEY = "CANARYapikeyCANARYapikeyCANARYapikey"


def account(id_: str, secret_id: str = "", field: str = "apiKey") -> Account:
    return Account(id_, "usdm", secret_id or f"listenkeys/{id_}", field)


@pytest.fixture
def calls(aws: LocalAws) -> Iterator[list[dict[str, Any]]]:
    """The BatchGetSecretValue requests that are sent."""
    seen: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        seen.append(dict(params))

    events = aws.client("secretsmanager").meta.events
    name = "provide-client-params.secrets-manager.BatchGetSecretValue"
    events.register(name, note)
    yield seen
    events.unregister(name, note)


@pytest.fixture
def credentials(aws: LocalAws) -> Credentials:
    return Credentials(aws.client("secretsmanager"))


def test_one_secret_may_hold_many_accounts_keys_and_is_read_once(
    world: World, credentials: Credentials, calls: list[dict[str, Any]]
) -> None:
    world.put_secret("shared", {f"key{n}": f"{KEY}{n}" for n in range(100)})

    fetched = credentials.fetch([account(f"a{n}", "shared", f"key{n}") for n in range(100)])

    assert fetched.keys == {f"a{n}": ApiKey(f"{KEY}{n}") for n in range(100)}
    assert [call["SecretIdList"] for call in calls] == [["shared"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([KEY], "the secret must be text holding a JSON object"),
        ({"apikey": KEY}, "does not have the field that secretField names"),
        ({"apiKey": 5}, "must be the API key as a string"),
        ({"apiKey": KEY + "\n"}, "letters, digits, - and _ only"),
    ],
    ids=["no object", "no field", "no string", "no key"],
)
def test_a_malformed_secret_is_told_by_what_is_wrong_with_it(
    world: World, credentials: Credentials, content: Any, said: str
) -> None:
    world.put_secret("listenkeys/alice", content)

    found = credentials.fetch([account("alice")]).keys["alice"]

    assert isinstance(found, AccountError)
    assert (found.code, said in found.message, KEY in found.message) == ("SECRET_INVALID", True, False)


def test_an_answer_in_pages_is_read_to_the_end(aws: LocalAws) -> None:
    client = aws._session.client("secretsmanager", aws_access_key_id="x", aws_secret_access_key="x")

    def page(name: str) -> dict[str, Any]:
        secret = {"Name": name, "ARN": "arn:aws:secretsmanager:x-AbCdEf"}
        return {"SecretValues": [secret | {"SecretString": json.dumps({"apiKey": KEY})}]}

    with Stubber(client) as stub:
        asked = {"SecretIdList": ["a", "b"]}
        stub.add_response("batch_get_secret_value", page("a") | {"NextToken": "more"}, asked)
        stub.add_response("batch_get_secret_value", page("b"), asked | {"NextToken": "more"})

        fetched = Credentials(client).fetch([account("a", "a"), account("b", "b")])

    assert set(fetched.keys.values()) == {ApiKey(KEY)}
