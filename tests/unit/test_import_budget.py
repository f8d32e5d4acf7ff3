"""What a cold start imports: every scheduled run is one, and Lambda bills it. Counted, not timed."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.run import template_environment
from tests.paths import ROOT

# What any function with these libraries imports, and boto3 when it makes these clients.
BARE = """
import boto3, requests
from aws_lambda_powertools import Logger, Metrics
for name in ("dynamodb", "secretsmanager", "events"):
    boto3.client(name)
"""
REPORT = "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
# X-Ray's SDK is the slowest import of all; the rest has no business in the function.
FORBIDDEN = {
    "asyncio", "aws_xray_sdk", "jsonpath_ng", "listenkey_keeper", "local", "moto", "mypy_boto3_dynamodb",
    "pydantic", "pytest", "redis", "rich", "sqlite3", "tests", "typer", "unittest", "yaml",
}  # fmt: skip


def imported_by(code: str) -> set[str]:
    """Return the names of the modules that a fresh Python has after running this."""
    environment = {
        **template_environment(),
        "PYTHONPATH": str(ROOT / "functions/keepalive"),
        "PATH": os.environ["PATH"],
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", code + REPORT], env=environment, cwd="/", stdout=subprocess.PIPE, check=True
    )
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def imported() -> set[str]:
    return imported_by("import app")


@pytest.fixture(scope="module")
def bare() -> set[str]:
    return imported_by(BARE)


def test_the_function_imports_nothing_it_does_not_need(imported: set[str]) -> None:
    assert not {name.partition(".")[0] for name in imported} & FORBIDDEN


def test_of_powertools_only_the_logger_and_the_metrics_are_imported(imported: set[str]) -> None:
    prefix = "aws_lambda_powertools.utilities."
    utilities = {name.split(".")[2] for name in imported if name.startswith(prefix)}
    # The logger's own: a light one that nothing here names.
    assert utilities <= {"jmespath_utils"}


def test_beside_the_libraries_the_function_imports_only_itself(imported: set[str], bare: set[str]) -> None:
    own = {name for name in imported if name == "app" or name.partition(".")[0] == "listenkeys"}
    assert len(own) <= 38
    assert imported - bare - own <= {"__future__", "concurrent.futures.thread", "dataclasses", "statistics"}


def test_what_only_a_run_with_work_needs_is_not_imported_before_it(imported: set[str]) -> None:
    assert not imported & {"requests", "listenkeys.binance.transport"}


def test_the_widget_imports_neither_powertools_nor_what_a_run_needs() -> None:
    imported = imported_by("import widget")
    assert not {name.partition(".")[0] for name in imported} & (
        FORBIDDEN | {"aws_lambda_powertools", "app", "requests"}
    )
    run = ("keeper", "journal", "selection", "sending", "binance")
    assert not imported & {f"listenkeys.{name}" for name in run}


LISTED = """
import os
listed = 0
list_directory = os.listdir
def count(*path):
    global listed
    listed += 1
    return list_directory(*path)
os.listdir = count
import app
for service in ("dynamodb", "events", "secretsmanager", "sqs"):
    app.client(service, app.Deadline(app.SYSTEM_CLOCK.monotonic))
import sys
sys.modules = {f"listed {listed}": None}
"""


def test_making_a_client_does_not_list_the_directories_of_all_services() -> None:
    # It is 900 with botocore's own loader. Where a newer one no longer asks ours, this says so.
    [listed] = imported_by(LISTED)
    assert int(listed.split()[1]) < 100
