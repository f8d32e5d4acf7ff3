"""The report: its fields are a contract, its problems are few and the worst come first."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from listenkeys.errors import AccountError
from listenkeys.model import NOTHING, Current, Outcome, Result
from listenkeys.report import Report

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS = [
    "runId", "trigger", "accounts", "extended", "changed", "created", "recreated", "skipped",
    "failed", "deferred", "rejected", "minRemainingSeconds", "usedWeight", "durationMs", "problems",
]  # fmt: skip


def result(id_: str, outcome: Outcome, code: str | None = None) -> Result:
    made = Result(id_, "usdm", outcome, NOW, NOTHING, "k" * 64)
    return made.explain(AccountError(code, f"because of {code}", 500)) if code else made


def report(*results: Result) -> Report:
    return Report("run-1", "tick", accounts=len(results), results=list(results))


def test_the_fields_are_those_of_the_contract_in_this_order() -> None:
    plan = [{"accountId": str(number)} for number in range(1001)]
    empty = json.loads(json.dumps(report().to_dict()))
    planned = Report("run-1", "manual", dry_run=True, plan=plan).to_dict()

    assert list(empty) == FIELDS
    said = {"runId": "run-1", "trigger": "tick", "minRemainingSeconds": None, "problems": []}
    assert empty == {**dict.fromkeys(FIELDS, 0), **said}
    assert report().keys_at_risk == 0
    assert list(planned) == [*FIELDS, "dryRun", "plan"]
    assert (planned["dryRun"], planned["plan"]) == (True, plan[:1000])


@pytest.mark.parametrize(
    ("later", "late", "renews"),
    [(0.0, False, True), (0.001, True, False), (3600.0, True, False), (3600.001, False, False)],
)
def test_a_result_is_late_if_a_later_one_of_no_wrong_clock_is_recorded(
    later: float, late: bool, renews: bool
) -> None:
    recorded = NOW + timedelta(seconds=later)
    made = Result("a", "usdm", Outcome.EXTENDED, NOW, Current("key", "EXTENDED", recorded, recorded))
    assert (made.late, made.renews) == (late, renews)


def test_problems_are_50_at_most_and_those_that_need_a_person_come_first() -> None:
    failed = [result(f"f{n}", Outcome.FAILED, "TIMEOUT") for n in range(60)]
    deferred = [result(f"d{n}", Outcome.DEFERRED, "IP_BANNED") for n in range(60)]
    rejected = [result(f"r{n}", Outcome.REJECTED, "INVALID_API_KEY") for n in range(3)]

    problems = report(*deferred, *failed, *rejected).to_dict()["problems"]

    assert [problem["outcome"] for problem in problems] == ["REJECTED"] * 3 + ["FAILED"] * 47
    said = {"accountId": "f0", "outcome": "FAILED", "errorCode": "TIMEOUT"}
    assert problems[3] == {**said, "errorMessage": "because of TIMEOUT", "expiresAt": None}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (report(result("a", Outcome.EXTENDED), result("b", Outcome.REJECTED, "INVALID_API_KEY")), None),
        (
            report(result("a", Outcome.EXTENDED), result("b", Outcome.FAILED, "TIMEOUT")),
            "1 of 2 accounts left for another try: 1 FAILED TIMEOUT",
        ),
        (
            report(
                result("a", Outcome.DEFERRED, "IP_BANNED"),
                result("b", Outcome.FAILED, "CONNECTION"),
                result("c", Outcome.DEFERRED, "IP_BANNED"),
            ),
            "3 of 3 accounts left for another try: 2 DEFERRED IP_BANNED, 1 FAILED CONNECTION",
        ),
        (
            Report("r", "tick", accounts_unread="AccountsTable could not be read: X"),
            "0 of 0 accounts left for another try: AccountsTable could not be read: X",
        ),
        (
            Report("r", "tick", trouble=["1 accounts' changes not announced"]),
            "0 of 0 accounts left for another try: 1 accounts' changes not announced",
        ),
    ],
    ids=["nothing left", "one failed", "counted by reason", "accounts unread", "trouble"],
)
def test_what_is_left_is_told_in_one_line(made: Report, said: str | None) -> None:
    assert made.incomplete() == said
