"""README.md's bot, in a process of its own."""

import os
import subprocess
import sys

from tests.consumer_page import ROOT, blocks

from .conftest import ALICE, SECONDS

[EXAMPLE] = blocks((ROOT / "README.md").read_text(), "python")


def test_the_readmes_five_lines_print_an_order(world, streams, keeper):
    assert len(EXAMPLE.splitlines()) == 5
    listen_key = keeper.renew()
    environment = world.environment() | {"BINANCE_STREAM_URL": streams.url}
    path = f"{ROOT / 'functions/keepalive'}:{ROOT}"
    bot = subprocess.Popen(
        [sys.executable, "-u", "-c", EXAMPLE],
        env={**os.environ, **environment, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert bot.stdout
        assert bot.stdout.readline().startswith("Gap(")
        world.exchange.emit_order(ALICE)
        order = bot.stdout.readline()
        assert order.startswith("{'e': 'ORDER_TRADE_UPDATE'")
        assert listen_key not in order
    finally:
        bot.kill()
        bot.communicate(timeout=SECONDS)
