"""What a result changes for those who listen, and what becomes of it when the bus does not take it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from listenkeys.aws.announcements import digests, news
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


def test_no_message_is_longer_than_discord_takes() -> None:
    for length in range(2, 65):
        texts = []
        for number, code in enumerate(sorted(REMEDIES, key=lambda code: -len(REMEDIES[code]))):
            failed = result(Outcome.FAILED, NOTHING, f"{number:02}".ljust(length, "x"))
            failed.product, failed.error_code = "portfolio-pro", code
            texts += news(failed)
        [(_, detail)] = digests(texts, [])
        assert len(detail["text"]) <= 1950  # of 2,000: it may say how many accounts were not tried
