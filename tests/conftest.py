"""Fixtures: the deployed template, once for all tests; for each test, a clean world with its own clock."""

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
    """Keep the tables in DynamoDB Local instead of moto if DYNAMODB_LOCAL names its folder."""
    # A background job ignores Ctrl-C, and the commands that the tests interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if folder := os.environ.get("DYNAMODB_LOCAL"):
        running = ExitStack()
        os.environ["DYNAMODB_URL"] = running.enter_context(dynamodb_local(Path(folder)))
        config.add_cleanup(running.close)


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAws]:
    """The stack of template.yaml, deployed to moto's server."""
    with LocalAws() as deployed, pytest.MonkeyPatch.context() as patch:
        # moto would parse each path of a rule's input again for each event that it receives.
        patch.setattr("jsonpath_ng.ext.parse", functools.cache(jsonpath_ng.ext.parse))
        # Exclude what exists now from garbage collection: scanning all of moto again and again would take a
        # sixth of the time.
        gc.collect()
        gc.freeze()
        yield deployed
        gc.unfreeze()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def world(aws: LocalAws, clock: VirtualClock) -> Iterator[Scene]:
    """A world with empty tables, no secrets and a stand-in that uses the virtual clock."""
    aws.reset()
    with Scene(clock, aws) as made:
        yield made


@pytest.fixture
def function(world: Scene) -> WatchedFunction:
    """The function in that world, with the virtual clock. Its output and what it stores must show no key."""
    return world.function


@pytest.fixture
def botocore_sleeps(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore's back-off move the virtual clock instead of sleeping."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=clock.sleep))


@pytest.fixture
def watched(world: Scene) -> Watched:
    """A world with two accounts that have live keys, the rules, and CloudWatch."""
    world.live("alice", "bob", minutes=10)
    return Watched(world, world.function, world.clock)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Search the captured output of a test that used the function for its secrets."""
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if report.when == "teardown" and report.passed and isinstance(world, Scene) and "function" in vars(world):
        try:
            search(world.function.secrets, [report.capstdout, report.capstderr, report.caplog])
        except AssertionError as leak:
            report.outcome, report.longrepr = "failed", str(leak)
    return report
