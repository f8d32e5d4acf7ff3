"""The bots of README.md, docs/first-key.md and docs/stream.md, each in a process of its own."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from tests.pages import blocks
from tests.paths import PYTHONPATH, ROOT
from tests.waiting import SECONDS

from .conftest import ALICE

[README] = blocks((ROOT / "README.md").read_text(), "python")
[FIRST_KEY] = blocks((ROOT / "docs/first-key.md").read_text(), "python")
STREAM = blocks((ROOT / "docs/stream.md").read_text(), "python")[0]


def test_the_readmes_example_has_five_lines():
    assert len(README.splitlines()) == 5


@pytest.mark.parametrize(
    ("example", "gap", "order"),
    [
        pytest.param(README, "Gap(", "{'e': 'ORDER_TRADE_UPDATE'", id="README.md"),
        pytest.param(FIRST_KEY, "Gap(", "{'e': 'ORDER_TRADE_UPDATE'", id="first-key.md"),
        pytest.param(STREAM, "ask Binance what happened from", "BTCUSDT NEW", id="stream.md"),
    ],
)
def test_a_pages_bot_prints_a_gap_and_an_order(world, streams, keeper, example, gap, order):
    listen_key = keeper.renew()
    world.put_current("alice", listen_key, datetime.now(UTC))
    environment = world.environment() | {"BINANCE_STREAM_URL": streams.url}
    path = PYTHONPATH
    code = example.replace("<ListenKeysTableName>", world.aws.outputs["ListenKeysTableName"])
    bot = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        env={**os.environ, **environment, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert bot.stdout
        assert bot.stdout.readline().startswith(gap)
        world.exchange.emit_order(ALICE)
        said = bot.stdout.readline()
        assert said.startswith(order)
        assert listen_key not in said
    finally:
        bot.kill()
        bot.communicate(timeout=SECONDS)
