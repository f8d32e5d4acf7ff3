"""Reading a listenKey: what is answered, what is raised, and which URL opens."""

import dataclasses
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

import listenkey_keeper
from listenkey_keeper import ListenKeyChanges, ListenKeys, ListenKeyUnavailable, read_listen_key
from listenkeys.products import PRODUCTS
from local.clock import VirtualClock
from local.world import World
from tests.paths import PYTHONPATH

KEY = "CANARYlistenKey".ljust(64, "7")
FUTURES = "wss://fstream.binance.com"
EVENTS = (
    "ORDER_TRADE_UPDATE/TRADE_LITE/ALGO_UPDATE/CONDITIONAL_ORDER_TRIGGER_REJECT/STRATEGY_UPDATE/GRID_UPDATE/"
    "ACCOUNT_UPDATE/ACCOUNT_CONFIG_UPDATE/MARGIN_CALL/listenKeyExpired"
)

URLS = {
    "usdm": f"wss://fstream.binance.com/private/ws?listenKey={KEY}&events={EVENTS}",
    "coinm": f"wss://dstream.binance.com/ws/{KEY}",
    "portfolio": f"wss://fstream.binance.com/pm/ws/{KEY}",
    "portfolio-pro": f"wss://fstream.binance.com/pm-classic/ws/{KEY}",
    "options": f"wss://fstream.binance.com/private/ws/{KEY}",
}


@pytest.fixture
def table(world: World) -> dict[str, Any]:
    return {"table": world.aws.outputs["ListenKeysTableName"], "dynamodb": world.aws.client("dynamodb")}


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_key_comes_with_its_product_its_url_and_until_when_it_lives(
    world: World, table: dict[str, Any], clock: VirtualClock, product: str
) -> None:
    world.put_current("alice", KEY, clock.now(), product=product)
    found = read_listen_key("alice", **table)
    assert dataclasses.asdict(found) == {
        "account": "alice",
        "product": product,
        "key": KEY,
        "url": URLS[product],
        "renewed_at": clock.now(),
        "expires_at": clock.now() + timedelta(hours=1),
        "outcome": "EXTENDED",
        "error_code": None,
    }
    assert found.expires_at.tzinfo is UTC


PRIVATE = f"/private/ws?listenKey={KEY}&events="


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"events": ["ORDER_TRADE_UPDATE"]}, f"{FUTURES}{PRIVATE}ORDER_TRADE_UPDATE/listenKeyExpired"),
        ({"events": ["listenKeyExpired", "MARGIN_CALL"]}, f"{FUTURES}{PRIVATE}listenKeyExpired/MARGIN_CALL"),
        ({"events": [], "base_url": "wss://a.example/"}, f"wss://a.example{PRIVATE}listenKeyExpired"),
    ],
    ids=["one", "with the end", "of another host"],
)
def test_the_events_of_a_url_may_be_chosen_and_include_the_end_of_the_key(
    world: World, table: dict[str, Any], clock: VirtualClock, given: dict[str, Any], url: str
) -> None:
    world.put_current("alice", KEY, clock.now())
    found = read_listen_key("alice", **table, **given)
    assert found.url == url
    assert KEY not in repr(found)


def test_a_key_cannot_change_the_url_around_it(world: World, table: Any, clock: VirtualClock) -> None:
    world.put_current("alice", "a/b?c&d", clock.now(), product="coinm")
    assert read_listen_key("alice", **table).url == "wss://dstream.binance.com/ws/a%2Fb%3Fc%26d"


def test_table_and_host_may_come_from_the_environment(
    world: World, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put_current("alice", KEY, clock.now(), product="coinm")
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BINANCE_STREAM_URL", "ws://127.0.0.1:1")
    assert read_listen_key("alice").url == f"ws://127.0.0.1:1/ws/{KEY}"


@pytest.mark.parametrize("url", ["https://fapi.binance.com", "fstream.binance.com", "wss://"])
def test_what_is_no_websockets_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="websocket"):
        ListenKeys("table", base_url=url)


def test_without_a_table_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_KEYS_TABLE", raising=False)
    with pytest.raises(ValueError, match="LISTEN_KEYS_TABLE"):
        ListenKeys()


@pytest.fixture
def no_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


@pytest.mark.usefixtures("no_region")
def test_without_a_region_it_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="AWS_REGION"):
        ListenKeys("table")


@pytest.mark.usefixtures("no_region")
def test_the_region_may_be_in_aws_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "ap-northeast-1")
    clients: list[Any] = [ListenKeys("table")._dynamodb, ListenKeyChanges("https://queue")._sqs]
    assert [each.meta.region_name for each in clients] == ["ap-northeast-1"] * 2
    waits = [(each.meta.config.connect_timeout, each.meta.config.read_timeout) for each in clients]
    assert waits == [(2, 3), (3, 30)]  # SQS lets an answer wait for 20 s


@pytest.mark.parametrize("date", ["Thu, 01 Jan 2026 00:00:00 -0000", "soon"], ids=["no zone", "no date"])
def test_an_odd_date_does_not_keep_a_key_from_being_read(
    world: World, table: dict[str, Any], clock: VirtualClock, date: str
) -> None:
    world.put_current("alice", KEY, clock.now())

    def undated(parsed: Any, **_: object) -> None:
        parsed["ResponseMetadata"]["HTTPHeaders"]["date"] = date

    table["dynamodb"].meta.events.register("after-call.dynamodb.GetItem", undated)
    assert read_listen_key("alice", **table).key == KEY


