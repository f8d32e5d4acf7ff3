"""`make costs`: dollars a month, from measured.json and a price list, as the table in docs/costs.md."""

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.run import template_environment
from local.aws.stack import choose, expand

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/costs.md"
MEASURED = Path(__file__).parent / "measured.json"
MARKS = "<!-- computed -->\n", "<!-- end -->\n"
SIZES = (1, 100, 10_000, 1_000_000)

# List prices of us-east-1 in US dollars, as published up to 2026-11; no free tier, no discount, no tax.
PRICES_OF = "2026-11-22"
LAMBDA_GB_SECOND = 0.0000133334  # arm64
LAMBDA_REQUEST = 0.20e-6
WRITE_UNIT, READ_UNIT = 0.625e-6, 0.125e-6  # DynamoDB on demand
TABLE_GB, BACKUP_GB = 0.25, 0.20  # a month; the backup is point-in-time recovery
SECRET, SECRETS_CALL = 0.40, 0.05 / 10_000
LOG_GB, LOG_GB_KEPT = 0.50, 0.03
METRIC, ALARM, DASHBOARD = 0.30, 0.10, 3.00
QUEUE_REQUEST = 0.40e-6
NAT_HOUR, NAT_GB, ADDRESS_HOUR = 0.045, 0.045, 0.005

# Assumptions: not measured here. docs/costs.md says why.
HOURS = 730
TICKS, SWEEPS = HOURS * 2, HOURS * 12
MEMORY_GB = 0.25
VCPU = 256 / 1769  # of a processor that Lambda gives 256 MB: what is measured as CPU takes that much longer
ROUND_TRIP = 0.1  # seconds, to Binance
ROW_BYTES, LEDGER_BYTES, CURRENT_BYTES = 100, 400, 500
PLATFORM_LOG_BYTES = 400  # START, END and REPORT
KEYS_IN_A_SECRET = 500  # of about 100 bytes each; a secret holds 64 KiB
NAT_BYTES = 2000  # a PUT and its answer, TLS and a share of a handshake
IP_WEIGHT = 2400  # a minute
ACCOUNTS_IN_A_SHARD = 1000
LARGEST_WITHOUT_SHARDS = 10_000


@dataclass(slots=True)
class Bill:
    """Dollars a month for a number of accounts, line by line."""

    accounts: int
    lines: dict[str, float] = field(default_factory=dict)

    def total(self, names: Iterable[str]) -> float:
        return sum(self.lines[name] for name in names)


EACH, PACKED = "Secrets Manager, a secret each", "Secrets Manager, packed"
CHANGES = "DynamoDB, with LedgerMode=changes"
NAT = "NAT gateway and address, if it is wanted"


def template_counts() -> tuple[int, int]:
    """Return how many metrics the alarms of the template watch, and how many dashboards it has."""
    resources = choose(expand(), {})["Resources"].values()
    alarms = [r["Properties"] for r in resources if r["Type"] == "AWS::CloudWatch::Alarm"]
    watched = sum(
        sum("MetricStat" in metric for metric in alarm["Metrics"]) if "Metrics" in alarm else 1
        for alarm in alarms
    )
    return watched, sum(r["Type"] == "AWS::CloudWatch::Dashboard" for r in resources)


