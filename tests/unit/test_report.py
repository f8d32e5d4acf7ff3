"""The report: its fields are a contract, its problems are few and the worst come first."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from listenkeys.errors import AccountError
from listenkeys.model import NOTHING, Outcome, Result
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
    assert list(report().to_dict()) == FIELDS


def test_a_dry_run_adds_its_plan() -> None:
    made = Report("run-1", "manual", dry_run=True, plan=[{"accountId": "alice"}])

    assert list(made.to_dict()) == [*FIELDS, "dryRun", "plan"]
    assert made.to_dict()["dryRun"] is True
    assert made.to_dict()["plan"] == [{"accountId": "alice"}]


def test_every_outcome_is_counted_under_its_own_name() -> None:
    results = [result(f"{outcome}{n}", outcome) for n, outcome in enumerate(Outcome, 1) for _ in range(n)]

    counted = report(*results).to_dict()

    assert {outcome: counted[outcome.lower()] for outcome in Outcome} == {
        outcome: n for n, outcome in enumerate(Outcome, 1)
    }


def test_a_report_of_nothing_is_json_with_nothing_in_it() -> None:
    empty = json.loads(json.dumps(report().to_dict()))

    assert empty["minRemainingSeconds"] is None
    assert empty["problems"] == []
    assert not any(empty[outcome.lower()] for outcome in Outcome)


def test_a_problem_says_who_what_and_why_and_nothing_else() -> None:
    [problem] = report(result("alice", Outcome.FAILED, "TIMEOUT")).to_dict()["problems"]

    assert problem == {
        "accountId": "alice",
        "outcome": "FAILED",
        "errorCode": "TIMEOUT",
        "errorMessage": "because of TIMEOUT",
    }


def test_problems_are_50_at_most_and_those_that_need_a_person_come_first() -> None:
    failed = [result(f"f{n}", Outcome.FAILED, "TIMEOUT") for n in range(60)]
    deferred = [result(f"d{n}", Outcome.DEFERRED, "IP_BANNED") for n in range(60)]
    rejected = [result(f"r{n}", Outcome.REJECTED, "INVALID_API_KEY") for n in range(3)]

    problems = report(*deferred, *failed, *rejected).to_dict()["problems"]

    assert [problem["outcome"] for problem in problems] == ["REJECTED"] * 3 + ["FAILED"] * 47


def test_successes_and_skipped_accounts_are_no_problems() -> None:
    fine = (Outcome.EXTENDED, Outcome.CHANGED, Outcome.CREATED, Outcome.RECREATED, Outcome.SKIPPED)

    assert report(*(result("a", outcome) for outcome in fine)).to_dict()["problems"] == []


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


def test_a_plan_is_bounded() -> None:
    made = Report("r", "manual", dry_run=True, plan=[{"accountId": str(n)} for n in range(5000)])

    assert len(made.to_dict()["plan"]) == 1000


def test_a_key_shows_neither_in_the_report_nor_in_a_repr() -> None:
    made = report(result("alice", Outcome.CREATED))

    assert "k" * 64 not in json.dumps(made.to_dict()) + repr(made)
