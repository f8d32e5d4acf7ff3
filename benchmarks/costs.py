"""`make costs`: computes dollars a month from measured.json, the template and prices.py for docs/costs.md."""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import prices
from benchmarks.run import template_environment
from listenkeys.sending.host import PORTION
from local.aws.stack import choose, expand

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/costs.md"
MEASURED = Path(__file__).parent / "measured.json"
MARKS = "<!-- computed -->\n", "<!-- end -->\n"
SIZES = (1, 100, 10_000, 1_000_000)
PAGE, PAGE_MARKS = Path(__file__).parent / "README.md", ("<!-- paid -->\n", "<!-- end of paid -->\n")
FELT = (1, 100, 10_000)  # accounts

# Assumptions, which are not measured here. docs/costs.md explains them.
HOURS = 730
TICKS, SWEEPS = HOURS * 2, HOURS * 12
LAMBDA_MB_A_VCPU = 1769  # with less memory, the measured CPU takes proportionally longer
ROUND_TRIP = 0.1  # seconds, to Binance
ITEM_OVERHEAD = 100  # bytes that DynamoDB adds to each item when it bills storage
PLATFORM_LOG_BYTES = 400  # START, END and REPORT
KEYS_IN_A_SECRET = 500  # of about 100 bytes each; a secret holds 64 KiB
SECRETS_A_CALL = 20
BYTES_OUT, BYTES_IN = 1000, 1000  # a PUT and its answer, TLS and a share of a handshake
IP_WEIGHT = 2400  # a minute
ACCOUNTS_OF_AN_ADDRESS = 30_000  # docs/scaling.md: more would set off WaitingShardsAlarm
ACCOUNTS_IN_A_SHARD = 1000
LARGEST_WITHOUT_SHARDS = 10_000
# On an idle queue, Lambda has five pollers, each with a long poll of 20 s. MaximumConcurrency does not reduce
# their number (Lambda Developer Guide, "Configuring scaling behavior for SQS event source mappings").
POLLS = 5 * HOURS * 3600 / 20
# DynamoDB and SQS call KMS for a key again after five minutes.
KEY_CALLS = HOURS * 12

TOGETHER_EACH, TOGETHER_PACKED = "**together, a secret each**", "**together, packed**"
EACH, PACKED = "Secrets Manager, a secret each", "Secrets Manager, packed"
SMALL_MB = 256
SMALL = f"`MemorySize={SMALL_MB}` saves"
CHANGES = "`LedgerMode=changes` saves"
KMS, SECRETS_KMS = "`KmsKeyArn` adds", "a secret each under a key of yours adds"
NAT = "a NAT gateway and its address adds"


@dataclass(frozen=True, slots=True)
class Stack:
    """What the template deploys that has a price. `watched` is the number of metrics that its alarms use."""

    memory_mb: int
    watched: int
    dashboards: int
    log_days: int

    @classmethod
    def of_template(cls, sharded: bool) -> "Stack":
        """Read the template with its parameters at their defaults."""
        template = choose(expand(), {"ShardCount": "2"} if sharded else {})
        defaults = {name: str(parameter["Default"]) for name, parameter in template["Parameters"].items()}
        resources = template["Resources"]
        alarms = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::CloudWatch::Alarm"]
        return cls(
            int(defaults["MemorySize"]),
            sum(sum("MetricStat" in m for m in alarm.get("Metrics", ())) or 1 for alarm in alarms),
            sum(r["Type"] == "AWS::CloudWatch::Dashboard" for r in resources.values()),
            int(defaults["LogRetentionDays"]),
        )


def counter_units(accounts: int) -> int:
    """Return the write units of a tick's weight counters: one for each portion of a minute's weight."""
    minutes, left = divmod(accounts, IP_WEIGHT)
    return minutes * math.ceil(IP_WEIGHT / PORTION) + math.ceil(left / PORTION)


def read_again(accounts: int, sharded: bool) -> int:
    """Return how many records a tick reads twice: those of later minutes; with shards, at worst all."""
    return accounts if sharded else max(0, accounts - IP_WEIGHT)


