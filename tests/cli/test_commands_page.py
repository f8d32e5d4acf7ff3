"""The table of commands in docs/command.md has every command and option, and no other."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from listenkey_keeper.cli.main import app
from tests.paths import ROOT

PAGE = (ROOT / "docs/command.md").read_text()
EVERYWHERE = {"--stack-name", "--region", "--profile", "--json", "--help"}


def commands(group: Any, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield each command with its own options."""
    for command in group.commands.values():
        full = f"{name} {command.name}".strip()
        if hasattr(command, "commands"):
            yield from commands(command, full)
            continue
        options = {
            opt for p in command.params for opt in (*p.opts, *p.secondary_opts) if opt.startswith("--")
        }
        assert EVERYWHERE - {"--help"} <= options, full
        yield full, options - EVERYWHERE


def test_the_page_has_every_command_with_every_option() -> None:
    section = PAGE.partition("\n## The command\n")[2].partition("\n## ")[0]
    documented = {}
    for line in section.splitlines():
        if found := re.match(r"\| `listenkeys ([a-z]+(?: [a-z]+)?)", line):
            documented[found[1]] = set(re.findall(r"--[a-z-]+", line))
    assert documented == dict(commands(typer.main.get_command(app)))
    assert set(re.findall(r"--[a-z-]+", section.partition("| ")[0])) == EVERYWHERE
