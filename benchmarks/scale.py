"""`make scale`: renews 100,000 accounts in 50 shards with several worker processes, one of which is killed.

The tables are in DynamoDB Local. The rest of AWS is moto with the stack of template.yaml; it and the Binance
stand-in run in this process. The workers replace Lambda's event source: they receive a message from the local
SQS, call the handler, and delete the message if the shard is complete.

Time runs `--speed` times as fast for the program and the stand-in, so that a minute's weight is available
after seconds. The weight cap is checked in that time. At the end everything is checked; if a check fails, the
exit code is 1. A second part measures how many accounts per second several workers renew, without a cap.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3

from listenkeys.model import LEASE, iso
from listenkeys.sending import weight as budget
from local.aws import other_dynamodb
from local.aws.dynamodb_local import dynamodb_local
from local.aws.stack import LocalAws
from local.binance.exchange import Exchange
from local.clock import ScaledClock
from local.invoke import Context, LocalFunction
from local.world import World

ENGINE = Path(__file__).parent.parent / ".dynamodb"
TICK = {"source": "aws.events", "detail-type": "Scheduled Event"}
PER_SECRET = 600  # API keys in a secret of at most 64 KiB
VISIBILITY = 1800  # seconds, as the template's WorkQueue
LEASE_SECONDS = 7200  # twice Binance's, because AWS is slow on this machine


def main() -> int:
    parser = argparse.ArgumentParser(prog="make scale", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=50)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--cap", type=int, default=2200, help="MaxWeightPerMinute")
    parser.add_argument("--speed", type=float, default=4.0, help="how much faster than the clock")
    parser.add_argument(
        "--table", type=int, default=4_000, help="accounts of the second part; 0 leaves it out"
    )
    arguments = parser.parse_args()
    with dynamodb_local(ENGINE) as url:
        os.environ["DYNAMODB_URL"] = url
        return measure(arguments)


def measure(arguments: argparse.Namespace) -> int:
    ok = whole_run(arguments)
    if arguments.table:
        print(f"\naccounts a second against workers, {arguments.table} accounts in 10 shards, no kill")
        print("workers  accounts/s  ratio")
        first = 0.0
        for workers in (1, 2, 4):
            rate = throughput(arguments.table, workers)
            first = first or rate
            print(f"{workers:7}  {rate:10.0f}  {rate / first:5.2f}")
    return 0 if ok else 1


def whole_run(arguments: argparse.Namespace) -> bool:
    with ScaledWorld(
        arguments.accounts, arguments.shards, arguments.workers, arguments.cap, arguments.speed
    ) as run:
        print(
            f"{arguments.accounts} accounts, {arguments.shards} shards, {arguments.workers} workers, at most "
            f"{arguments.cap} weight a minute, time {arguments.speed:g} times as fast"
        )
        run.tick()
        run.wait_for(arguments.accounts // 4)
        run.kill_one()
        seconds = run.wait_for_the_queue()
        return run.check(seconds)


def throughput(accounts: int, workers: int) -> float:
    """Return the accounts renewed per second of real time, without a cap.

    The stand-in's minutes pass so fast that it never reports used weight.
    """
    with ScaledWorld(accounts, 10, workers, 2400, 1.0, minute_speed=10_000.0) as run:
        run.tick(uncapped=True)
        return accounts / run.wait_for_the_queue()


class ScaledWorld:
    """A world with many accounts, renewed ten minutes ago, and the worker processes."""

    def __init__(
        self, accounts: int, shards: int, workers: int, cap: int, speed: float, minute_speed: float = 1.0
    ) -> None:
        self.clock = ScaledClock(speed)
        exchange_clock = ScaledClock(speed * minute_speed)
        self.cap, self.accounts, self.workers = cap, accounts, workers
        parameters = {
            "ShardCount": shards,
            "ShardConcurrency": max(2, workers),
            "MaxWeightPerMinute": cap,
        }
        self.aws = LocalAws({name: str(value) for name, value in parameters.items()})
        exchange = Exchange(
            exchange_clock.timestamp,
            lease_seconds=LEASE_SECONDS * minute_speed,
            weight_limits={"futures": 2 * accounts},
        )
        self.world = World(exchange=exchange, aws=self.aws)
        self._fill(accounts)
        exchange.weight_limits["futures"] = 2400
        # Filling the world has used weight of this minute, so the workers start in the next.
        exchange_clock.sleep(60 - exchange_clock.timestamp() % 60)
        self.queue = self.aws.resources["WorkQueue"]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.killed = 0

    def __enter__(self) -> ScaledWorld:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.world.close()
        self.aws.close()

    def tick(self, uncapped: bool = False) -> None:
        """Fire the tick and start the workers."""
        self.uncapped = uncapped
        self.world.exchange.requests.clear()
        self.started, self.started_at = time.monotonic(), self.clock.timestamp()
        function = LocalFunction(self.world.environment(), self.clock.clock)
        done = function.invoke(TICK)
        assert done.report, done.error
        sent_in = time.monotonic() - self.started
        print(f"the tick sent {done.report['shards']} messages in {sent_in:.2f} s", flush=True)
        for _ in range(self.workers):
            self._start_worker()

    def wait_for(self, requests: int) -> None:
        while len(self.world.exchange.requests) < requests:
            time.sleep(0.1)

    def kill_one(self) -> None:
        """Kill a worker in the middle of a shard, as Lambda might, and start another."""
        victim = self.processes.pop(0)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        self.killed += 1
        done = len(self.world.exchange.requests)
        print(f"killed a worker after {done} requests; another took its place", flush=True)
        self._start_worker()

    def wait_for_the_queue(self) -> float:
        """Wait until no message is left, visible or in flight; return the real seconds since the tick."""
        sqs, names = (
            self.aws.client("sqs"),
            ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )
        while True:
            counts = sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
            if not any(int(count) for count in counts.values()):
                return time.monotonic() - self.started
            if any(process.poll() is not None for process in self.processes):
                raise SystemExit("a worker ended by itself")
            time.sleep(0.25)

    def check(self, seconds: float) -> bool:
        requests = [r for r in self.world.exchange.requests if r.status == 200]
        renewed = Counter(r.api_key for r in requests)
        times = Counter(renewed.values())
        others = Counter(r.status for r in self.world.exchange.requests if r.status != 200)
        busiest = most_in_a_minute([r.at for r in self.world.exchange.requests])
        started = iso(datetime.fromtimestamp(self.started_at, UTC))
        recorded = sum(
            item["record"]["S"] == "CURRENT"
            and item["attemptedAt"]["S"] >= started
            and item["outcome"]["S"] == "EXTENDED"
            for item in self.aws.items("ListenKeysTable")
        )
        dead = self.aws.client("sqs").get_queue_attributes(
            QueueUrl=self.aws.resources["DeadLetterQueue"], AttributeNames=["ApproximateNumberOfMessages"]
        )["Attributes"]["ApproximateNumberOfMessages"]
        checks = {
            f"renewed once: {times[1]}, twice: {times[2]}, more: {len(renewed) - times[1] - times[2]}": (
                set(times) <= {1, 2}
            ),
            f"never renewed: {self.accounts - len(renewed)}": len(renewed) == self.accounts,
            f"recorded: {recorded}": recorded == self.accounts,
            f"answers other than 200: {dict(others)}": not others,
            f"most weight in a clock minute: {busiest}, the cap: {self.cap}": busiest <= self.cap,
            f"workers killed: {self.killed}, dead letters: {dead}": dead == "0",
        }
        print(f"{seconds:.0f} s, {seconds * self.clock.speed / 60:.0f} min of the scaled time")
        for what, holds in checks.items():
            print(f"{'ok  ' if holds else 'FAIL'} {what}")
        return all(checks.values())

    def _start_worker(self) -> None:
        environment = {
            **os.environ,
            **self.world.environment(),
            "SCALE_CLOCK": self.clock.text,
            "SCALE_QUEUE": self.queue,
            "SCALE_UNCAPPED": "1" if self.uncapped else "",
        }
        self.processes.append(
            subprocess.Popen([sys.executable, "-m", "benchmarks.scale", "worker"], env=environment)
        )

    def _fill(self, accounts: int) -> None:
        renewed = self.clock.now() - timedelta(minutes=10)
        exchange = self.world.exchange
        for first in range(0, accounts, PER_SECRET):
            secret, rows, records = {}, [], []
            for number in range(first, min(first + PER_SECRET, accounts)):
                name = f"account{number:06}"
                secret[name] = api_key = name.ljust(64, "k")
                exchange.add_account(api_key, ("usdm",))
                answer = exchange.handle("POST", "/fapi/v1/listenKey", {"X-MBX-APIKEY": api_key})
                if answer.status != 200:
                    raise SystemExit(f"the stand-in answered {answer.status}")
                rows.append(
                    {
                        "accountId": {"S": name},
                        "secretId": {"S": f"listenkeys/{first}"},
                        "secretField": {"S": name},
                    }
                )
                records.append(
                    {
                        "accountId": {"S": name},
                        "record": {"S": "CURRENT"},
                        "product": {"S": "usdm"},
                        "listenKey": {"S": json.loads(answer.body)["listenKey"]},
                        "outcome": {"S": "EXTENDED"},
                        "attemptedAt": {"S": iso(renewed)},
                        "renewedAt": {"S": iso(renewed)},
                        "expiresAt": {"S": iso(renewed + LEASE)},
                        "consecutiveFailures": {"N": "0"},
                    }
                )
            self.world.put_secret(f"listenkeys/{first}", secret)
            self._write("AccountsTable", rows)
            self._write("ListenKeysTable", records)

    def _write(self, table: str, items: list[dict[str, Any]]) -> None:
        puts = [{"PutRequest": {"Item": item}} for item in items]
        other_dynamodb.write(self.aws.client("dynamodb"), self.aws.resources[table], puts)


def most_in_a_minute(times: list[float]) -> int:
    """Return the largest number of requests in a clock minute; Binance counts weight per clock minute."""
    return max(Counter(int(at // 60) for at in times).values(), default=0)


def work() -> None:
    """Do the work of Lambda's event source and of the function, until killed."""
    clock = ScaledClock.of(os.environ["SCALE_CLOCK"])
    budget.EDGE = clock.speed  # requests take real time, so the margin is a second of real time
    function = LocalFunction(os.environ, clock.clock)
    if os.environ["SCALE_UNCAPPED"]:
        weight = function.app.keeper.budget
        weight._caps = dict.fromkeys(weight._caps, 1_000_000)
    sqs, queue = boto3.client("sqs"), os.environ["SCALE_QUEUE"]
    while True:
        answer = sqs.receive_message(
            QueueUrl=queue,
            MaxNumberOfMessages=1,
            AttributeNames=["All"],
            VisibilityTimeout=max(1, round(VISIBILITY / clock.speed)),
        )
        if not answer.get("Messages"):
            time.sleep(0.2)
            continue
        [message] = answer["Messages"]
        record: dict[str, Any] = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "eventSource": "aws:sqs",
        }
        done = function.invoke({"Records": [record]}, Context(), "shard_handler")
        if done.error is None and done.report == {"batchItemFailures": []}:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        else:
            shard = json.loads(message["Body"])["segment"]
            print(f"shard {shard} was not complete: it comes back", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        work()
    else:
        raise SystemExit(main())
