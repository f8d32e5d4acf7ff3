"""From the trouble to a live key, by the command as the remedy says it; and every id that a row may have."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from listenkeys.view.remedies import REMEDIES, remedy
from local.front import Front
from local.invoke import LocalFunction
from local.world import World
from tests.faults.matrix import TICK, kept

from .conftest import Run, Start
from .test_accounts import row, secret

KEY = "Canaryalice".ljust(64, "7")  # what `kept` expects of alice
Break = Callable[[World], None]


def broken(text: str | None = None, **content: Any) -> Break:
    """Return what puts this text, these bytes or nothing into alice's secret."""

    def do(world: World) -> None:
        client = world.aws.client("secretsmanager")
        client.delete_secret(SecretId="listenkeys/alice", ForceDeleteWithoutRecovery=True)
        value = {"SecretString": text} if text is not None else content
        client.create_secret(Name="listenkeys/alice", **value)

    return do


def deleted(world: World) -> None:
    world.aws.client("secretsmanager").delete_secret(SecretId="listenkeys/alice", RecoveryWindowInDays=30)


def deleted_plain(world: World) -> None:
    broken(KEY)(world)
    deleted(world)


def gone(world: World) -> None:
    world.aws.client("secretsmanager").delete_secret(
        SecretId="listenkeys/alice", ForceDeleteWithoutRecovery=True
    )


@pytest.mark.row(47)
def test_a_record_that_cannot_be_written_is_deleted_and_written_anew(
    run: Run, world: World, front: Front
) -> None:
    world.add_account("alice", KEY)
    run("renew")
    world.put_current("alice", world.current("alice")["listenKey"], world.clock.now(), unannounced={"S": "x"})
    world.exchange.expire(KEY, "usdm")  # a change, which is added to `unannounced`
    failed = run("renew", "--force", "alice")
    assert (failed.exit_code, "RECORD_UNAVAILABLE" in failed.output) == (1, True)
    assert "delete its item CURRENT" in " ".join(failed.output.split())

    key = {"accountId": {"S": "alice"}, "record": {"S": "CURRENT"}}
    table = world.aws.outputs["ListenKeysTableName"]
    world.aws.client("dynamodb").delete_item(TableName=table, Key=key)

    assert run("renew", "alice").exit_code == 0
    assert kept(world, "alice")


@pytest.mark.parametrize(
    ("trouble", "code", "says"),
    [
        (broken(KEY), "SECRET_INVALID", "replaces its whole content"),
        (broken("\ufeff" + KEY), "SECRET_INVALID", "replaces its whole content"),
        (broken('["' + KEY + '"]'), "SECRET_INVALID", "replaces its whole content"),
        (broken('{"apiKey": "' + KEY), "SECRET_INVALID", "replaces its whole content"),
        (broken(SecretBinary=b"\x00\x01"), "SECRET_INVALID", "replaces its whole content"),
        (broken('{"APIKEY": "x"}'), "SECRET_INVALID", ""),
        (broken('{"apiKey": "two words"}'), "SECRET_INVALID", ""),
        (broken(), "SECRET_NOT_FOUND", ""),
        (gone, "SECRET_NOT_FOUND", ""),
        (deleted, "SECRET_INVALID", "is being deleted: the command restores it"),
        (deleted_plain, "SECRET_INVALID", "is being deleted: the command restores it"),
        (broken('{"apiKey": "' + "b" * 64 + '"}'), "INVALID_API_KEY", ""),
    ],
    ids=[
        "plain text", "byte order mark", "a list", "cut off", "bytes", "another field", "no key", "no value",
        "gone", "being deleted", "plain text being deleted", "mistyped",
    ],
)  # fmt: skip
@pytest.mark.row(79)
def test_the_remedy_for_an_api_key_as_typed_leads_to_a_live_key(
    run: Run, world: World, front: Front, function: LocalFunction, trouble: Break, code: str, says: str
) -> None:
    world.add_account("alice", KEY)
    world.add_account("bob", "Canarybob".ljust(64, "7"))
    trouble(world)
    function.invoke(TICK)
    assert world.current("alice")["errorCode"] == code
    assert kept(world, "bob")  # its batch holds alice's secret, too
    command = str(remedy(code, "alice")).partition("listenkeys ")[2].partition(";")[0]
    assert command == "accounts add --replace alice"

    done = run(*shlex.split(command), stdin=KEY)

    assert (done.exit_code, KEY in done.output) == (0, False)
    assert says in done.stderr
    assert run("renew", "alice").exit_code == 0
    assert kept(world, "alice")


