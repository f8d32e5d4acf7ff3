"""`make pictures`: make the documentation's pictures from a real run.

Plays a day on a virtual clock: the function runs in the local AWS, against the stand-in, with an outage and
two accounts in trouble. status.svg, history.svg and page-*.png show what the command and the page show then.
outage.svg comes from the simulation. The same code always makes the same pictures, so test_pictures.py can
tell when one is out of date.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import pty
import random
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from listenkey_keeper.cli.stack import CLOCK
from listenkeys.view.page import page
from listenkeys.view.status import AccountStatus, read_status
from local import png
from local.aws.stack import LocalAws
from local.binance.exchange import Answer, Exchange
from local.browser import chromium, picture
from local.clock import VirtualClock
from local.document import document
from local.invoke import LocalFunction
from local.terminal import doing
from local.world import World
from simulation.picture import svg as outage

DOCS = Path(__file__).parent.parent / "docs"
START = datetime(2026, 1, 1, tzinfo=UTC)
# One request at a time, and all accounts in one weight group: times and listenKeys depend on the order.
IN_TURN = {"MAX_CONCURRENCY": "1"}
COLUMNS = 80
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
TICK, SWEEP = {"source": "aws.events", "detail-type": "Scheduled Event"}, {"overdueOnly": True}
# Minutes from the start: Binance goes down, answers again, an API key is deleted, the firewall refuses an
# account, and the pictures are taken.
_DOWN, _UP, _REVOKED, _BLOCKED, _END = 1240, 1320, 1415, 1445, 1457
# Use a font of the reader's system. rich's own template would fetch one.
_SVG = re.sub(r"@font-face {{.*?}}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
)


class Distant(Exchange):
    """A stand-in whose answers take 40 to 140 ms on the virtual clock."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(now=clock.timestamp)
        self._clock = clock
        self._latency = random.Random(1)

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], address: str = "127.0.0.1"
    ) -> Answer:
        """Answer a request after this latency."""
        self._clock.advance(seconds=self._latency.uniform(0.04, 0.14))
        return super().handle(method, path, headers, address)


def play(world: World, clock: VirtualClock, function: LocalFunction) -> None:
    """Play the day: a tick every half hour, and sweeps only when there is something for them to find."""
    exchange = world.exchange
    for name, product in (("alice", "usdm"), ("bob", "coinm"), ("carol", "usdm"), ("dave", "usdm")):
        world.add_account(name, _api_key(name), product=product)
    world.add_account("erin", _api_key("erin"), renewAfterMinutes={"N": "10"})
    for minute in range(0, _END, 5):
        _advance_to(clock, minute)
        if minute == _DOWN:
            exchange.fault(status=503)
        elif minute == _UP:
            exchange.clear_faults()
        elif minute == _REVOKED:
            exchange.revoke(_api_key("dave"))
        elif minute == _BLOCKED:
            exchange.fault(status=403, api_key=_api_key("erin"))
        if minute % 30 == 0:
            function.invoke(TICK)
        elif _DOWN <= minute < _UP + 30 or minute >= _REVOKED:
            function.invoke(SWEEP)
    _advance_to(clock, _END)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures in docs/: the SVG files by name, and the accounts that the page shows at `at`."""

    svg: dict[str, str]
    accounts: list[AccountStatus]
    at: datetime

    @property
    def html(self) -> str:
        """The page of which the screenshots are taken."""
        return document("accounts", page(self.accounts, self.at))

    @property
    def digest(self) -> str:
        """A hash of the page. It is stored in each screenshot, to tell whether that is out of date."""
        return hashlib.sha256(self.html.encode()).hexdigest()


def make(world: World, clock: VirtualClock, function: LocalFunction) -> Pictures:
    """Play the day and return its pictures."""
    before = random.getstate()
    random.seed(1)  # for the pauses between tries
    play(world, clock, function)
    random.setstate(before)
    tables = world.aws.outputs["AccountsTableName"], world.aws.outputs["ListenKeysTableName"]
    accounts = read_status(world.aws.client("dynamodb"), *tables, clock.now())
    svg = {
        "outage.svg": outage(),
        "status.svg": screen(world, clock, "status"),
        "history.svg": screen(world, clock, "history", "alice", "--limit", "8"),
    }
    return Pictures(svg, accounts, clock.now())


def screen(world: World, clock: VirtualClock, *arguments: str) -> str:
    """Run `listenkeys` in a terminal, and return an SVG of what it shows."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LISTENKEYS_"))},
        **world.environment(), "LISTENKEYS_STACK_NAME": world.aws.stack_name, "COLUMNS": str(COLUMNS),
        CLOCK: f"{time.time()},{clock.timestamp()},0", "TERM": "xterm-256color", "PYTHONUTF8": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    environment.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "listenkey_keeper.cli.main", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        shown = _read(ours)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown.replace("\r\n", "\n").rstrip()))
    title = " ".join(["listenkeys", *arguments])
    return console.export_svg(title=title, code_format=_SVG, unique_id=arguments[0])


def _read(terminal: int) -> str:
    """Return everything that is written to a terminal until the last process has closed it."""
    parts = []
    try:
        while part := os.read(terminal, 65536):
            parts.append(part)
    except OSError:  # Linux raises EIO once it is closed
        pass
    os.close(terminal)
    return b"".join(parts).decode()


def _advance_to(clock: VirtualClock, minute: int) -> None:
    clock.advance(seconds=60 * minute - (clock.timestamp() - START.timestamp()))


def _api_key(name: str) -> str:
    return f"picture{name}".ljust(64, "0")


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="make pictures", description="Make the pictures in docs/.").parse_args(
        arguments
    )
    clock = VirtualClock(START)
    with doing("playing a day"), LocalAws() as aws, World(exchange=Distant(clock), aws=aws) as world:
        pictures = make(world, clock, LocalFunction({**world.environment(), **IN_TURN}, clock.clock))
    for name, text in pictures.svg.items():
        (DOCS / name).write_text(text, encoding="utf-8")
    with doing("photographing the page"), chromium() as browser:
        for theme in THEMES:
            path = DOCS / f"page-{theme}.png"
            picture(browser, pictures.accounts, pictures.at, path, theme=theme)
            path.write_bytes(png.with_note(path.read_bytes(), pictures.digest))
    print("written: " + ", ".join([*pictures.svg, *(f"page-{theme}.png" for theme in THEMES)]))
    return 0
