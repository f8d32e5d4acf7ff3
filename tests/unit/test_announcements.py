"""What a result changes for those who listen, and what becomes of it when the bus does not take it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from listenkeys.aws.announcements import digests, news
from listenkeys.model import LEASE, NOTHING, SUCCESSES, Current, Outcome, Result
from listenkeys.view.remedies import REMEDIES

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(minutes=40)
WELL = Current("key", "EXTENDED", EARLIER, EARLIER, EARLIER + LEASE)
ILL = Current("key", "FAILED", EARLIER, EARLIER, EARLIER + LEASE, consecutive_failures=2)
NEEDED = replace(ILL, outcome="REJECTED", error_code="INVALID_API_KEY", only_error="INVALID_API_KEY")

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
        (Outcome.REJECTED, ILL, [FAILING]),
        (Outcome.REJECTED, NEEDED, []),
        (Outcome.FAILED, NEEDED, []),
        (Outcome.REJECTED, replace(NEEDED, outcome="FAILED", error_code="TIMEOUT"), []),
    ],
)
def test_a_change_is_news_and_its_repetition_is_not(
    outcome: Outcome, before: Current, kinds: list[str]
) -> None:
    texts = news(result(outcome, before))

    assert [json.loads(text)["detailType"] for text in texts] == kinds


@pytest.mark.parametrize(
    ("outcome", "before", "early"),
    [
        (Outcome.RECREATED, WELL, True),
        (Outcome.CHANGED, WELL, True),
        (Outcome.RECREATED, ILL, True),
        (Outcome.RECREATED, replace(WELL, expires_at=NOW), False),
        (Outcome.RECREATED, replace(WELL, attempted_at=NOW + timedelta(minutes=1)), False),
        (Outcome.CREATED, NOTHING, False),
        (Outcome.EXTENDED, NOTHING, False),
    ],
    ids=[
        "recreated",
        "changed",
        "after failures",
        "in its time",
        "a later run knows",
        "the first",
        "taken over",
    ],
)
def test_a_key_that_died_early_is_told_of_unless_a_manual_run_names_it(
    outcome: Outcome, before: Current, early: bool
) -> None:
    texts = news(result(outcome, before))

    assert json.loads(texts[0])["detail"]["diedEarly"] is early
    assert ("Listen Keys Replaced" in dict(digests(texts, [], True))) is early
    assert ("Listen Keys Replaced" in dict(digests(texts, [], False))) is early, "an earlier run has met it"
    now = result(outcome, before)
    now.unannounced = texts
    assert "Listen Keys Replaced" not in dict(digests(texts, [now], False)), "the answer names it"


@pytest.mark.parametrize(
    ("outcome", "before", "known", "deferred", "told"),
    [
        (Outcome.FAILED, WELL, {}, True, []),
        (Outcome.FAILED, WELL, {}, False, ["Listen Keys Failing"]),
        (Outcome.FAILED, WELL, {"only_error": "INVALID_API_KEY"}, True, ["Listen Keys Failing"]),
        (Outcome.FAILED, WELL, {"unannounced": ("{}",)}, True, ["Listen Keys Failing"]),
        (Outcome.REJECTED, WELL, {}, True, ["Listen Keys Failing"]),
        (Outcome.EXTENDED, ILL, {}, True, ["Listen Keys Recovered"]),
    ],
    ids=["told before", "the host is up", "another was told", "it was not told", "a person's", "recovered"],
)
def test_an_outage_is_told_of_once(
    outcome: Outcome, before: Current, known: dict[str, Any], deferred: bool, told: list[str]
) -> None:
    first = replace(ILL, **{"only_error": "NETWORK_ERROR", **known})
    run = [result(Outcome.DEFERRED if deferred else Outcome.EXTENDED, first, "bob")]
    now = result(outcome, before)
    now.error_code = "NETWORK_ERROR"

    assert [name for name, _ in digests(news(now), run, True)] == told


@pytest.mark.parametrize(
    ("count", "others", "says"),
    [
        (6, 301, "RECOVERED 6 accounts; 301 others were renewed too. "),
        (1, 1, "RECOVERED 1 account; 1 other was renewed too. "),
        (2, 0, "RECOVERED 2 accounts. "),
    ],
)
def test_recovered_says_how_many_were_renewed_without_a_failure(count: int, others: int, says: str) -> None:
    run = [
        result(Outcome.EXTENDED, ILL if number < count else WELL, f"{number:03}")
        for number in range(count + others)
    ]
    told = digests((text for each in run for text in news(each)), run, True)
    [(kind, detail)] = told
    assert kind == "Listen Keys Recovered"
    assert detail["text"].startswith(says)


def test_others_are_counted_beside_those_that_a_bots_report_has_recovered() -> None:
    earlier = news(result(Outcome.EXTENDED, ILL, "alice"))  # the sweep after it sends it
    run = [result(Outcome.RECREATED, WELL, f"b{number}") for number in range(7)]
    [(_, detail)] = digests(earlier, run, True)
    assert detail["text"].startswith(
        "RECOVERED 1 account; 7 others were renewed too. alice (usdm). RECREATED 7 (b0, b1, b2, b3, b4, ...)"
    )


def test_no_message_is_longer_than_discord_takes() -> None:
    for length in range(2, 65):
        texts = []
        for number, code in enumerate(sorted(REMEDIES, key=lambda code: -len(REMEDIES[code]))):
            failed = result(Outcome.FAILED, NOTHING, f"{number:02}".ljust(length, "x"))
            failed.product, failed.error_code = "portfolio-pro", code
            texts += news(failed)
        [(_, detail)] = digests(texts, [], True)
        assert len(detail["text"]) <= 1950  # of 2,000: it may say how many accounts were not tried
