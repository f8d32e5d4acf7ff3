"""What docs/costs.md says is what its script computes."""

import json
from itertools import pairwise

import pytest

from benchmarks import costs

MEASURED = json.loads(costs.MEASURED.read_text())


def test_the_table_in_the_document_is_what_the_script_prints() -> None:
    text = costs.DOCUMENT.read_text()
    assert costs.document_with(text, costs.table(MEASURED)) == text


def test_a_run_writes_two_items_an_account_and_reads_one() -> None:
    accounts = MEASURED["accounts"]
    counted = [
        MEASURED["tickCalls"][name] for name in ("PUT listenKey", "items updated", "items put", "items read")
    ]
    assert counted == [accounts] * 4
    assert MEASURED["sweepCalls"]["items read"] == accounts
    assert "PUT listenKey" not in MEASURED["sweepCalls"]


def test_writes_of_a_hundred_accounts_cost_what_they_do_by_hand() -> None:
    made = costs.bill(100, MEASURED)
    # 48 ticks a day and 730/24 days, an update and a put in a transaction: two units each, $0.625 a million.
    writes = 48 * (730 / 24) * 100 * 2 * 2 * 0.625 / 1e6
    reads = (48 + 288) * (730 / 24) * 100 * 0.125 / 1e6
    assert made.lines["DynamoDB, on demand"] == pytest.approx(writes + reads, rel=0.1)
    assert made.lines[costs.EACH] == pytest.approx(100 * 0.40, rel=0.01)
    assert made.lines[costs.PACKED] == pytest.approx(0.40, rel=0.05)


def test_every_line_grows_with_the_accounts() -> None:
    bills = [costs.bill(accounts, MEASURED).lines for accounts in costs.SIZES]
    for smaller, larger in pairwise(bills):
        assert all(larger[name] >= smaller[name] for name in smaller)
