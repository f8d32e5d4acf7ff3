"""API keys read from Secrets Manager: in batches, each secret once, each problem its own account's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

from listenkeys.aws.credentials import BATCH, ApiKey, Credentials, Fetched
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


def code(fetched: Fetched, id_: str) -> str:
    found = fetched.keys[id_]
    assert isinstance(found, AccountError)
    assert KEY not in found.message
    return found.code


def test_each_account_has_its_own_secret_by_default(world: World, credentials: Credentials) -> None:
    world.put_secret("listenkeys/alice", {"apiKey": KEY + "A"})
    world.put_secret("listenkeys/bob", {"apiKey": KEY + "B"})

    assert credentials.fetch([account("alice"), account("bob")]).keys == {
        "alice": ApiKey(KEY + "A"),
        "bob": ApiKey(KEY + "B"),
    }


def test_one_secret_may_hold_many_accounts_keys_and_is_read_once(
    world: World, credentials: Credentials, calls: list[dict[str, Any]]
) -> None:
    world.put_secret("shared", {f"key{n}": f"{KEY}{n}" for n in range(100)})

    fetched = credentials.fetch([account(f"a{n}", "shared", f"key{n}") for n in range(100)])

    assert fetched.keys == {f"a{n}": ApiKey(f"{KEY}{n}") for n in range(100)}
    assert [call["SecretIdList"] for call in calls] == [["shared"]]


def test_a_secret_may_be_named_by_its_arn_with_or_without_its_random_end(
    world: World, credentials: Credentials
) -> None:
    world.put_secret("listenkeys/alice", {"apiKey": KEY})
    arn = world.aws.client("secretsmanager").describe_secret(SecretId="listenkeys/alice")["ARN"]

    for ids in ([arn], [arn[:-7]], ["listenkeys/alice"], [arn, arn[:-7], "listenkeys/alice"]):
        accounts = [account(f"a{n}", id_) for n, id_ in enumerate(ids)]
        assert set(credentials.fetch(accounts).keys.values()) == {ApiKey(KEY)}


@pytest.mark.parametrize("size", [BATCH, BATCH + 1, 95])
def test_many_secrets_are_read_twenty_at_a_time(
    world: World, credentials: Credentials, calls: list[dict[str, Any]], size: int
) -> None:
    for n in range(size):
        world.put_secret(f"listenkeys/a{n}", {"apiKey": f"{KEY}{n}"})

    fetched = credentials.fetch([account(f"a{n}") for n in range(size)])

    assert fetched.keys == {f"a{n}": ApiKey(f"{KEY}{n}") for n in range(size)}
    assert max(len(call["SecretIdList"]) for call in calls) == BATCH
    assert len(calls) == -(-size // BATCH)


def test_no_accounts_make_no_call(credentials: Credentials, calls: list[dict[str, Any]]) -> None:
    assert credentials.fetch([]).keys == {}
    assert calls == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not JSON " + KEY, "the secret must be text holding a JSON object"),
        (KEY, "the secret must be text holding a JSON object"),
        ("", "the secret must be text holding a JSON object"),
        (json.dumps(KEY), "the secret must be text holding a JSON object"),
        (json.dumps([KEY]), "the secret must be text holding a JSON object"),
        ("null", "the secret must be text holding a JSON object"),
        ("[" * 20_000, "the secret must be text holding a JSON object"),
        (f'{{"apiKey": "{KEY}"', "the secret must be text holding a JSON object"),
        ("{}", "does not have the field that secretField names"),
        (json.dumps({"apikey": KEY}), "does not have the field that secretField names"),
        (json.dumps({"apiKey": None, "other": KEY}), "does not have the field that secretField names"),
        (json.dumps({"apiKey": ""}), "must be the API key as a string"),
        (json.dumps({"apiKey": 5}), "must be the API key as a string"),
        (json.dumps({"apiKey": True}), "must be the API key as a string"),
        (json.dumps({"apiKey": {"value": KEY}}), "must be the API key as a string"),
        (json.dumps({"apiKey": KEY + "\n"}), "letters, digits, - and _ only"),
        (json.dumps({"apiKey": KEY + "\r\nX-Other: 1"}), "letters, digits, - and _ only"),
        (json.dumps({"apiKey": " " + KEY}), "letters, digits, - and _ only"),
        (json.dumps({"apiKey": KEY + "\x00"}), "letters, digits, - and _ only"),
        (json.dumps({"apiKey": KEY + "\u00e4\u2028"}), "letters, digits, - and _ only"),
        (json.dumps({"apiKey": "<script>alert(1)</script>"}), "letters, digits, - and _ only"),
        (json.dumps({"apiKey": "k" * 257}), "letters, digits, - and _ only"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_malformed_secret_is_its_accounts_problem_alone(
    world: World, credentials: Credentials, content: str, said: str
) -> None:
    world.aws.client("secretsmanager").create_secret(Name="listenkeys/alice", SecretString=content or " ")
    world.put_secret("listenkeys/bob", {"apiKey": KEY})

    fetched = credentials.fetch([account("alice"), account("bob")])

    assert code(fetched, "alice") == "SECRET_INVALID"
    problem = fetched.keys["alice"]
    assert isinstance(problem, AccountError)
    assert said in problem.message
    assert problem.__context__ is None
    assert not problem.retryable
    assert fetched.keys["bob"] == ApiKey(KEY)


def test_a_binary_secret_is_invalid(world: World, credentials: Credentials) -> None:
    content = json.dumps({"apiKey": KEY}).encode()
    world.aws.client("secretsmanager").create_secret(Name="listenkeys/alice", SecretBinary=content)

    assert code(credentials.fetch([account("alice")]), "alice") == "SECRET_INVALID"


def test_a_field_that_is_bad_leaves_the_secrets_other_fields_alone(
    world: World, credentials: Credentials
) -> None:
    world.put_secret("shared", {"alice": KEY, "bob": "with space"})

    fetched = credentials.fetch([account(name, "shared", name) for name in ("alice", "bob", "carol")])

    assert fetched.keys["alice"] == ApiKey(KEY)
    assert [code(fetched, name) for name in ("bob", "carol")] == ["SECRET_INVALID"] * 2


def test_a_missing_secret_and_one_being_deleted_are_reported_as_such(
    world: World, credentials: Credentials
) -> None:
    for name in ("well", "deleted"):
        world.put_secret(f"listenkeys/{name}", {"apiKey": KEY})
    world.aws.client("secretsmanager").delete_secret(SecretId="listenkeys/deleted")

    fetched = credentials.fetch([account(name) for name in ("well", "missing", "deleted")])

    assert fetched.keys["well"] == ApiKey(KEY)
    assert code(fetched, "missing") == "SECRET_NOT_FOUND"
    assert code(fetched, "deleted") == "SECRET_INVALID"


@pytest.mark.parametrize(
    ("error_code", "expected", "retryable"),
    [
        ("ResourceNotFoundException", "SECRET_NOT_FOUND", False),
        ("AccessDeniedException", "SECRET_DENIED", False),
        ("DecryptionFailure", "SECRET_DENIED", False),
        ("InvalidRequestException", "SECRET_INVALID", False),
        ("InternalServiceError", "SECRET_UNAVAILABLE", True),
        ("ThrottlingException", "SECRET_UNAVAILABLE", True),
        ("SomethingNew", "SECRET_UNAVAILABLE", True),
    ],
)
def test_an_error_of_one_secret_or_of_the_whole_call_has_a_code_of_ours(
    aws: LocalAws, error_code: str, expected: str, retryable: bool
) -> None:
    client = aws._session.client("secretsmanager", aws_access_key_id="x", aws_secret_access_key="x")
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:listenkeys/bob-AbCdEf"
    beside = {
        "SecretValues": [{"Name": "listenkeys/bob", "ARN": arn, "SecretString": json.dumps({"apiKey": KEY})}],
        "Errors": [{"SecretId": "listenkeys/alice", "ErrorCode": error_code, "Message": f"about {KEY}"}],
    }
    with Stubber(client) as stub:
        stub.add_response("batch_get_secret_value", beside)
        fetched = Credentials(client).fetch([account("alice"), account("bob")])

        stub.add_client_error("batch_get_secret_value", error_code, f"about {KEY}")
        whole = Credentials(client).fetch([account("alice")])

    assert fetched.keys["bob"] == ApiKey(KEY)
    for found in (fetched, whole):
        assert code(found, "alice") == expected
        problem = found.keys["alice"]
        assert isinstance(problem, AccountError)
        assert problem.retryable is retryable


def test_one_malformed_id_does_not_cost_its_batch(aws: LocalAws) -> None:
    client = aws._session.client("secretsmanager", aws_access_key_id="x", aws_secret_access_key="x")
    ids = ["a", "b", "bad", "d"]

    def values(*names: str) -> dict[str, Any]:
        content = json.dumps({"apiKey": KEY})
        return {
            "SecretValues": [
                {"Name": name, "ARN": "arn:aws:secretsmanager:x-AbCdEf", "SecretString": content}
                for name in names
            ]
        }

    with Stubber(client) as stub:
        for asked, answer in [
            (ids, None),
            (["a", "b"], values("a", "b")),
            (["bad", "d"], None),
            (["bad"], None),
            (["d"], values("d")),
        ]:
            expected = {"SecretIdList": asked}
            if answer is None:
                stub.add_client_error(
                    "batch_get_secret_value", "ValidationException", expected_params=expected
                )
            else:
                stub.add_response("batch_get_secret_value", answer, expected)

        fetched = Credentials(client).fetch([account(id_, id_) for id_ in ids])
        stub.assert_no_pending_responses()

    assert code(fetched, "bad") == "SECRET_INVALID"
    assert [fetched.keys[id_] for id_ in ("a", "b", "d")] == [ApiKey(KEY)] * 3


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


@pytest.mark.parametrize("name", ["apiSecret", "secretKey"])
def test_a_signing_secret_beside_the_key_is_noticed_and_its_value_is_not_kept(
    world: World, credentials: Credentials, name: str
) -> None:
    world.put_secret("listenkeys/alice", {"apiKey": KEY, name: "CANARYsigningsecret"})

    fetched = credentials.fetch([account("alice")])

    assert fetched.signing_secret_seen
    assert "CANARYsigningsecret" not in repr(fetched)


def test_a_key_does_not_show(world: World, credentials: Credentials) -> None:
    world.put_secret("listenkeys/alice", {"apiKey": KEY})

    fetched = credentials.fetch([account("alice")])

    assert not fetched.signing_secret_seen
    assert KEY not in f"{fetched!r} {fetched.keys['alice']} {fetched.keys}"