def test_an_account_without_a_key_is_worth_asking_for_again(table: dict[str, Any]) -> None:
    with pytest.raises(ListenKeyUnavailable, match=r"nobody.*NO_KEY") as raised:
        read_listen_key("nobody", **table)
    assert (raised.value.code, raised.value.retryable) == ("NO_KEY", True)


def test_an_account_whose_first_key_could_not_be_created_says_why(
    world: World, table: dict[str, Any], clock: VirtualClock
) -> None:
    refused = {"outcome": "REJECTED", "errorCode": "INVALID_API_KEY"}
    world.put_current("alice", KEY, clock.now(), listenKey=None, **refused)
    with pytest.raises(ListenKeyUnavailable) as raised:
        read_listen_key("alice", **table)
    assert str(raised.value).endswith("(NO_KEY: the keeper could not create one: INVALID_API_KEY)")
    assert (raised.value.code, raised.value.retryable) == ("NO_KEY", True)


@pytest.mark.parametrize(
    "broken",
    [
        {"product": "spot"},
        {"product": None},
        {"expiresAt": None},
        {"renewedAt": "yesterday"},
        {"renewedAt": "0001-01-01T00:00:00+14:00"},
    ],
    ids=["product", "no product", "no expiresAt", "renewedAt", "before all time"],
)
def test_a_broken_record_is_none(world: World, table: Any, clock: VirtualClock, broken: Any) -> None:
    world.put_current("alice", KEY, clock.now(), **broken)
    with pytest.raises(ListenKeyUnavailable, match="INVALID_RECORD") as raised:
        read_listen_key("alice", **table)
    assert KEY not in str(raised.value)
    assert raised.value.__context__ is None


class Refusing:
    """A DynamoDB client that raises this."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def get_item(self, **_: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (
            ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetItem"),
            "AccessDeniedException",
            False,
        ),
        (ClientError({"Error": {"Code": "ThrottlingException"}}, "GetItem"), "ThrottlingException", True),
        (EndpointConnectionError(endpoint_url="https://CANARY"), "EndpointConnectionError", True),
    ],
)
def test_aws_trouble_comes_by_its_code_and_nothing_else(error: Any, code: str, retryable: bool) -> None:
    dynamodb: Any = Refusing(error)
    with pytest.raises(ListenKeyUnavailable) as raised:
        ListenKeys("table", dynamodb=dynamodb).read("alice")
    assert (raised.value.code, raised.value.retryable) == (code, retryable)
    assert str(raised.value) == f"alice: no listenKey can be read from the table table ({code})"
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    "code",
    [
        "AccessDenied", "ExpiredTokenException", "IncompleteSignatureException", "InvalidSignatureException",
        "ResourceNotFoundException", "UnrecognizedClientException", "ValidationException",
        "NoAuthTokenError", "NoCredentialsError", "NoRegionError", "PartialCredentialsError",
        "PendingAuthorizationExpiredError", "SSOError", "SSOTokenLoadError", "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    ],
)  # fmt: skip
def test_what_only_a_person_can_put_right_is_not_worth_asking_for_again(code: str) -> None:
    kind = getattr(botocore.exceptions, code, None)
    error = kind.__new__(kind) if kind else ClientError({"Error": {"Code": code}}, "GetItem")
    dynamodb: Any = Refusing(error)
    with pytest.raises(ListenKeyUnavailable) as raised:
        ListenKeys("table", dynamodb=dynamodb).read("alice")
    assert (raised.value.code, raised.value.retryable) == (code, False)


def test_without_credentials_it_says_which_variables_to_set() -> None:
    dynamodb: Any = Refusing(botocore.exceptions.NoCredentialsError())
    with pytest.raises(ListenKeyUnavailable) as raised:
        ListenKeys("table", dynamodb=dynamodb).read("alice")
    why = "NoCredentialsError: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    assert str(raised.value) == f"alice: no listenKey can be read from the table table ({why})"


def test_every_name_of_the_package_is_there() -> None:
    assert {name: getattr(listenkey_keeper, name).__name__ for name in listenkey_keeper.__all__} == {
        name: name for name in listenkey_keeper.__all__
    }
    with pytest.raises(AttributeError, match="nothing"):
        _ = listenkey_keeper.nothing


WITHOUT = """
import sys
for name in ("websockets", "typer", "rich", "requests"):
    sys.modules[name] = None
import listenkey_keeper
print(sorted({"boto3", "asyncio"} & set(sys.modules)))
from listenkey_keeper import Gap, ListenKeyChanges, ListenKeys, ListenKeyUnavailable, read_listen_key
try:
    from listenkey_keeper import UserDataStream
except ImportError as error:
    print(error)
"""


def test_reading_a_key_needs_boto3_alone_and_a_stream_says_what_more() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "AWS_DEFAULT_REGION": "eu-west-1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "[]",
        "the stream needs websockets: pip install '.[stream]' in listenkey-keeper's folder",
    ]


def test_the_time_of_a_record_is_read_in_utc(world: World, table: Any, clock: VirtualClock) -> None:
    world.put_current("alice", KEY, clock.now(), renewedAt="2026-01-01T02:00:00.000+02:00")
    assert read_listen_key("alice", **table).renewed_at == datetime(2026, 1, 1, tzinfo=UTC)