def bill(accounts: int, measured: dict[str, Any], free: bool) -> dict[str, float]:
    """Return dollars a month by the name of the line.

    With `free`, what is always free is subtracted, as if nothing else in the AWS account had used it.
    """
    tick = {name: count / measured["accounts"] for name, count in measured["tickCalls"].items()}
    sharded = accounts > LARGEST_WITHOUT_SHARDS
    shards = math.ceil(accounts / ACCOUNTS_IN_A_SHARD) if sharded else 0
    stacks = math.ceil(accounts / ACCOUNTS_OF_AN_ADDRESS)  # an address each
    stack = Stack.of_template(sharded)
    at_once = shards + stacks if sharded else 1
    runs = (TICKS + SWEEPS) * at_once
    lines = {}

    # A run takes as long as the slowest of its CPU, its round trips and the weight budget. Two shards of a
    # stack run at a time, because that is a queue's lowest concurrency.
    pace = accounts / IP_WEIGHT * 60 * 2 if sharded else (math.ceil(accounts / IP_WEIGHT) - 1) * 61
    width = int(template_environment()["MAX_CONCURRENCY"])

    def functions(memory: int) -> float:
        vcpu = memory / LAMBDA_MB_A_VCPU
        ticking = (measured["initCpuSeconds"] + measured["cpuMsOfARun"] / 1000) / vcpu
        sweeping = measured["sweepInitCpuSeconds"] / vcpu
        working = max(
            accounts * measured["cpuMsPerAccount"] / 1000 / vcpu, accounts / width * ROUND_TRIP, pace
        )
        looking = accounts * measured["sweepCpuMsPerAccount"] / 1000 / vcpu
        seconds = TICKS * (at_once * ticking + working) + SWEEPS * (at_once * sweeping + looking)
        gb_seconds = prices.LAMBDA_GB_SECOND.of(seconds * memory / 1024, free)
        return gb_seconds + prices.LAMBDA_REQUEST.of(runs, free)

    lines[f"Lambda, arm64, {stack.memory_mb} MB"] = functions(stack.memory_mb)

    # A transaction takes two write units per item, any other write takes one. The units of scans are those
    # that DynamoDB counted: at least half a unit, or one if consistent. A shard reads each of its records by
    # its key, which takes one unit.
    scan, sizes = measured["units"]["scan"], measured["units"]["itemBytes"]
    rows = max(0.5, accounts * scan["AccountsTable"])
    records = accounts if sharded else max(1, accounts * scan["ListenKeysTable"])
    reads = (TICKS + SWEEPS) * (rows + records) + TICKS * read_again(accounts, sharded)
    # With LedgerMode=changes, a month without failures writes nothing to the ledger.
    recorded = TICKS * accounts * 2 * tick["items updated"]
    entries = TICKS * accounts * tick["items put"]
    ledger_gb = (
        entries
        / 30.4
        * int(template_environment()["LEDGER_DAYS"])
        * (sizes["LedgerTable"] + ITEM_OVERHEAD)
        / 1e9
    )
    kept = sizes["AccountsTable"] + sizes["ListenKeysTable"] + 2 * ITEM_OVERHEAD
    table_gb = accounts * kept / 1e9

    def tables(written: float, gb: float) -> float:
        return (
            prices.READ_UNIT.of(reads)
            + prices.WRITE_UNIT.of(written + TICKS * counter_units(accounts))
            + prices.TABLE_GB.of(gb, free)
            + prices.BACKUP_GB.of(gb)
        )

    lines["DynamoDB, on demand"] = tables(recorded + 2 * entries, table_gb + ledger_gb)
    changes = tables(recorded, table_gb)
    packed = math.ceil(accounts / KEYS_IN_A_SECRET)
    for name, secrets in ((EACH, accounts), (PACKED, packed)):
        calls = TICKS * math.ceil(secrets / SECRETS_A_CALL)
        lines[name] = prices.SECRET.of(secrets) + prices.SECRETS_CALL.of(calls)
    logged = runs * (measured["logBytesOfARun"] + PLATFORM_LOG_BYTES) / 1e9
    lines["Logs"] = prices.LOG_GB.of(logged, free) + prices.LOG_GB_KEPT.of(logged * stack.log_days / 30, free)
    lines["Metrics"] = prices.METRIC.of(measured["metrics"] * stacks, free)
    lines["Alarms"] = prices.ALARM_METRIC.of(stack.watched * stacks, free)
    lines["Dashboard"] = prices.DASHBOARD.of(stack.dashboards * stacks, free)
    # Messages are sent ten at a time, but received and deleted one by one at worst.
    messages = (TICKS + SWEEPS) * shards * 2.1 + (POLLS * stacks if sharded else 0)
    lines["SQS, shards"] = prices.QUEUE_REQUEST.of(messages, free)
    out, into = (TICKS * accounts * size / 1e9 for size in (BYTES_OUT, BYTES_IN))
    lines["Data out, to Binance"] = prices.GB_OUT.of(out, free)

    common = sum(value for name, value in lines.items() if name not in (EACH, PACKED))
    lines |= {TOGETHER_EACH: common + lines[EACH], TOGETHER_PACKED: common + lines[PACKED]}
    lines[SMALL] = round(functions(stack.memory_mb) - functions(SMALL_MB), 6)  # no rounding errors around 0
    lines[CHANGES] = lines["DynamoDB, on demand"] - changes
    # KMS is called for the three tables and, with shards, by the queue's sender and receiver.
    key_calls = KEY_CALLS * stacks * (5 if sharded else 3)
    lines[KMS] = prices.KMS_KEY.of(1) + prices.KMS_REQUEST.of(key_calls, free)
    lines[SECRETS_KMS] = prices.KMS_KEY.of(1) + prices.KMS_REQUEST.of(TICKS * accounts, free)
    lines[NAT] = (prices.NAT_HOUR.of(HOURS) + prices.ADDRESS_HOUR.of(HOURS)) * stacks
    lines[NAT] += prices.NAT_GB.of(out + into)
    return lines


