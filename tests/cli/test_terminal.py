"""The command as a person has it: a process in a terminal."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from local.aws.stack import REGION
from local.clock import VirtualClock
from local.front import Front
from local.world import World
from tests.paths import PYTHONPATH
from tests.terminal import COMMAND

from .conftest import Run, Start
from .test_accounts import row, secret, secret_names
from .test_status import put


def test_the_api_key_is_asked_for_and_does_not_show(start: Start, world: World, api_key: str) -> None:
    terminal = start("accounts", "add", "alice")
    terminal.wait_for("API key of alice (not shown): ")
    terminal.type(api_key + "\n")
    assert terminal.end() == 0
    assert "alice added" in terminal.output
    assert api_key not in terminal.output
    assert secret(world, "listenkeys/alice") == {"apiKey": api_key}


def test_nothing_is_asked_when_it_could_not_be_done(start: Start, world: World) -> None:
    world.add_account("alice", "a" * 20)
    terminal = start("accounts", "add", "alice")
    assert terminal.end() == 2
    assert "API key of" not in terminal.output


def test_a_command_to_copy_is_not_broken_into_lines(start: Start, world: World, front: Front) -> None:
    world.add_account("alice", "a" * 64)
    queue = world.aws.resources["DeadLetterQueue"]
    world.aws.client("sqs").send_message(QueueUrl=queue, MessageBody="{}")
    purge = f"aws sqs purge-queue --queue-url {queue} --region {REGION}"
    terminal = start("check")
    assert terminal.end() == 1
    assert f"\n  {purge}\n" in terminal.output.replace("\r", "")

    terminal = start("accounts", "remove", "alice", "--yes", "--with-secret")
    assert terminal.end() == 0
    restore = (
        f"`aws secretsmanager restore-secret --secret-id listenkeys/alice --region {REGION}` restores it"
    )
    assert restore in terminal.output


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "stays"), [("n\n", True), ("\n", True), ("y\n", False)])
def test_remove_asks_first(start: Start, world: World, answer: str, stays: bool) -> None:
    world.add_account("alice", "a" * 20)
    terminal = start("accounts", "remove", "alice", "--with-secret")
    terminal.wait_for("Remove alice and its API key (field apiKey of secret listenkeys/alice)?")
    terminal.type(answer)
    assert terminal.end() == (2 if stays else 0)
    assert (row(world, "alice") is not None) == stays


@pytest.mark.parametrize(
    ("options", "and_keys", "stay"),
    [
        ((), "", " Their API keys stay: --with-secret removes them, too."),
        (("--with-secret",), " and their API keys", ""),
    ],
)
def test_remove_of_several_asks_once(
    start: Start, world: World, options: tuple[str, ...], and_keys: str, stay: str
) -> None:
    for name in ("alice", "bob"):
        world.add_account(name, "a" * 20)
    terminal = start("accounts", "remove", "alice", "bob", *options, columns=200)
    terminal.wait_for(
        f"Remove 2 accounts{and_keys} (alice, bob)? Their listenKeys expire within 60 minutes.{stay} [y/N]: "
    )
    terminal.type("n\n")
    assert (terminal.end(), "listenkeys: nothing was removed" in terminal.output) == (2, True)
    assert [bool(row(world, name)) for name in ("alice", "bob")] == [True, True]


def test_a_secret_without_accounts_is_deleted_only_after_a_yes(start: Start, world: World) -> None:
    world.put_secret("listenkeys/olivia", {"alice": "a" * 20, "bob": "b" * 20})
    for answer, code, names in (("n\n", 2, ["listenkeys/olivia"]), ("y\n", 0, [])):
        terminal = start("accounts", "remove", "--with-secret", "--secret", "listenkeys/olivia", columns=200)
        terminal.wait_for("No account uses the secret listenkeys/olivia (2 fields). Delete it? [y/N]: ")
        terminal.type(answer)
        assert (terminal.end(), secret_names(world)) == (code, names)


@pytest.mark.parametrize("options", [(), ("--with-secret",)])
def test_the_api_key_of_an_invalid_row_stays(start: Start, world: World, options: tuple[str, ...]) -> None:
    world.put_secret("listenkeys/alice", {"apiKey": "a" * 20})
    world.put_row("alice", product="spot")
    terminal = start("accounts", "remove", *options, "alice", columns=200)
    terminal.wait_for("Its row is invalid, so its API key stays. [y/N]: ")
    terminal.type("y\n")
    assert (terminal.end(), secret_names(world)) == (0, ["listenkeys/alice"])
    says = "Its row was invalid, so its API key was not looked for. If it has one, it stays, by default in"
    assert f"alice was removed. {says} secret listenkeys/alice." in terminal.output


@pytest.mark.parametrize(
    ("typed", "code", "said"), [("\x03", 130, ""), ("\x04", 2, "no answer was given: nothing was changed")]
)
def test_no_answer_to_the_question_leaves_everything_as_it_is(
    start: Start, world: World, typed: str, code: int, said: str
) -> None:
    terminal = start("accounts", "add", "alice")
    terminal.wait_for("API key of alice")
    terminal.type(typed)
    assert terminal.end() == code
    assert "Traceback" not in terminal.output
    assert said in terminal.output
    assert row(world, "alice") is None


def test_ctrl_c_while_it_starts_is_no_traceback() -> None:
    early = """
