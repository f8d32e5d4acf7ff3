"""What a result changes for those who listen, and what becomes of it when the bus does not take it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from listenkeys.aws.announcements import news
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


def test_the_detail_says_until_when_the_key_lives_and_what_to_do() -> None:
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
