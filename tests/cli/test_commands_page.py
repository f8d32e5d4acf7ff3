"""docs/command.md has every command and option and the permissions that each needs, and no other."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from listenkey_keeper.cli.main import app
from local.clock import VirtualClock
from local.front import Front
from local.world import World
from tests.cli.conftest import AwsFaults, Run
from tests.faults.matrix import add_live
from tests.pages import blocks
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
    section = PAGE.partition("\n## Commands\n")[2].partition("\n## ")[0]
    documented = {}
    for line in section.splitlines():
        if found := re.match(r"\| `listenkeys ([a-z]+(?: [a-z]+)?)", line):
            documented[found[1]] = set(re.findall(r"--[a-z-]+", line))
    assert documented == dict(commands(typer.main.get_command(app)))
    assert set(re.findall(r"--[a-z-]+", section.partition("| ")[0])) == EVERYWHERE


def test_the_page_names_the_fields_of_json(world: World, run: Run, front: Front) -> None:
    world.add_account("alice", "a" * 64)
    named = [
        re.findall(r"`(\w+)`", line)[1:] for line in PAGE.partition("`--json` prints:")[2].split("\n- ")[1:3]
    ]
    status, check = (json.loads(run(name, "--json").stdout) for name in ("status", "check"))
    assert set(named[0]) == status.keys() | status["accounts"][0].keys()
    assert set(named[1]) == check.keys() | check["checks"][0].keys()


PERMISSIONS = dict(
    re.findall(r"^\| (`.+?) \| (.+) \|$", PAGE.partition("| command | permissions |")[2], re.MULTILINE)
)
# Lines that need all permissions of a row; what only removes is counted for `accounts remove` alone.
LINES = {
    "status": ["status"],
    "history": ["history alice"],
    "listen": [],
    "renew": ["renew alice", "renew --secret listenkeys/alice"],
    "accounts list": ["accounts list"],
    "accounts add": [
        "accounts add erin", "accounts add erin --replace --product coinm",
        "accounts remove erin --yes --with-secret", "accounts add erin --replace",
    ],
    "accounts import": [
        "accounts import -", "accounts remove erin --yes --with-secret", "accounts import - --replace",
    ],
    "accounts set": [
        "accounts set alice --renew-after 5", "accounts disable alice",
        "accounts enable --secret listenkeys/alice",
    ],
    "accounts remove": [
        "accounts remove alice --yes --with-secret", "accounts remove bob --yes --with-secret",
    ],
}  # fmt: skip
# Lambda is the local front; the stream has its own policy.
ELSEWHERE = {"renew": {"InvokeFunction"}, "listen": {"BatchGetItem"}}


@pytest.mark.parametrize("command", LINES)
def test_a_command_needs_the_permissions_that_the_page_names(
    command: str, world: World, run: Run, front: Front, faults: AwsFaults, clock: VirtualClock
) -> None:
    add_live(world, clock, "alice", "bob", minutes=10)
    run("accounts", "add", "bob", "--secret", "listenkeys/shared", "--replace", stdin="sparekey01\n")
    run("accounts", "add", "carol", "--secret", "listenkeys/shared", stdin="sparekey02\n")
    used: set[str] = set()
    for number, line in enumerate(LINES[command]):
        faults.calls.clear()
        key = f"sparekey0{number + 3}\n"
        assert run(*line.split(), stdin=f"erin,usdm,{key}" if "import" in line else key).exit_code < 2
        if command == "accounts remove" or "remove" not in line:
            used |= set(faults.calls)
    [actions] = [actions for row, actions in PERMISSIONS.items() if row.startswith(f"`{command}`")]
    named = {action.partition(":")[2] for action in re.findall(r"`([a-z]+:[A-Z]\w+)`", actions)}
    assert named == used - {"DescribeStacks"} | ELSEWHERE.get(command, set())


def test_the_table_of_permissions_has_every_command() -> None:
    named = [name for row in PERMISSIONS for name in re.findall(r"`([a-z ]+)`", row)]
    assert sorted([*named, "check"]) == sorted(dict(commands(typer.main.get_command(app))))


def test_the_policy_for_people_on_call_allows_what_their_commands_need() -> None:
    statements = json.loads((ROOT / "docs/on-call-policy.json").read_text())["Statement"]
    allowed = {action for each in statements for action in _listed(each["Action"])}
    check = PAGE.partition("\n- always: ")[2].partition("\n- ")[0]
    shards = PAGE.partition("\n- with shards: ")[2].partition("\n- ")[0]
    webhook = PAGE.partition("\n- with a webhook or a heartbeat: ")[2].partition("\n- ")[0]
    used = ("status", "history", "renew", "accounts list", "accounts add")
    needed = "".join([PERMISSIONS[f"`{name}`"] for name in used]) + check + shards + webhook
    missing = set(re.findall(r"`([a-z]+:[A-Z]\w+)`", needed)) - allowed
    # AWS's own policy allows the first; the second adds accounts, which `add --replace` does not.
    assert missing == {"cloudwatch:DescribeAlarms", "dynamodb:PutItem"}


def test_who_deploys_may_check_without_what_changes_accounts_and_keys() -> None:
    on_call = json.loads((ROOT / "docs/on-call-policy.json").read_text())["Statement"]
    section = PAGE.partition("\n### Permissions of check\n")[2]
    without = re.findall(r"`(\w+)`", section.partition(" without ")[2].partition(".\n")[0])
    assert len(without) == 3
    statements = [each for each in on_call if each["Sid"] not in without]
    assert len(statements) == len(on_call) - 3
    statements += json.loads((ROOT / "docs/deploy-policy.json").read_text())["Statement"]
    allowed = {action for each in statements for action in _listed(each["Action"])}
    needed = (
        section.partition("\n- with a KMS key")[0]
        + section.partition("\n- with shards: ")[2].partition("\n")[0]
    )
    assert set(re.findall(r"`([a-z]+:[A-Z]\w+)`", needed)) <= allowed


def _listed(action: str | list[str]) -> list[str]:
    return [action] if isinstance(action, str) else action


def test_the_lines_for_many_accounts_import_the_pages_file(world: World, run: Run, tmp_path: Path) -> None:
    section = PAGE.partition("\n### Many accounts\n")[2].partition("\n##")[0]
    [file], [typed] = blocks(section, "text"), blocks(section, "console")
    (tmp_path / "accounts.csv").write_text(file.replace("...", "7" * 60))
    [line] = re.findall(r"^\$ listenkeys (.*)$", typed, re.MULTILINE)
    done = run(*line.split())
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == typed.partition(line + "\n")[2].partition("$ rm")[0]
