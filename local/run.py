"""`make run`: run the function once in a local environment and show the result."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from rich.text import Text

from listenkey_keeper.cli import output
from listenkey_keeper.cli.renew import report_view
from listenkey_keeper.cli.stack import CLOCK
from listenkey_keeper.cli.status import StatusTable
from listenkeys.view.status import read_status
from local.clock import ScaledClock
from local.invoke import Context, LocalFunction, environment
from local.real import RealAccount, add_options, chosen
from local.running import STATE, running_environment, running_world
from local.terminal import Parser, doing
from local.world import MAKING, STREAM_URL, demo_world

# Printed only with the stand-in: a real account is not meant to fail.
FIRST = """Of the four demo accounts, alice starts with a live listenKey, bob with none, and carol with one
that Binance has forgotten. dave is meant to fail: the stand-in for Binance does not know his API key.
"""
NEXT = """
Next: `make up SPEED=60` keeps an environment running, an hour per minute, with buttons that make keys fail.
There you can also fix dave: it says how. For your own account, go on with step 2 of docs/first-key.md."""
AGAIN = """
To test another API key, run this again. The `listenkeys` commands above are for your stack in AWS."""
REPEATED = {"level", "message", "location", "timestamp", "service", "cold_start"}


def options(
    command: str, description: str | None, arguments: list[str]
) -> tuple[Any, bool, RealAccount | None]:
    """Return the event, whether to keep the environment running, and the real account, None if there is none.

    Raises SystemExit with one line if an option is wrong.
    """
    parser = Parser(prog=f"make {command}", description=description)
    parser.add_argument("event", help="a file of events/")
    parser.add_argument("--keep", action="store_true", help="keep the environment running for the next run")
    add_options(parser)
    read = parser.parse_args(arguments)
    if read.keep and chosen(read):
        raise SystemExit("KEEP=1 does not work with ACCOUNT=real: use `make up ACCOUNT=real`")
    if not read.event:
        raise SystemExit("EVENT is empty: give it a file, such as EVENT=events/dry-run.json")
    try:
        return json.loads(Path(read.event).read_text()), read.keep, chosen(read)
    except OSError as error:
        raise SystemExit(f"{read.event}: {error.strerror}") from None
    except ValueError as error:
        raise SystemExit(f"{read.event}: not JSON: {error}") from None


@contextmanager
def world(keep: bool, real: RealAccount | None) -> Iterator[Mapping[str, str]]:
    """Yield the variables of an environment: the running one, one that keeps running, or one for this run."""
    found = None if real else running_world()
    if keep or found:
        using = "using the running local environment"
        if found and not found["environment"].get(STREAM_URL):
            using += ", with your account at Binance"
        with doing(using if found else MAKING):
            variables = running_environment()
        yield variables
        if keep:
            print(f"\nThe environment keeps running. `{STATE.parent}/listenkeys status` shows its accounts,")
            print("`make down` stops it.")
        return
    if real:
        made = real.world()
    else:
        with doing(MAKING):
            made = demo_world()
    with made:
        yield made.environment()


def shortened(line: str, report: dict[str, Any] | None) -> str:
    """Return a log line without the fields that Powertools adds to every line, and without this report.

    A line that is not a JSON object is returned unchanged.
    """
    try:
        fields = dict(json.loads(line))
    except (ValueError, TypeError):
        return line
    if "_aws" in fields:
        names = [metric["Name"] for metric in fields["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
        text = "METRICS " + " ".join(f"{name}={fields[name][0]:g}" for name in names)
        return re.sub(r"(KeysChanged=\d+)", r"\1 (created, recreated or changed)", text)
    if report and fields.get("report", {}).get("runId") == report["runId"]:
        return f"{fields.get('level', '-')} run: its report is the result below"
    said = {name: value for name, value in fields.items() if name not in REPEATED and "function" not in name}
    return f"{fields.get('level', '-')} {fields.get('message', '-')} {json.dumps(said)}"


def show(
    report: dict[str, Any] | None,
    error: str,
    log: Iterable[str],
    variables: Mapping[str, str],
    clock: ScaledClock,
) -> None:
    """Print the plan or the status of every account, then the log, then the function's result or error."""
    if report and report.get("dryRun"):
        output.show(report_view(report, clock.now()))
    else:
        with environment(variables):
            tables = variables["ACCOUNTS_TABLE"], variables["LISTEN_KEYS_TABLE"]
            rows = read_status(boto3.client("dynamodb"), *tables, clock.now())
        output.show(StatusTable(rows, report["runId"] if report else None, everything=True))
    lines = list(log)
    if lines:
        _head("log of the function, without the fields that every line repeats")
    for line in lines:
        print(shortened(line, report))
    if report is None:
        _head("error of the function")
        print(error)
    else:
        _head("result of the function")
        print(json.dumps(report, indent=2))


def _head(text: str) -> None:
    output.show("", Text(text, style="dim"))


def main(arguments: list[str]) -> int:
    event, keep, real = options("run", __doc__, arguments)
    told = running_world() is not None  # `make up` or an earlier run has printed FIRST and NEXT
    with world(keep, real) as variables:
        demo = variables.get(STREAM_URL) and not told
        # Time may run faster in the environment of `make up`.
        clock = ScaledClock.of(variables[CLOCK]) if CLOCK in variables else ScaledClock()
        done = LocalFunction(variables, clock.clock).invoke(event, Context())
        error = f"{type(done.error).__name__}: {done.error}"
        if demo:
            print(FIRST)
        show(done.report, error, done.output.splitlines(), variables, clock)
        if demo:
            print(NEXT)
        elif real and done.report and done.report["problems"]:
            print(AGAIN)
    return 0 if done.error is None else 1
