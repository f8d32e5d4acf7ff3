"""What a result changes for those who listen, and what becomes of it when the bus does not take it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from listenkeys.aws.announcements import Announcer, news
from listenkeys.errors import Unavailable
from listenkeys.model import LEASE, NOTHING, SUCCESSES, Current, Outcome, Result
from listenkeys.view.remedies import REMEDIES

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(minutes=40)
WELL = Current("key", "EXTENDED", EARLIER, EARLIER, EARLIER + LEASE)
ILL = Current("key", "FAILED", EARLIER, EARLIER, EARLIER + LEASE, consecutive_failures=2)

CHANGED, FAILING, RECOVERED = "Listen Key Changed", "Listen Key Failing", "Listen Key Recovered"


def result(outcome: Outcome, before: Current, id_: str = "alice") -> Result:
    expires_at = NOW + LEASE if outcome in SUCCESSES else None
    return Result(id_, "usdm", outcome, NOW, before, "secretkey" * 7, expires_at)


@pytest.mark.parametrize(
    ("outcome", "before", "kinds"),
    [
        (Outcome.EXTENDED, WELL, []),
        (Outcome.EXTENDED, NOTHING, [CHANGED]),
        (Outcome.EXTENDED, ILL, [RECOVERED]),
        (Outcome.CREATED, NOTHING, [CHANGED]),
        (Outcome.CHANGED, WELL, [CHANGED]),
        (Outcome.RECREATED, WELL, [CHANGED]),
        (Outcome.RECREATED, ILL, [CHANGED, RECOVERED]),
        (Outcome.FAILED, WELL, [FAILING]),
        (Outcome.FAILED, NOTHING, [FAILING]),
        (Outcome.FAILED, ILL, []),
        (Outcome.REJECTED, WELL, [FAILING]),
        (Outcome.REJECTED, ILL, []),
    ],
)
def test_a_change_is_news_and_its_repetition_is_not(
    outcome: Outcome, before: Current, kinds: list[str]
) -> None:
    texts = news(result(outcome, before))

    assert [json.loads(text)["detailType"] for text in texts] == kinds


def test_the_detail_says_until_when_the_key_lives_and_what_to_do_and_never_which_key_it_is() -> None:
    [success] = news(result(Outcome.CREATED, NOTHING))
    [failure] = news(Result("bob", "coinm", Outcome.FAILED, NOW, WELL, error_code="TIMEOUT"))
    [never] = news(Result("carol", "usdm", Outcome.FAILED, NOW, NOTHING, error_code="TIMEOUT"))

    assert json.loads(success)["detail"] == {
        "id": "alice/2026-01-01T12:00:00.000Z/Changed",
        "accountId": "alice",
        "product": "usdm",
        "outcome": "CREATED",
        "errorCode": None,
        "expiresAt": "2026-01-01T13:00:00.000Z",
    }
    assert json.loads(failure)["detail"] == {
        "id": "bob/2026-01-01T12:00:00.000Z/Failing",
        "accountId": "bob",
        "product": "coinm",
        "outcome": "FAILED",
        "errorCode": "TIMEOUT",
        "remedy": REMEDIES["TIMEOUT"],
        "expiresAt": "2026-01-01T12:20:00.000Z",
    }
    assert json.loads(never)["detail"]["expiresAt"] is None


@pytest.fixture
def bus() -> Iterator[tuple[Announcer, Stubber]]:
    client = boto3.client("events", "eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        yield Announcer(client, "keys"), stub
        stub.assert_no_pending_responses()


def text(id_: str) -> str:
    return news(result(Outcome.CREATED, NOTHING, id_))[0]


def answer(*failed: int, size: int) -> dict[str, Any]:
    entries = [{"ErrorCode": "ThrottlingException"} if n in failed else {"EventId": "1"} for n in range(size)]
    return {"FailedEntryCount": len(failed), "Entries": entries}


def test_ten_events_go_at_a_time(bus: tuple[Announcer, Stubber]) -> None:
    announcer, stub = bus
    unannounced = {f"a{n}": [text(f"a{n}")] for n in range(23)}
    for size in (10, 10, 3):
        stub.add_response("put_events", answer(size=size))

    assert announcer.send(unannounced) == unannounced


def test_an_account_whose_event_was_refused_is_not_among_the_sent(bus: tuple[Announcer, Stubber]) -> None:
    announcer, stub = bus
    unannounced = {"a": [text("a")], "b": [text("b"), text("b")], "c": [text("c")]}
    stub.add_response("put_events", answer(2, size=4))

    assert announcer.send(unannounced).keys() == {"a", "c"}


def test_a_bus_that_does_not_answer_is_unavailable(bus: tuple[Announcer, Stubber]) -> None:
    announcer, stub = bus
    stub.add_client_error("put_events", "InternalException", "a message with 3HBntNTepshgEdjIwSUIBgB9")

    with pytest.raises(Unavailable, match=r"^EventBridge did not take the announcements: InternalException$"):
        announcer.send({"a": [text("a")]})
