"""`make units`: what DynamoDB counts for a sweep with nothing to do and for a tick, and the sweep's CPU.

The tables are in DynamoDB Local. It counts units as AWS does, but for transactions, which are two units an
item whatever it says. The records are those that a tick has written. Each sweep is the first of a process of
its own. `--other DIRECTORY` measures another checkout beside this one, in turns. What docs/costs.md is
computed from goes into measured.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.aws import elsewhere
from local.aws.dynamodb_local import dynamodb_local
from local.aws.stack import LocalAws
from local.binance.exchange import Exchange
from local.clock import VirtualClock
from local.invoke import Context, LocalFunction
from local.world import World

ROOT = Path(__file__).parent.parent
MEASURED = Path(__file__).parent / "measured.json"
PER_SECRET = 500
TICK = {"source": "aws.events", "detail-type": "Scheduled Event"}
# Uses nothing but the function, so it runs in either checkout. The second sweep is the one whose units count.
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
events = app.keeper.records._dynamodb.meta.events
events.register("provide-client-params.dynamodb", ask)
events.register("after-call.dynamodb", count)
app.lambda_handler({"overdueOnly": True}, Context())
print("\\n" + json.dumps({**found, "units": units, "calls": calls}))
"""


class Units:
    """The units that a client's calls have used, by operation and table."""

    def __init__(self, client: Any, tables: dict[str, str]) -> None:
        self.used: Counter[str] = Counter()
        self._names = {physical: logical for logical, physical in tables.items()}
        client.meta.events.register("provide-client-params.dynamodb", self._ask)
        client.meta.events.register("after-call.dynamodb", self._count)

    def _ask(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        if "ReturnConsumedCapacity" in model.input_shape.members:
            params["ReturnConsumedCapacity"] = "TOTAL"

    def _count(self, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        consumed = parsed.get("ConsumedCapacity", [])
        for each in consumed if isinstance(consumed, list) else [consumed]:
            self.used[f"{model.name} {self._names[each['TableName']]}"] += each["CapacityUnits"]


def fill(world: World, accounts: int) -> None:
    """Add accounts whose keys share secrets, as `listenkeys accounts add` would write them."""
    for first in range(0, accounts, PER_SECRET):
        names = [f"account{number:05}" for number in range(first, min(first + PER_SECRET, accounts))]
        for name in names:
            world.exchange.add_account(name.ljust(64, "k"), ("usdm",))
        world.put_secret(f"listenkeys/{first}", {name: name.ljust(64, "k") for name in names})
        rows = [
            {
                "accountId": {"S": name}, "product": {"S": "usdm"},
                "secretId": {"S": f"listenkeys/{first}"}, "secretField": {"S": name},
            }
            for name in names
        ]  # fmt: skip
        puts = [{"PutRequest": {"Item": row}} for row in rows]
        elsewhere.write(world.aws.client("dynamodb"), world.aws.resources["AccountsTable"], puts)


def tick(world: World, clock: VirtualClock, accounts: int) -> Counter[str]:
    """Do a tick that makes the keys, and half an hour later one that extends them; return its units."""
    variables = {**world.environment(), "MAX_WEIGHT_PER_MINUTE": "2400"}
    function = LocalFunction(variables, clock.clock)
    units = Units(function.app.keeper.records._dynamodb, world.aws.resources)
    for outcome in ("created", "extended"):
        units.used.clear()
        done = function.invoke(TICK, Context(remaining_seconds=900))
        if done.error or not done.report or done.report[outcome] != accounts:
            raise SystemExit(f"not every account was {outcome}: {done.report or done.error}")
        clock.advance(minutes=30)
    return units.used


def item_bytes(items: list[dict[str, Any]]) -> float:
    """Return what an item takes on average, as DynamoDB counts it ("DynamoDB item sizes and formats")."""

    def size(value: Any) -> int:
        [(kind, content)] = value.items()
        return (len(content) + 1) // 2 + 1 if kind == "N" else len(str(content))

    return statistics.mean(sum(len(name) + size(value) for name, value in item.items()) for item in items)


def sweep(checkout: Path, world: World) -> dict[str, Any]:
    """Do sweeps in a process of its own, with another checkout's function."""
    environment = {**os.environ, **world.environment(), "PYTHONPATH": str(checkout / "functions/keepalive")}
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
    # The last tick was some ten minutes ago when the sweeps begin: nothing is due.
    clock = VirtualClock(datetime.now(UTC) - timedelta(minutes=45))
    with dynamodb_local(ROOT / ".dynamodb") as url:
        os.environ["DYNAMODB_URL"] = url
        limits = {"futures": 10 * accounts}
        with (
            LocalAws() as aws,
            World(exchange=Exchange(clock.timestamp, weight_limits=limits), aws=aws) as world,
        ):
            fill(world, accounts)
            ticked = tick(world, clock, accounts)
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
            for _ in range(arguments.rounds):
                for name, checkout in checkouts.items():
                    runs[name].append(sweep(checkout, world))
            names = {physical: logical for logical, physical in aws.resources.items()}
            entries = (
                item for item in aws.items("LedgerTable") if not item["accountId"]["S"].startswith("#")
            )
            tables = {"LedgerTable": list(entries)}
            tables |= {table: list(aws.items(table)) for table in ("AccountsTable", "ListenKeysTable")}
            sizes = {table: round(item_bytes(items)) for table, items in tables.items()}
    print(f"{accounts} accounts; load average {os.getloadavg()[0]:.1f}; a tick, in units an account:")
    for name, used in sorted(ticked.items()):
        if "Transact" not in name:
            print(f"  {name}: {used / accounts:.4f}")
    cpu = {}
    for name, found in runs.items():
        if any(run["skipped"] != accounts for run in found):
            raise SystemExit(f"{name}: a sweep had something to do: {found[0]}")
        cpu[name] = statistics.median(run["cpu"] for run in found)
        each = cpu[name] / accounts * 1000
        print(f"a sweep, {checkouts[name]}: {each:.4f} ms of CPU an account, calls {found[0]['calls']}")
        for what, used in found[0]["units"].items():
            operation, table = what.split()
            print(f"  {operation} {names[table]}: {used / accounts:.4f} units an account")
        print(f"  together: {sum(found[0]['units'].values()) / accounts:.4f}")
    if "other" in cpu:
        print(f"CPU of a sweep to the other's: {cpu['this'] / cpu['other']:.2f}")
    measured = json.loads(MEASURED.read_text())
    scanned = {names[what.split()[1]]: used / accounts for what, used in runs["this"][0]["units"].items()}
    measured["units"] = {
        "accounts": accounts,
        "itemBytes": sizes,
        "scan": {table: round(used, 4) for table, used in scanned.items()},
        "tick": {
            name: round(used / accounts, 4) for name, used in sorted(ticked.items()) if "Transact" not in name
        },
    }
    MEASURED.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
