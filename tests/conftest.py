"""Fixtures: the deployed template (once), and per test a clean world with a clock of its own."""

from collections.abc import Iterator

import pytest

from local.aws import LocalAws
from local.clock import VirtualClock
from local.exchange import Exchange
from local.invoke import LocalFunction
from local.world import World


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAws]:
    """AWS made from template.yaml, in moto's server."""
    with LocalAws() as deployed:
        yield deployed


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def world(aws: LocalAws, clock: VirtualClock) -> Iterator[World]:
    """Empty tables, no secrets, a stand-in that lives by the virtual clock."""
    aws.reset()
    with World(exchange=Exchange(now=clock.timestamp), aws=aws) as made:
        yield made


@pytest.fixture
def function(world: World, clock: VirtualClock) -> LocalFunction:
    """The function in that world, living by the virtual clock."""
    return LocalFunction(world.environment(), clock.clock)
