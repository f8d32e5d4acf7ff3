"""What docs/costs.md and the README say is what the script computes."""

import json
import re
from typing import Any

import pytest

from benchmarks import costs

MEASURED: dict[str, Any] = json.loads(costs.MEASURED.read_text())
DAYS = 730 / 24


def test_the_tables_in_the_document_are_what_the_script_prints() -> None:
    text = costs.DOCUMENT.read_text()
    assert costs.document_with(text, costs.table(MEASURED)) == text
    page = costs.PAGE.read_text()
    assert costs.document_with(page, costs.figures(MEASURED), costs.PAGE_MARKS) == page


SCANNED = sum(MEASURED["units"]["scan"].values())
ENTRY = MEASURED["units"]["itemBytes"]["LedgerTable"] + 100


def test_a_run_writes_two_items_an_account_and_scans_both_tables() -> None:
    accounts, tick = MEASURED["accounts"], MEASURED["tickCalls"]
    counted = [tick[name] for name in ("PUT listenKey", "items updated", "items put", "records scanned")]
    assert counted == [accounts] * 4
    assert MEASURED["sweepCalls"] == {"Scan": 2, "rows scanned": accounts, "records scanned": accounts}


def test_an_idle_sweep_takes_a_tenth_of_a_read_unit_an_account() -> None:
    assert SCANNED <= 0.1


def test_a_hundred_accounts_cost_what_they_do_by_hand() -> None:
    lines = costs.bill(100, MEASURED, free=False)
    # 48 ticks a day, an update and a put in a transaction: two units each, $0.715 a million. The weight
    # counter: one.
    writes = 48 * DAYS * (100 * 2 * 2 + 1) * 0.715 / 1e6
    reads = (48 + 288) * DAYS * 100 * SCANNED * 0.1425 / 1e6
    # The ledger: 30 days, kept and backed up.
    kept = 100 * 48 * 30 * ENTRY / 1e9 * (0.285 + 0.228)
    assert lines["DynamoDB, on demand"] == pytest.approx(writes + reads + kept, rel=0.02)
    assert lines[costs.EACH] == pytest.approx(100 * 0.40, rel=0.01)
    assert lines[costs.PACKED] == pytest.approx(0.40, rel=0.05)
    assert lines["Metrics"] == pytest.approx(MEASURED["metrics"] * 0.30)
    assert lines["Dashboard"] == 3.0


def test_a_tick_reads_again_what_it_sends_in_a_later_minute() -> None:
    lines = costs.bill(10_000, MEASURED, free=False)
    writes = 48 * DAYS * (10_000 * 2 * 2 + costs.counter_units(10_000)) * 0.715 / 1e6
    reads = DAYS * ((48 + 288) * 10_000 * SCANNED + 48 * (10_000 - 2_400)) * 0.1425 / 1e6
    kept = 10_000 * 48 * 30 * ENTRY / 1e9 * (0.285 + 0.228)
    assert lines["DynamoDB, on demand"] == pytest.approx(writes + reads + kept, rel=0.01)


def test_the_weight_counter_is_written_once_for_each_hundred_accounts() -> None:
    assert MEASURED["tickCalls"]["UpdateItem"] == MEASURED["accounts"] / 100
    assert [costs.counter_units(accounts) for accounts in (1, 100, 200, 2401)] == [1, 1, 2, 25]


def test_an_idle_queue_is_polled_five_times_in_twenty_seconds() -> None:
    lines = costs.bill(1_000_000, MEASURED, free=False)
    idle = 34 * 5 * 730 * 180 * 0.40 / 1e6  # 34 addresses, a stack each
    messages = (48 + 288) * DAYS * 1000 * 2.1 * 0.40 / 1e6
    assert lines["SQS, shards"] == pytest.approx(idle + messages)
    assert costs.bill(10_000, MEASURED, free=False)["SQS, shards"] == 0.0