def bill(accounts: int, measured: dict[str, Any]) -> Bill:
    """Compute a month."""
    made = Bill(accounts)
    tick, sweep = (
        {name: count / measured["accounts"] for name, count in measured[run].items()}
        for run in ("tickCalls", "sweepCalls")
    )
    shards = math.ceil(accounts / ACCOUNTS_IN_A_SHARD) if accounts > LARGEST_WITHOUT_SHARDS else 0
    functions = max(1, shards) + (1 if shards else 0)
    start = (measured["initCpuSeconds"] + measured["cpuMsOfARun"] / 1000) / VCPU
    # A run takes as long as its CPU, its round trips or the weight budget: the slowest of them. Two shards
    # at a time share an address: a queue has no lower concurrency.
    pace = accounts / IP_WEIGHT * 60 * 2 if shards else (math.ceil(accounts / IP_WEIGHT) - 1) * 61
    width = int(template_environment()["MAX_CONCURRENCY"])
    working = max(accounts * measured["cpuMsPerAccount"] / 1000 / VCPU, accounts / width * ROUND_TRIP, pace)
    looking = accounts * measured["sweepCpuMsPerAccount"] / 1000 / VCPU
    seconds = (TICKS + SWEEPS) * functions * start + TICKS * working + SWEEPS * looking
    runs = (TICKS + SWEEPS) * functions
    made.lines["Lambda, arm64, 256 MB"] = seconds * MEMORY_GB * LAMBDA_GB_SECOND + runs * LAMBDA_REQUEST

    # A transaction takes two write units an item, a consistent read of up to 4 KB one read unit, a scan
    # half of one for 4 KB.
    reads = TICKS * tick["items read"] + SWEEPS * sweep["items read"]
    scanned = (TICKS + SWEEPS) * max(1, accounts * ROW_BYTES / 4096) * 0.5 * READ_UNIT
    reading = reads * accounts * READ_UNIT + scanned

    def tables(entries: float) -> float:
        """Return what writing and keeping costs, with so many ledger entries an account and tick."""
        writing = TICKS * accounts * (tick["items updated"] + entries) * 2 * WRITE_UNIT
        days = int(template_environment()["LEDGER_DAYS"])
        kept = accounts * (CURRENT_BYTES + entries * 48 * days * LEDGER_BYTES) / 1e9
        return writing + kept * (TABLE_GB + BACKUP_GB)

    made.lines["DynamoDB, on demand"] = reading + tables(tick["items put"])
    made.lines[CHANGES] = reading + tables(0.0)
    packed = math.ceil(accounts / KEYS_IN_A_SECRET)
    for name, secrets in ((EACH, accounts), (PACKED, packed)):
        made.lines[name] = secrets * SECRET + TICKS * math.ceil(secrets / 20) * SECRETS_CALL
    days_kept = int(choose(expand(), {})["Parameters"]["LogRetentionDays"]["Default"])
    logged = runs * (measured["logBytesOfARun"] + PLATFORM_LOG_BYTES) / 1e9
    made.lines["Logs"] = logged * (LOG_GB + LOG_GB_KEPT * days_kept / 30)
    alarms, dashboards = template_counts()
    made.lines["Metrics"] = measured["metrics"] * METRIC
    made.lines["Alarms"] = alarms * ALARM
    made.lines["Dashboard"] = dashboards * DASHBOARD
    # Sent ten at a time, received and deleted one by one at worst.
    made.lines["SQS, shards"] = (TICKS + SWEEPS) * shards * 2.1 * QUEUE_REQUEST
    addresses = max(1, math.ceil(accounts / 30 / IP_WEIGHT))
    made.lines[NAT] = (
        addresses * HOURS * (NAT_HOUR + ADDRESS_HOUR) + TICKS * accounts * NAT_BYTES / 1e9 * NAT_GB
    )
    return made


def table(measured: dict[str, Any]) -> str:
    """Return the table of docs/costs.md."""
    bills = [bill(accounts, measured) for accounts in SIZES]
    common = [name for name in bills[0].lines if name not in (EACH, PACKED, CHANGES, NAT)]
    rows = [(name, [each.lines[name] for each in bills]) for name in bills[0].lines]
    cheaper = [name for name in common if not name.startswith("DynamoDB")]
    rows += [
        ("**all but NAT, a secret each**", [each.total([*common, EACH]) for each in bills]),
        ("**all but NAT, packed**", [each.total([*common, PACKED]) for each in bills]),
        (
            "**all but NAT, packed, LedgerMode=changes**",
            [each.total([*cheaper, CHANGES, PACKED]) for each in bills],
        ),
    ]
    lines = [
        f"Prices of {PRICES_OF}. Measured on {measured['date']}: {measured['cpuMsPerAccount']} ms of CPU an "
        f"account in a tick, {measured['sweepCpuMsPerAccount']} in a sweep, and "
        f"{measured['initCpuSeconds']} s in a cold start.",
        "",
        "| dollars a month | " + " | ".join(f"{size:,}" for size in SIZES) + " |",
        "|---|" + "--:|" * len(SIZES),
        *(f"| {name} | " + " | ".join(f"{value:,.2f}" for value in values) + " |" for name, values in rows),
        "",
    ]
    return "\n".join(lines)


def document_with(text: str, computed: str) -> str:
    """Return a document with this table in its place."""
    before, rest = text.split(MARKS[0])
    return before + MARKS[0] + computed + MARKS[1] + rest.split(MARKS[1])[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make costs", description=__doc__)
    parser.parse_args()
    computed = table(json.loads(MEASURED.read_text()))
    DOCUMENT.write_text(document_with(DOCUMENT.read_text(), computed))
    print(computed, end="")


if __name__ == "__main__":
    main()
