"""`--secret`: the accounts of one owner, in every command that takes accounts."""

import json

import pytest

from local.clock import VirtualClock
from local.front import Front
from local.world import World

from .conftest import Run, Start
from .test_accounts import row

OLIVIA = "listenkeys/olivia"
NOBODYS = "listenkeys: no account uses this secret:{} `listenkeys accounts list` shows each account's\n"
BOTH = "listenkeys: name accounts, or pass --secret, not both\n"
NEITHER = "listenkeys: name accounts, or pass --secret SECRET\n"


@pytest.fixture
def owners(world: World) -> None:
    """Two accounts of Olivia, one of Oscar, and one with a secret of its own."""
    for name, secret in (("alice", OLIVIA), ("bob", OLIVIA), ("carol", "listenkeys/oscar")):
        world.add_account(name, name.ljust(20, "x"), secretId=secret, secretField=name)
    world.put_secret(OLIVIA, {name: name.ljust(20, "x") for name in ("alice", "bob")})
    world.add_account("dave", "dave".ljust(20, "x"))


@pytest.mark.usefixtures("owners")
def test_the_accounts_of_a_secret_are_listed_changed_and_removed(run: Run, world: World) -> None:
    listed = json.loads(run("accounts", "list", "--secret", OLIVIA, "--json").stdout)
    assert [account["accountId"] for account in listed] == ["alice", "bob"]
    [own] = json.loads(run("accounts", "list", "--secret", "listenkeys/dave", "--json").stdout)
    assert own["accountId"] == "dave"
    arn = world.aws.client("secretsmanager").describe_secret(SecretId=OLIVIA)["ARN"]
    for command in (("set", "--renew-after", "5"), ("disable",), ("enable",), ("remove", "--yes")):
        done = run("accounts", *command, "--secret", arn, "--json")
        assert (done.exit_code, done.stderr) == (0, "")
        assert [account["accountId"] for account in json.loads(done.stdout)] == ["alice", "bob"]
    assert [bool(row(world, name)) for name in ("alice", "bob", "carol", "dave")] == [False] * 2 + [True] * 2


@pytest.mark.usefixtures("owners")
def test_enable_prints_one_line_that_renews_all_of_them(run: Run, world: World, front: Front) -> None:
    world.add_account("-eve", "eve".ljust(20, "x"))
    for accounts, names, line in (
        (("--secret", OLIVIA), "alice, bob", f"--secret {OLIVIA}"),
        (("--", "dave", "-eve"), "-eve, dave", "-- -eve dave"),
    ):
        run("accounts", "disable", *accounts)
        assert run("accounts", "enable", *accounts).stdout == (
            f"2 accounts enabled: {names}\nThe next run renews those that are due; "
            f"`listenkeys renew {line}` renews them now.\n"
        )
        assert "CREATED         2" in run("renew", *line.split()).stdout


@pytest.mark.usefixtures("owners")
def test_the_status_of_a_secret_is_that_of_its_accounts(run: Run, world: World, clock: VirtualClock) -> None:
    for name in ("alice", "bob", "dave"):
        world.put_current(name, "CANARYlisten".ljust(64, "9"), clock.now())
    assert run("status").exit_code == 1
    for secret, count in ((OLIVIA, "2 accounts: 2 ok"), ("listenkeys/dave", "1 account: 1 ok")):
        done = run("status", "--secret", secret)
        assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, count)
    assert run("status", "--secret", "listenkeys/oscar").exit_code == 1


@pytest.mark.usefixtures("owners")
def test_renew_of_a_secret_leaves_out_disabled_ones_but_never_means_all(
    run: Run, world: World, front: Front
) -> None:
    run("accounts", "disable", "bob", "carol")
    done = run("renew", "--secret", OLIVIA)
    assert (done.exit_code, done.stdout.splitlines()[1]) == (0, "CREATED         1")
    done = run("renew", "--secret", "listenkeys/oscar")
    assert (done.exit_code, done.stdout) == (
        1,
        "carol is disabled: `listenkeys accounts enable carol` enables it\n",
    )
    assert "bob, carol are disabled: `listenkeys accounts enable bob carol` enables them\n" in (
        run("renew", "carol", "bob").stdout
    )
    assert [bool(world.records(name)) for name in ("alice", "bob", "carol", "dave")] == [True] + [False] * 3


@pytest.mark.usefixtures("owners")
@pytest.mark.parametrize(
    "command",
    [
        ("status",), ("renew",), ("accounts", "list"), ("accounts", "set", "--renew-after", "5"),
        ("accounts", "enable"), ("accounts", "disable"), ("accounts", "remove", "--yes"),
    ],
)  # fmt: skip
def test_either_names_or_a_secret_in_use_must_be_given(
    run: Run, world: World, front: Front, command: tuple[str, ...]
) -> None:
    world.put_row("zoe", product="spot")
    meant = f" did you mean {OLIVIA}?"
    for secret, near in (("olivia", meant), ("listenkeys/olivio", ""), ("", "")):
        done = run(*command, "--secret", secret)
        assert (done.exit_code, done.stdout, done.stderr) == (2, "", NOBODYS.format(near))
    if command != ("accounts", "list"):
        done = run(*command, "--secret", OLIVIA, "carol")
        assert (done.exit_code, done.stdout, done.stderr) == (2, "", BOTH)
    if command[0] == "accounts" and command[1] != "list":
        done = run(*command)
        assert (done.exit_code, done.stdout, done.stderr) == (2, "", NEITHER)
    assert [bool(row(world, name)) for name in ("alice", "bob", "carol")] == [True] * 3
    assert world.records("alice") == []


@pytest.mark.usefixtures("owners")
def test_accounts_whose_secret_cannot_be_known_are_named(run: Run, world: World) -> None:
    world.put_row("zoe", product="spot", secretId=OLIVIA)
    done = run("accounts", "list", "--secret", OLIVIA)
    assert (done.exit_code, "zoe" in done.stdout) == (0, False)
    assert done.stderr == "note: left out, as an invalid row's secret is not read: zoe\n"


def test_remove_asks_with_the_names_of_the_accounts(start: Start, world: World) -> None:
    for number in range(25):
        world.put_row(f"a{number:02}", secretId=OLIVIA)
    terminal = start("accounts", "remove", "--secret", OLIVIA)
    terminal.wait_for("[y/N]")
    asked = " ".join(terminal.output.split())
    named = ", ".join(f"a{number:02}" for number in range(20))
    assert f"Remove 25 accounts ({named} and 5 more)? Their listenKeys expire" in asked
    terminal.type("n\n")
    assert terminal.end() == 2