def test_the_remedy_for_no_listen_key_as_typed_leads_to_a_live_key(
    run: Run, world: World, front: Front, function: LocalFunction
) -> None:
    world.add_account("alice", KEY, createIfMissing=False)
    world.add_account("-bob", "b" * 64, createIfMissing=False)
    function.invoke(TICK)
    for name in ("alice", "-bob"):
        code = world.current(name)["errorCode"]
        command = str(remedy(code, name)).partition("listenkeys ")[2].partition(";")[0]
        assert (code, run(*shlex.split(command)).exit_code) == ("LISTEN_KEY_NOT_FOUND", 0)
        assert run("renew", "--", name).exit_code == 0
    assert kept(world, "alice")


@pytest.mark.parametrize(
    ("wrong", "lines"),
    [
        ({"renewAfterMinutes": "90"}, ["accounts set alice --renew-after default"]),
        ({"createIfMissing": "yes"}, ["accounts set alice --create-if-missing"]),
        ({"enabled": "yes"}, ["accounts enable alice"]),
        ({"product": "futures"}, ["accounts set alice --product usdm"]),
        ({"secretId": "listenkeys/ä"}, ["accounts remove alice --yes", "accounts add alice"]),
    ],
    ids=lambda value: next(iter(value)),
)
def test_the_remedies_for_an_invalid_row_lead_to_a_live_key(
    run: Run, world: World, front: Front, function: LocalFunction, wrong: dict[str, Any], lines: list[str]
) -> None:
    world.add_account("alice", KEY, **wrong)
    function.invoke(TICK)
    assert world.current("alice")["errorCode"] == "INVALID_ACCOUNT"
    for line in lines:
        assert run(*line.split(), stdin=KEY).exit_code == 0
    assert run("renew", "alice").exit_code == 0
    assert kept(world, "alice")


def test_what_is_no_api_key_is_said_to_be_none(run: Run, world: World, front: Front) -> None:
    world.add_account("alice", KEY)
    world.exchange.fault(status=401, code=-2014, msg="API-key format invalid.")
    said = " ".join(run("renew").stdout.split())
    assert "Binance says it is no API key: copy it again, not the secret (HTTP 401, code -2014:" in said
    assert ") - Check that you stored the API key, not its secret (code -2014: it is mistyped or cut" in said
    assert (
        "- To enter an API key: listenkeys accounts add --replace alice - Then: listenkeys renew alice"
        in said
    )


@pytest.mark.row(79)
def test_a_json_secret_that_begins_with_a_byte_order_mark_is_read(
    world: World, function: LocalFunction
) -> None:
    world.add_account("alice", KEY)
    broken('\ufeff{"apiKey": "' + KEY + '"}')(world)
    function.invoke(TICK)
    assert kept(world, "alice")


def test_a_secret_that_others_share_is_never_overwritten(run: Run, world: World) -> None:
    world.add_account("alice", KEY, secretId="listenkeys/all", secretField="alice")
    world.put_secret("listenkeys/all", "plain text")
    done = run("accounts", "add", "alice", "--replace", stdin=KEY)
    assert done.exit_code == 2
    assert "was not changed" in done.stderr
    content = world.aws.client("secretsmanager").get_secret_value(SecretId="listenkeys/all")
    assert content["SecretString"] == "plain text"


def test_every_command_in_the_remedies_is_one_that_there_is() -> None:
    named = {
        text.partition("listenkeys ")[2].split("NAME")[0]
        for text in REMEDIES.values()
        if "listenkeys " in text
    }
    assert named == {
        "accounts add --replace ",
        "accounts set --create-if-missing ",
        "accounts set --OPTION VALUE ",
        "accounts enable ",
        "renew ",
    }


def test_the_remedy_for_a_disabled_account_enables_it(
    run: Run, world: World, front: Front, function: LocalFunction
) -> None:
    world.add_account("alice", KEY, enabled=False)
    done = run("renew", "alice")
    assert done.exit_code == 1, "it was not renewed"
    assert "listenkeys accounts enable alice" in done.stdout
    assert run("accounts", "enable", "alice").exit_code == 0
    assert run("renew", "alice").exit_code == 0
    assert kept(world, "alice")


IDS = [
    "-dash",
    "--replace",
    "a" * 64,
    "Aa0" * 21 + "b",
    "two words",
    "a" * 65,
    "älice",
    "[red]x",
    "\x1b[31mx\n",
]