def test_a_key_of_ones_own_is_asked_for_every_five_minutes_and_table() -> None:
    assert costs.bill(1, MEASURED, free=False)[costs.KMS] == pytest.approx(1 + 3 * 288 * DAYS * 0.03 / 10_000)
    # 6,280 more than the 20,000 requests that are free.
    assert costs.bill(1, MEASURED, free=True)[costs.KMS] == pytest.approx(1.0188, abs=0.001)


def test_the_readme_says_what_a_few_accounts_cost() -> None:
    bills = [costs.bill(accounts, MEASURED, free=False) for accounts in (1, 100, 300)]
    table = (costs.ROOT / "README.md").read_text().partition("## What it costs")[2].partition("## ")[0]
    wanted = [
        [f"{each[together] + each[costs.NAT] * nat:.0f}" for each in bills]
        for nat in (False, True)
        for together in (costs.TOGETHER_PACKED, costs.TOGETHER_EACH)
    ]
    rows = re.findall(r"^\| (?!number).+? \| (\d.*\d) \|$", table, re.MULTILINE)
    assert [row.split(" | ") for row in rows] == wanted


def test_the_pages_say_what_300_accounts_cost_in_so_many_secrets() -> None:
    bill = costs.bill(300, MEASURED, free=False)
    without_secrets = bill[costs.TOGETHER_PACKED] - bill[costs.PACKED]
    one, owners, each = (f"${without_secrets + 0.40 * secrets:.0f}" for secrets in (1, 60, 300))
    page, readme = (" ".join(p.read_text().split()) for p in (costs.DOCUMENT, costs.ROOT / "README.md"))
    assert f"{one} with one secret, {owners} with 60" in page
    assert f"{each} with 300." in page
    assert f"with a secret for each of 60 owners, cost {owners}." in readme
    thrice = 2 * (bill["DynamoDB, on demand"] + bill["Data out, to Binance"])  # RenewAfterMinutes=10
    region = without_secrets + 0.40 * 60 + thrice
    two, two_with_nat = (f"${2 * each:.0f}" for each in (region, region + bill[costs.NAT]))
    operations = " ".join((costs.ROOT / "docs/operations.md").read_text().split())
    assert (
        f"${region:.0f} a month in one region and {two} in two, with a NAT gateway in each {two_with_nat}."
        in operations
    )


def test_the_page_says_what_one_account_costs() -> None:
    free = costs.bill(1, MEASURED, free=True)[costs.TOGETHER_EACH]
    assert f"One account costs ${free:.2f} a month" in costs.DOCUMENT.read_text()


@pytest.mark.parametrize(
    ("accounts", "times", "said"), [(300, 3, "$3"), (1, 3, "5 cents"), (1, 6, "13 cents")]
)
def test_the_page_says_what_more_renewals_cost(
    accounts: int, times: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = costs.bill(accounts, MEASURED, free=False)[costs.TOGETHER_EACH]
    monkeypatch.setattr(costs, "TICKS", costs.TICKS * times)
    more = costs.bill(accounts, MEASURED, free=False)[costs.TOGETHER_EACH] - usual
    assert said == (f"${more:.0f}" if more > 1 else f"{100 * more:.0f} cents")
    [text] = re.findall(r"- \*\*Renewals\.\*\*.*", " ".join(costs.DOCUMENT.read_text().split()))
    assert said in text.partition("- **Waiting.")[0]


def test_scaling_says_what_its_settings_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (costs.ROOT / "docs/scaling.md").read_text()
    rows = re.findall(r"^\| ([\d,]+) \| (.+) \| ([\d,]+) \|$", page, re.MULTILINE)
    assert len(rows) == 3
    for accounts, settings, dollars in rows:
        monkeypatch.setattr(costs, "IP_WEIGHT", 2400 if "MaxWeightPerMinute=2400" in settings else 1200)
        lines = costs.bill(int(accounts.replace(",", "")), MEASURED, free=False)
        saved = lines[costs.SMALL] if f"MemorySize={costs.SMALL_MB}" in settings else 0
        assert dollars == f"{lines[costs.TOGETHER_PACKED] - saved:,.0f}"
