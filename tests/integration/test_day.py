"""docs/command.md, "A day with an account": what the command shows, and which messages come when.

`python -m tests.integration.test_day` writes what is shown into the page.
"""

from __future__ import annotations

import random
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from listenkey_keeper.cli.stack import CLOCK
from local.aws.rules import FUNCTION
from local.aws.stack import LocalAws
from local.clock import VirtualClock
from local.front import Controls, Front
from local.invoke import LocalFunction
from local.pictures import COLUMNS, IN_TURN, Distant
from local.world import SPARE_KEYS, World
from tests.integration.test_documentation import COMMAND, quoted, section, table
from tests.integration.watched import Watched
from tests.paths import ROOT
from tests.terminal import Terminal

PAGE = ROOT / "docs/command.md"
START = datetime(2026, 11, 24, 11, tzinfo=UTC)
# The lines of the page after the first two, each with how many minutes after the start it is typed.
TYPED = [
    (20, ".local/binance revoke alice"),
    (31, 'listenkeys status; echo "ends with $?"'),
    (70, "listenkeys accounts add alice --replace"),
    (70, "listenkeys renew --force alice"),
]
END = 100
_PLACES = {"AlarmTopic": "email", "Webhook": "post", "AlarmWebhook": "post"}


class Day:
    """What came of each line, in order, and the messages: at which time (HH:MM), what, and by which way."""

    def __init__(self, aws: LocalAws) -> None:
        clock = VirtualClock(START)
        self.shown: list[tuple[str, str]] = []
        aws.reset()
        with World(exchange=Distant(clock), aws=aws) as world, _fixed_pauses(clock):
            world.add_demo_accounts(clock.now())
            tables = aws.outputs["AccountsTableName"]
            aws.client("dynamodb").delete_item(TableName=tables, Key={"accountId": {"S": "dave"}})
            function = LocalFunction({**world.environment(), **IN_TURN}, clock.clock)
            watched, controls = Watched(world, function, clock), Controls(world)
            keys = iter(SPARE_KEYS)
            with Front(aws.resources[FUNCTION], watched.invoke, lambda _: None, controls) as front:
                for minute, line in TYPED:
                    watched.go(minute - (clock.timestamp() - START.timestamp()) / 60)
                    self.shown.append((line, _type(line, world, clock, front, controls, keys)))
            watched.go(END - 70)
        came = [(each, _PLACES[each.to]) for each in watched.messages if each.to in _PLACES]
        came += [(each, "event") for each in watched.events]
        begin = START.timestamp() + 60 * TYPED[0][0]
        named = sorted(
            {
                (f"{datetime.fromtimestamp(each.at, UTC):%H:%M}", how, _name(each.text))
                for each, how in came
                if each.at > begin
            }
        )
        self.messages = {at: {rest[1:] for rest in of} for at, of in groupby(named, key=lambda each: each[0])}


@contextmanager
def _fixed_pauses(clock: VirtualClock) -> Iterator[None]:
    before = random.getstate()
    random.seed(1)
    with patch("botocore.endpoint.time", SimpleNamespace(sleep=clock.sleep)):
        yield
    random.setstate(before)


def _name(text: str) -> str:
    found = re.search(r"Listen Keys? \w+|FAILING|RECOVERED|(?:ALARM|OK) .*?(\w+Alarm)", text)
    assert found, text
    return f"{found[0].split()[0]} {found[1]}" if found[1] else found[0]


def _type(
    line: str, world: World, clock: VirtualClock, front: Front, controls: Controls, keys: Iterator[str]
) -> str:
    """Return what is on the screen after this line."""
    program, *arguments = shlex.split(line.partition(";")[0])
    if program != "listenkeys":
        return controls.do(*arguments) + "\n"
    environment = {
        **world.environment(), "LISTENKEYS_STACK_NAME": world.aws.stack_name, "NO_COLOR": "1",
        "AWS_ENDPOINT_URL_LAMBDA": front.url, CLOCK: f"{time.time()},{clock.timestamp()},0",
    }  # fmt: skip
    terminal = Terminal(tuple(arguments), COLUMNS, environment)
    try:
        if "add" in arguments:
            terminal.wait_for("(not shown):")
            terminal.type(next(keys) + "\n")
        code = terminal.end()
    finally:
        terminal.close()
    shown = re.sub(
        r".*\x1b\[2K", "", terminal.output.replace("\r", ""), flags=re.DOTALL
    )  # it waited until then
    shown = re.sub(r" +\n", "\n", shown)
    return shown + (f"ends with {code}\n" if "echo" in line else "")


@pytest.fixture(scope="module")
def day(aws: LocalAws) -> Day:
    return Day(aws)


DOCUMENTED = section(COMMAND, "A day with an account")


@pytest.mark.slow
def test_each_line_shows_what_the_page_shows(day: Day) -> None:
    lines = []
    for language, text in re.findall(r"```(sh|console)\n(.*?)```", DOCUMENTED, re.DOTALL):
        typed = text.splitlines() if language == "sh" else re.findall(r"^\$ (.*)", text, re.MULTILINE)
        lines += typed
    assert lines[2:] == [line for line, _ in day.shown], "after the alias, and without dave"
    assert "\nRECREATED         1\n" in day.shown[-1][1]
    assert written(DOCUMENTED, day) == DOCUMENTED, "python -m tests.integration.test_day writes it"


@pytest.mark.slow
def test_the_messages_come_when_the_page_says(day: Day) -> None:
    documented: dict[str, Any] = {
        row[0]: {
            (how, name)
            for ways, names in re.findall(
                r"((?:event|email|post)(?: and post)?):? ((?:(?:, )?`[^`]+`)+)", row[2]
            )
            for how in ways.split(" and ")
            for name in quoted(names)
        }
        for row in table(DOCUMENTED)
    }
    assert {at: of for at, of in documented.items() if of} == day.messages


def written(page: str, day: Day) -> str:
    """Return the text with what is shown now after each line that has a `$`, without the errors."""
    shown = dict(day.shown)

    def again(block: re.Match[str]) -> str:
        short = re.sub(r"\nINVALID_API_KEY: (?:.+\n)+\n?", "...\n", shown[block[1]])
        return f"```console\n$ {block[1]}\n{short}```"

    return re.sub(r"```console\n\$ (.*)\n[^`]*```", again, page)


def main() -> None:
    with LocalAws() as aws:
        new = written(DOCUMENTED, Day(aws))
    PAGE.write_text(COMMAND.replace(DOCUMENTED, new))


if __name__ == "__main__":
    main()