@pytest.mark.parametrize("id_", IDS)
def test_a_row_of_any_id_can_be_disabled_enabled_and_removed(run: Run, world: World, id_: str) -> None:
    world.put_row(id_, product="usdm", secretId="listenkeys/x")
    for command, enabled in (("disable", False), ("enable", True)):
        done = run("accounts", command, "--", id_)
        assert done.exit_code == 0, done.stderr
        assert "\x1b" not in done.output
        assert (row(world, id_) or {})["enabled"] == {"BOOL": enabled}
    assert run("accounts", "list").exit_code == run("accounts", "list", "--json").exit_code == 0
    assert run("accounts", "remove", "--yes", "--", id_).exit_code == 0
    assert row(world, id_) is None


@pytest.mark.parametrize("id_", ["-dash", "a" * 64, "two words"])
def test_renew_and_history_take_any_id_and_say_what_is_wrong_with_it(
    run: Run, world: World, front: Front, id_: str
) -> None:
    world.add_account(id_, KEY, secretId="listenkeys/x")
    valid = " " not in id_
    assert run("renew", "--", id_).exit_code == (0 if valid else 1)
    assert run("history", "--", id_).exit_code == 0
    assert run("status").exit_code == (0 if valid else 1)


def test_an_id_that_looks_like_an_option_is_told_how_to_be_typed(run: Run, world: World) -> None:
    world.add_account("-dash", KEY, enabled=False)
    done = run("renew", "-dash")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "put -- before an account whose name begins with -" in done.stderr
    assert remedy("ACCOUNT_DISABLED", "-dash") == "enable it: listenkeys accounts enable -- -dash"


def test_no_control_character_of_a_table_reaches_the_terminal(
    run: Run, world: World, front: Front, function: LocalFunction
) -> None:
    nasty = "a\x1b[2J\x07\u202eb"
    world.put_row(nasty, product=nasty, secretId=nasty)
    world.put_current(
        nasty, "k", function.app.keeper.clock.now(), errorCode=nasty, errorMessage=nasty, outcome="FAILED"
    )
    world.add_account("alice", KEY, secretId="listenkeys/x", secretField=nasty)
    for command in (
        ("status",), ("accounts", "list"), ("renew",), ("renew", "--dry-run"), ("history", "--", nasty),
        ("accounts", "disable", "--", nasty), ("accounts", "add", nasty), ("renew", "--", nasty + "x"),
        ("accounts", "remove", "--yes", "--", nasty), ("accounts", "remove", "--yes", "alice"),
    ):  # fmt: skip
        done = run(*command)
        shown = [c for c in done.output if not c.isprintable() and c != "\n"]
        assert not shown, (command, done.output)
        if command == ("status",):
            assert "  a?[2J??b\n" in done.output


def test_replace_that_changes_the_product_or_the_environment_says_so(
    run: Run, world: World, api_key: str
) -> None:
    world.add_account("alice", "a" * 20)
    options = ("--replace", "--product", "coinm", "--environment", "demo")
    done = run("accounts", "add", "alice", *options, stdin=api_key)
    assert "It is now coinm, demo; it was usdm, live." in done.stdout


def test_set_moves_an_account_to_another_environment_where_binance_has_it(run: Run, world: World) -> None:
    world.add_account("alice", "a" * 20)
    world.add_account("bob", "b" * 20, product="portfolio")
    moved = run("accounts", "set", "alice", "--environment", "demo")
    assert moved.exit_code == 0
    assert "from its next renewal on (`listenkeys renew --force alice` does it now)" in moved.stdout
    assert (row(world, "alice") or {})["environment"] == {"S": "demo"}
    refused = run("accounts", "set", "bob", "--environment", "demo")
    assert (refused.exit_code, "environment" in (row(world, "bob") or {})) == (2, False)


@pytest.mark.slow
@pytest.mark.parametrize("command", [("add", "bob"), ("add", "alice", "--replace"), ("remove", "alice")])
@pytest.mark.parametrize(("typed", "code"), [("\x04", 2), ("\x03", 130)])
def test_every_question_ends_alike_at_the_end_of_input_and_at_ctrl_c(
    start: Start, world: World, command: tuple[str, ...], typed: str, code: int
) -> None:
    world.add_account("alice", KEY)
    terminal = start("accounts", *command)
    terminal.wait_for(": ")
    terminal.type(typed)
    assert terminal.end() == code
    assert "Traceback" not in terminal.output
    assert "a bug" not in terminal.output
    assert ("nothing was changed" in terminal.output) == (code == 2)
    assert secret(world, "listenkeys/alice") == {"apiKey": KEY}
    assert row(world, "alice")
    assert row(world, "bob") is None
