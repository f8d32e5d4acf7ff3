"""`make run`: the function once, in a local world, and what came of it."""

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3
from rich.console import Console

from listenkey_keeper.cli.stack import CLOCK
from listenkey_keeper.cli.status import StatusTable
from listenkey_keeper.program.status import read_status
from local.clock import ScaledClock
from local.invoke import Context, LocalFunction, environment
from local.world import kept_environment, kept_world, world_of_environment

REPEATED = {"level", "message", "location", "timestamp", "service", "cold_start"}


@contextmanager
def world(keep: bool) -> Iterator[Mapping[str, str]]:
    """Yield the environment of a world: the one that is up, one that stays up, or one for this run alone."""
    if keep or kept_world():
        with kept_environment() as variables:
            yield variables
    else:
        with world_of_environment() as made:
            yield made.environment()


def shortened(line: str) -> str:
    """Return a log line without what Powertools adds to each; anything that is no JSON object as it is."""
    try:
        fields = dict(json.loads(line))
    except (ValueError, TypeError):
        return line
    if "_aws" in fields:
        names = [metric["Name"] for metric in fields["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
        return "METRICS " + " ".join(f"{name}={fields[name][0]:g}" for name in names)
    said = {name: value for name, value in fields.items() if name not in REPEATED and "function" not in name}
    return f"{fields.get('level', '-')} {fields.get('message', '-')} {json.dumps(said)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("event", type=Path, help="a file of events/")
    parser.add_argument("--keep", action="store_true", help="keep the world up for the next run")
    arguments = parser.parse_args()
    try:
        event = json.loads(arguments.event.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{arguments.event}: {error}") from None
    console = Console()
    with world(arguments.keep) as variables:
        context = Context()
        # The time of a world that `make up` keeps may run faster than the real one.
        clock = ScaledClock.of(variables[CLOCK]) if CLOCK in variables else ScaledClock()
        done = LocalFunction(variables, clock.clock).invoke(event, context)
        console.print("[dim]what the function logged, without what each line repeats[/dim]")
        for line in done.output.splitlines():
            print(shortened(line))
        if done.report is not None:
            console.print("\n[dim]what it returned[/dim]")
            print(json.dumps(done.report, indent=2))
        else:
            console.print("\n[dim]what it raised[/dim]")
            print(f"{type(done.error).__name__}: {done.error}")
        with environment(variables):
            rows = read_status(
                boto3.client("dynamodb"),
                variables["ACCOUNTS_TABLE"],
                variables["LISTEN_KEYS_TABLE"],
                clock.now(),
            )
    console.print()
    console.print(StatusTable(rows, context.aws_request_id))
    return 0 if done.error is None else 1


if __name__ == "__main__":
    raise SystemExit(main())