import sys
class Pressed:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Pressed())
sys.argv = ["listenkeys", "status"]
import listenkey_keeper.cli.__main__
"""
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run([sys.executable, "-c", early], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("arguments", [("accounts", "list"), ("accounts", "--help")])
def test_a_reader_that_closes_the_pipe_is_not_told_that_action_is_needed(
    run: Run, world: World, arguments: tuple[str, ...]
) -> None:
    world.add_account("alice", "a" * 20)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [*COMMAND, *arguments],
            stdout=pipe,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
        )
    assert done.returncode == 141  # as for a program that SIGPIPE ends
    assert done.stderr == b""


def test_import_and_remove_finish_when_nobody_reads_their_output(
    run: Run, world: World, tmp_path: Path
) -> None:
    names = ["alice", "bob", "carol"]
    file = tmp_path / "accounts.csv"
    file.write_text("".join(f"{name},usdm,{name:x<64},listenkeys/of-{name}\n" for name in names))
    for arguments, left in (
        (("accounts", "import", str(file)), names),
        (("accounts", "remove", *names, "--yes", "--with-secret"), []),
    ):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
            done = subprocess.run(
                [*COMMAND, *arguments], stdout=pipe, stderr=subprocess.PIPE, env=environment
            )
        assert done.stderr == b""
        accounts = json.loads(run("accounts", "list", "--json").stdout)
        assert [account["accountId"] for account in accounts] == left


@pytest.mark.slow
def test_danger_is_coloured_unless_no_color_is_set(start: Start, world: World, clock: VirtualClock) -> None:
    put(world, clock, "alice", 60)
    put(world, clock, "bob", 5)
    coloured, plain = start("status"), start("status", NO_COLOR="1")
    assert (coloured.end(), plain.end()) == (1, 1)
    assert re.search(r"\x1b\[31m +5 min\x1b\[0m", coloured.output)
    assert re.search(r"\x1b\[32m60 min\x1b\[0m", coloured.output)
    assert "\x1b" not in plain.output
    bars = re.findall(r"[█▏▎▍▌▋▊▉·]{20}", plain.output)
    assert bars == ["█▋" + "·" * 18, "█" * 20]


def test_a_dead_key_is_never_green(start: Start, world: World, clock: VirtualClock) -> None:
    put(world, clock, "alice", -10)
    put(world, clock, "bob", 5)
    world.put_row("carol")
    terminal = start("status")
    terminal.end()
    assert "\x1b[31mEXTENDED" in terminal.output
    assert "\x1b[32m" not in terminal.output


def test_many_ok_accounts_are_only_counted_in_a_terminal(
    start: Start, run: Run, world: World, clock: VirtualClock
) -> None:
    for number in range(19):
        put(world, clock, f"desk-{number:02}", 50)
    put(world, clock, "bob", 3)
    world.put_row("carol", enabled=False)
    for options, listed in (((), 0), (("--all",), 19), (("--not-ok",), 0)):
        terminal = start("status", *options, NO_COLOR="1")
        terminal.end()
        assert terminal.output.count("  desk-") == listed
        summary = "21 accounts: 19 ok, " if listed else "21 accounts: 19 ok (--all lists them), "
        assert f"{summary}1 at risk (bob), 1 disabled" in terminal.output
    assert run("status").stdout.count("desk-") == 19
    in_trouble = run("status", "--not-ok").stdout.splitlines()
    assert [line.split()[0] for line in in_trouble[:4] if line] == ["account", "bob", "carol"]
    assert in_trouble[-1].startswith("21 accounts: 19 ok (--all lists them), 1 at risk (bob)")
    as_json = json.loads(run("status", "--not-ok", "--json").stdout)["accounts"]
    assert [each["accountId"] for each in as_json] == ["bob", "carol"]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
def test_the_whole_error_is_there_and_no_line_is_longer_than_the_terminal(
    start: Start, world: World, clock: VirtualClock, columns: int
) -> None:
    message = " ".join(f"word{number}" for number in range(60))
    put(world, clock, "account-of-somebody", 5, errorCode="INVALID_API_KEY", errorMessage=message)
    terminal = start("status", columns=columns, NO_COLOR="1")
    terminal.end()
    assert message in " ".join(terminal.output.split())
    assert max(map(len, terminal.output.splitlines())) <= columns


@pytest.mark.slow
@pytest.mark.parametrize("rows", [24, 12])
def test_watch_keeps_errors_and_summary_on_the_screen(
    start: Start, world: World, clock: VirtualClock, rows: int
) -> None:
    for number in range(60):
        error = {"errorCode": "EXCHANGE_DOWN", "errorMessage": "not tried: Binance is down " * 3}
        put(world, clock, f"desk-{number:02}", 20, outcome="DEFERRED", **error)
    put(world, clock, "bob", 3, outcome="REJECTED", errorCode="INVALID_API_KEY", errorMessage="refused")
    terminal = start("status", "--watch", "--every", "1", NO_COLOR="1", LINES=str(rows))
    terminal.wait_for("61 accounts: 0 ok")
    terminal.type("\x03")
    assert terminal.end() == 0
    screen = terminal.output.partition("\x1b[?1049h")[2].partition("61 accounts: 0 ok")[0].splitlines()
    assert len(screen) < rows
    assert any(line.startswith("bob: INVALID_API_KEY: refused") for line in screen)
    assert any(line.startswith("60 accounts: EXCHANGE_DOWN: not tried") for line in screen)
    shown = sum(line.startswith("  desk-") for line in screen)
    assert any(line.startswith(f"... {60 - shown} more: {60 - shown} failing") for line in screen)
    left = terminal.output.rpartition("\x1b[?1049l")[2]
    assert left.count("DEFERRED") == 20  # once it has ended, as `status` without --watch shows it
    assert "(20 of 60, --not-ok lists them)" in left


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80])
def test_the_list_of_accounts_fits_too(start: Start, world: World, columns: int) -> None:
    world.put_row("a-long-name-of-an-account-" * 2, secretId="listenkeys/a-long-name-of-a-secret-" * 2)
    world.put_row("bob", enabled=False)
    terminal = start("accounts", "list", columns=columns, NO_COLOR="1")
    assert terminal.end() == 0
    lines = terminal.output.splitlines()
    assert max(map(len, lines)) <= columns
    assert [line.split()[-2] for line in lines[1:]] == ["yes", "no"]


def test_watch_refreshes_until_ctrl_c_and_leaves_the_last_status(
    start: Start, world: World, clock: VirtualClock
) -> None:
    put(world, clock, "alice", 44)
    terminal = start("status", "--watch", "--every", "1", NO_COLOR="1")
    terminal.wait_for("alice")
    put(world, clock, "bob", 33)
    terminal.wait_for("bob")
    terminal.type("\x03")
    assert terminal.end() == 0
    left = terminal.output.rpartition("\x1b[?1049l")[2]  # back from the alternate screen
    assert "bob" in left
    assert "Traceback" not in terminal.output
    assert "2 accounts: 2 ok" in left
