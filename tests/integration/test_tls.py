"""How often a run reads the CA bundle, over real TLS: each time costs as much CPU as dozens of requests."""

import json
import subprocess
import sys

from benchmarks.responders import responders
from benchmarks.run import environment
from tests.paths import ROOT

CONNECTIONS = 16
COUNTING = """
import json, ssl, sys

loaded = []
load = ssl.SSLContext.load_verify_locations

def counted(context, *arguments, **named):
    loaded.append(context)
    return load(context, *arguments, **named)

ssl.SSLContext.load_verify_locations = counted
import app
made_at_init = len(loaded)
from local.invoke import Context
report = app.lambda_handler(json.loads(sys.argv[1]), Context(remaining_seconds=300))
contexts = list(dict.fromkeys(loaded))
times = [loaded.count(context) for context in contexts]
print("\\n" + json.dumps([made_at_init, times, report["extended"], report["skipped"]]))
"""


def read(event: dict[str, object]) -> tuple[int, list[int], int, int]:
    """Return loads at INIT, the loads of each TLS context, and how many keys were extended and skipped."""
    with responders(CONNECTIONS, binance_delay=0.1) as up:
        done = subprocess.run(
            [sys.executable, "-c", COUNTING, json.dumps(event)],
            env=environment(up),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        )
    at_init, times, extended, skipped = json.loads(done.stdout.splitlines()[-1])
    return at_init, times, extended, skipped


def test_a_tick_reads_the_ca_bundle_once_for_each_client() -> None:
    tick = {"source": "aws.events", "detail-type": "Scheduled Event"}

    # Binance's sixteen connections, DynamoDB's and Secrets Manager's. There is nothing to announce.
    assert read(tick) == (0, [1, 1, 1], CONNECTIONS, 0)


def test_a_sweep_with_nothing_to_do_reads_it_for_dynamodb_alone() -> None:
    assert read({"overdueOnly": True}) == (0, [1], 0, CONNECTIONS)
