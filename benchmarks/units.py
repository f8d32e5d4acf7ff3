"""`make units`: measures the read units of a sweep with nothing to do, as DynamoDB counts them, and its CPU.

The tables are in DynamoDB Local. Their rows are like those that `listenkeys accounts add` writes, and
`Records` writes the records. Each sweep is the first of a process of its own. `--other DIRECTORY` also
measures another checkout, in turns. The results from which docs/costs.md is computed are written to
measured.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from listenkeys.aws.records import BATCH, Records
from listenkeys.model import Outcome, Result
from local.aws import other_dynamodb
from local.aws.dynamodb_local import dynamodb_local
from local.aws.stack import TABLES, LocalAws

ROOT = Path(__file__).parent.parent
MEASURED = Path(__file__).parent / "measured.json"
# Uses only the function, so it runs in either checkout. CPU is that of the first sweep, units of the second.
SUBJECT = """
import json, resource, sys, time
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
import app
class Context:
    aws_request_id = function_name = invoked_function_arn = "benchmark"
    memory_limit_in_mb = 1769
    def get_remaining_time_in_millis(self):
        return 300_000
began, at = cpu(), time.perf_counter()
report = app.lambda_handler({"overdueOnly": True}, Context())
found = {"cpu": cpu() - began, "wall": time.perf_counter() - at, "skipped": report["skipped"]}
units = {}
def ask(params, model, **_):
    if "ReturnConsumedCapacity" in model.input_shape.members:
        params["ReturnConsumedCapacity"] = "TOTAL"
def count(parsed, model, **_):
    consumed = parsed["ConsumedCapacity"]
    for each in consumed if isinstance(consumed, list) else [consumed]:
        name = model.name + " " + each["TableName"]
        units[name] = units.get(name, 0) + each["CapacityUnits"]
        calls[model.name] = calls.get(model.name, 0) + 1
calls = {}
events = app.keeper.records.dynamodb.meta.events
events.register("provide-client-params.dynamodb", ask)
events.register("after-call.dynamodb", count)
app.lambda_handler({"overdueOnly": True}, Context())
print("\\n" + json.dumps({**found, "units": units, "calls": calls}))
"""


def fill(aws: LocalAws, accounts: int) -> None:
    """Add accounts that were extended forty and ten minutes ago."""
    client, ids = aws.client("dynamodb"), aws.resources
    records = Records(client, ids["ListenKeysTable"], ids["LedgerTable"], "all", 30, time.sleep)
    now = datetime.now(UTC)
    for first in range(0, accounts, BATCH):
        names = [f"account{number:05}" for number in range(first, min(first + BATCH, accounts))]
        rows = [{"accountId": {"S": name}, "product": {"S": "usdm"}} for name in names]
        puts = [{"PutRequest": {"Item": row}} for row in rows]
        other_dynamodb.write(client, ids["AccountsTable"], puts)
        for minutes in (40, 10):
            at, before = now - timedelta(minutes=minutes), records.current(names)
            results = [
                Result(
                    name, "usdm", Outcome.EXTENDED, at, before[name], name.ljust(64, "k"),
                    stream_url="wss://fstream.binance.com", http_status=200, attempts=1, latency_ms=101,
                )
                for name in names
            ]  # fmt: skip
            records.save(results, str(uuid4()))
            # The first key of an account is a change to announce; mark it as announced.
            records.announced(
                {result.account_id: result.unannounced for result in results if result.unannounced}
            )


def item_bytes(items: list[dict[str, Any]]) -> float:
    """Return the average size of an item, as DynamoDB counts it ("DynamoDB item sizes and formats")."""

    def size(value: Any) -> int:
        [(kind, content)] = value.items()
        return (len(content) + 1) // 2 + 1 if kind == "N" else len(str(content))

    return statistics.mean(sum(len(name) + size(value) for name, value in item.items()) for item in items)


def sweep(checkout: Path, aws: LocalAws) -> dict[str, Any]:
    """Run two sweeps of a checkout's function in a new process; return the CPU, units and calls."""
    environment = {**os.environ, **aws.environment(), "PYTHONPATH": str(checkout / "functions/keepalive")}
    done = subprocess.run(
        [sys.executable, "-c", SUBJECT], env=environment, cwd="/", capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="make units", description=__doc__)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--other", type=Path, help="another checkout, measured beside this one")
    arguments = parser.parse_args()
    accounts = arguments.accounts
    checkouts = {"this": ROOT} | ({"other": arguments.other.resolve()} if arguments.other else {})
    load = os.getloadavg()[0]
    with dynamodb_local(ROOT / ".dynamodb") as url:
        os.environ["DYNAMODB_URL"] = url
        with LocalAws() as aws:
            fill(aws, accounts)
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
            for _ in range(arguments.rounds):
                for name, checkout in checkouts.items():
                    runs[name].append(sweep(checkout, aws))
            names = {physical: logical for logical, physical in aws.resources.items()}
            sizes = {table: round(item_bytes(list(aws.items(table)))) for table in TABLES}
    print(f"{accounts} accounts, {arguments.rounds} rounds, load average {load:.1f}; bytes an item: {sizes}")
    cpu = {}
    for name, found in runs.items():
        if any(run["skipped"] != accounts for run in found):
            raise SystemExit(f"{name}: a sweep had something to do: {found[0]}")
        cpu[name] = statistics.median(run["cpu"] for run in found)
        each, units = cpu[name] / accounts * 1000, found[0]["units"]
        print(f"a sweep, {name}: {each:.4f} ms of CPU an account, calls {found[0]['calls']}")
        for what, used in units.items():
            operation, table = what.split()
            print(f"  {operation} {names[table]}: {used / accounts:.4f} units an account")
        print(f"  together: {sum(units.values()) / accounts:.4f}")
    if "other" in cpu:
        print(f"CPU of a sweep to the other's: {cpu['this'] / cpu['other']:.2f}")
    scan = {names[what.split()[1]]: used / accounts for what, used in runs["this"][0]["units"].items()}
    measured = json.loads(MEASURED.read_text())
    measured["units"] = {"accounts": accounts, "itemBytes": sizes, "scan": scan}
    MEASURED.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