def table(measured: dict[str, Any]) -> str:
    """Return the tables of docs/costs.md."""
    text = [
        f"List prices of {prices.PRICES_OF} in Tokyo. Measured on {measured['date']}, CPU: "
        f"{measured['cpuMsPerAccount']} ms an account in a tick, {measured['sweepCpuMsPerAccount']} ms in a "
        f"sweep, {measured['initCpuSeconds']} s in a cold start, {measured['sweepInitCpuSeconds']} s with a "
        "sweep of 100 accounts after it.",
        "",
    ]
    for free in (False, True):
        bills = [bill(accounts, measured, free) for accounts in SIZES]
        title = "with what is always free" if free else "at list price"
        names = (TOGETHER_EACH, TOGETHER_PACKED) if free else bills[0]
        text += [
            f"| dollars a month, {title}: accounts | " + " | ".join(f"{size:,}" for size in SIZES) + " |",
            "|---|" + "--:|" * len(SIZES),
            *(
                f"| {name} | "
                + " | ".join(f"{each[name]:,.2f}".replace("-0.00", "0.00") for each in bills)
                + " |"
                for name in names
            ),
            "",
        ]
    return "\n".join(text)


def figures(measured: dict[str, Any]) -> str:
    """Return the tables of benchmarks/README.md: dollars, and seconds of waiting."""
    bills = [bill(accounts, measured, False) for accounts in FELT]
    scan, walls = sum(measured["units"]["scan"].values()), measured["wallSeconds"]
    heads = (f"{accounts:,}" for accounts in FELT)
    dollars = (f"{each[TOGETHER_PACKED]:,.2f}" for each in bills)
    tables = (f"{each['DynamoDB, on demand']:,.2f}" for each in bills)
    items = sum(measured["tickCalls"][name] for name in ("items updated", "items put"))
    writes = 2 * items / measured["accounts"]
    lines = [
        f"| dollars a month, at list price: accounts | {' | '.join(heads)} |",
        "|---|--:|--:|--:|",
        f"| all of it, keys packed into secrets | {' | '.join(dollars)} |",
        f"| DynamoDB | {' | '.join(tables)} |",
        "",
        f"| seconds of wall time, cold | {' | '.join(f'{memory} MB' for memory in walls)} |",
        "|---|--:|--:|",
        *(
            f"| {what} | {' | '.join(f'{each[what]:.2f}' for each in walls.values())} |"
            for what in ("sweep", "tick of 16")
        ),
        "",
        f"An account takes {scan * 336:.1f} read units a day ({scan:.4f} in each of 336 runs) and "
        f"{writes * 48:.0f} write units ({writes:.0f} in each of 48 ticks), the weight counter aside.",
        "",
    ]
    return "\n".join(lines)


def document_with(text: str, computed: str, marks: tuple[str, str] = MARKS) -> str:
    """Return the document with these tables between the marks."""
    before, rest = text.split(marks[0])
    return before + marks[0] + computed + marks[1] + rest.split(marks[1])[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make costs", description=__doc__)
    parser.parse_args()
    computed = table(json.loads(MEASURED.read_text()))
    DOCUMENT.write_text(document_with(DOCUMENT.read_text(), computed))
    PAGE.write_text(document_with(PAGE.read_text(), figures(json.loads(MEASURED.read_text())), PAGE_MARKS))
    print(computed, end="")


if __name__ == "__main__":
    main()
