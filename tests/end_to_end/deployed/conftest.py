"""The stack as sam deploys it, once without shards and once with, and per test a clean world in it."""

from collections.abc import Iterator

import pytest

from local.world import World
from tests.end_to_end.deployed.stack import SamDeployed


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SamDeployed]:
    with SamDeployed(tmp_path_factory.mktemp("deployed")) as aws:
        yield aws


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SamDeployed]:
    with SamDeployed(tmp_path_factory.mktemp("sharded"), {"ShardCount": "4"}) as aws:
        yield aws


@pytest.fixture
def world(deployed: SamDeployed) -> Iterator[World]:
    deployed.reset()
    with World(aws=deployed) as made:
        yield made


@pytest.fixture
def sharded_world(sharded: SamDeployed) -> Iterator[World]:
    sharded.reset()
    with World(aws=sharded) as made:
        yield made
