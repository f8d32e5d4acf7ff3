"""Fixtures: the deployed template (once), and per test a clean world with a clock of its own."""

import functools
import gc
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import jsonpath_ng.ext
import pytest

from local.aws.dynamodb_local import dynamodb_local
from local.aws.stack import LocalAws
from local.clock import VirtualClock
from tests.integration.watched import Watched
from tests.leaks import WatchedFunction, search
from tests.scene import Scene


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tables in DynamoDB Local, not in moto, where DYNAMODB_LOCAL says it is installed."""
    # A job in the background ignores Ctrl-C, and so would the commands that the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if folder := os.environ.get("DYNAMODB_LOCAL"):
        running = ExitStack()
        os.environ["DYNAMODB_URL"] = running.enter_context(dynamodb_local(Path(folder)))
        config.add_cleanup(running.close)


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAws]:
    """AWS made from template.yaml, in moto's server."""
    with LocalAws() as deployed, pytest.MonkeyPatch.context() as patch:
        # moto builds a parser for each path of a rule's input, for each event that it receives.
        patch.setattr("jsonpath_ng.ext.parse", functools.cache(jsonpath_ng.ext.parse))
        # What is there now stays: searching all of moto again and again for rubbish is a sixth of the work.
        gc.collect()
        gc.freeze()
        yield deployed
        gc.unfreeze()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def world(aws: LocalAws, clock: VirtualClock) -> Iterator[Scene]:
    """Empty tables, no secrets, a stand-in that lives by the virtual clock."""
    aws.reset()
    with Scene(clock, aws) as made:
        yield made


@pytest.fixture
def function(world: Scene) -> WatchedFunction:
    """The function in that world, living by the virtual clock; no key may show in what it leaves behind."""
    return world.function


@pytest.fixture
def botocore_sleeps(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore's own back-off move the virtual clock: it sleeps for real otherwise."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=clock.sleep))


@pytest.fixture
def watched(world: Scene) -> Watched:
    """Two accounts with live keys, the rules, and CloudWatch."""
    world.live("alice", "bob", minutes=10)
    return Watched(world, world.function, world.clock)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Search what a test's function printed or logged, in the test's own captured output."""
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if report.when == "teardown" and report.passed and isinstance(world, Scene) and "function" in vars(world):
        try:
            search(world.function.secrets, [report.capstdout, report.capstderr, report.caplog])
        except AssertionError as leak:
            report.outcome, report.longrepr = "failed", str(leak)
    return report
