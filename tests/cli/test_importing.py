"""`listenkeys accounts import`: what is said, and the secrets and rows as they are afterwards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from listenkey_keeper.cli.registry import Registry
from listenkeys.products import NOT_KEPT
from local.invoke import LocalFunction
from local.world import World
from tests.faults.matrix import TICK

from .conftest import AwsFaults, Run
from .test_accounts import OTHER, PRODUCT, row, secret, secret_names

Import = Callable[..., Result]
SWEEP = "The next sweep, within 5 minutes, creates their listenKeys.\n`listenkeys renew` does it now.\n"
RENEWAL = (
    "The next renewal uses the new API keys, in 30 minutes at most.\n"
    "`listenkeys renew --force` uses them now. "
    "A wrong API key then shows as REJECTED, CHANGED or RECREATED.\n"
)
BOTH = "listenkeys/alice, listenkeys/bob: 2 accounts added\n"
EMPTY = "there is no account in the file: each line is name,product,API key[,secret]"
ID = "an account's id must be 1 to 64 of A-Z a-z 0-9 . _ -"
NO_KEY = "that is not an API key: it may have only letters, digits, - and _"
FORMAT = "name,product,API key[,secret]"
READABLE = "the function reads only secrets under listenkeys/: name it listenkeys/NAME"
CORRECT = "listenkeys: nothing was changed: correct these lines, and run the same command again\n"


def key(name: str) -> str:
    """Return the API key of an account; it must never be seen again."""
    return f"CANARY{name}".ljust(64, "7")


@pytest.fixture
def imported(run: Run, tmp_path: Path) -> Import:
    """Import these lines; KEY stands for an API key."""

    def run_import(*lines: str, options: tuple[str, ...] = ()) -> Result:
        text = "\n".join(lines).replace("KEY", key("x"))
        (tmp_path / "accounts.csv").write_text(text)
        done = run("accounts", "import", "accounts.csv", *options)
        assert "CANARY" not in done.output
        return done

    return run_import


def line(name: str, product: str = "usdm", *secret: str) -> str:
    return ",".join([name, product, key(name), *secret])


def rows(world: World) -> dict[str, dict[str, str]]:
    """Return the rows, without their types."""
    table = world.aws.outputs["AccountsTableName"]
    items = world.aws.client("dynamodb").scan(TableName=table)["Items"]
    plain = [{name: str(*value.values()) for name, value in item.items()} for item in items]
    return {item.pop("accountId"): item for item in plain}


def versions(world: World, name: str) -> int:
    answer = world.aws.client("secretsmanager").list_secret_version_ids(SecretId=name, IncludeDeprecated=True)
    return len(answer["Versions"])


def test_accounts_go_where_their_lines_say_and_are_renewed(
    imported: Import, world: World, function: LocalFunction
) -> None:
    for name in ("alice", "bob", "carol", "dave"):
        world.exchange.add_account(key(name))
    done = imported(
        line("alice", "usdm", "listenkeys/olivia"),
        line("bob", "coinm", "listenkeys/olivia"),
        line("carol", "usdm", "listenkeys/oscar"),
        line("dave"),
    )
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "listenkeys/olivia: 2 accounts added\nlistenkeys/oscar: 1 account added\n"
        "listenkeys/dave: 1 account added\n4 accounts added.\n" + SWEEP
    )
    assert secret(world, "listenkeys/olivia") == {"alice": key("alice"), "bob": key("bob")}
    assert secret(world, "listenkeys/oscar") == {"carol": key("carol")}
    assert secret(world, "listenkeys/dave") == {"apiKey": key("dave")}
    olivia = {"secretId": "listenkeys/olivia"}
    assert rows(world) == {
        "alice": {"product": "usdm", **olivia, "secretField": "alice"},
        "bob": {"product": "coinm", **olivia, "secretField": "bob"},
        "carol": {"product": "usdm", "secretId": "listenkeys/oscar", "secretField": "carol"},
        "dave": {"product": "usdm"},
    }
    function.invoke(TICK)
    assert [world.current(name)["outcome"] for name in ("alice", "bob", "carol", "dave")] == ["CREATED"] * 4


def test_the_option_is_the_secret_of_lines_that_name_none(imported: Import, world: World) -> None:
    lines = [line("alice"), line("bob", "usdm", "listenkeys/olivia"), line("carol", "usdm", "")]
    done = imported(*lines, options=("--secret", "listenkeys/all"))
    assert done.stdout == (
        "listenkeys/all: 2 accounts added\nlistenkeys/olivia: 1 account added\n3 accounts added.\n" + SWEEP
    )
    assert secret_names(world) == ["listenkeys/all", "listenkeys/olivia"]


def test_secrets_of_one_account_have_a_line_together(imported: Import, world: World) -> None:
    known = [f"a{number}" for number in range(7)]
    for name in known:
        world.add_account(name, OTHER)
    lines = [line(name) for name in ("alice", "bob", *known)]
    five = ", ".join(f"listenkeys/{name}" for name in known[:5])
    done = imported(*lines, options=("--replace",))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "listenkeys/alice, listenkeys/bob: 2 accounts added\n"
        f"{five} and 2 more: 7 accounts replaced\n2 accounts added, 7 replaced.\n{SWEEP}{RENEWAL}"
    )
    assert secret(world, "listenkeys/alice") == {"apiKey": key("alice")}


def test_an_accounts_own_secret_can_be_shared(imported: Import, world: World) -> None:
    done = imported(line("alice"), line("bob", "usdm", "listenkeys/alice"))
    assert done.stdout == f"listenkeys/alice: 2 accounts added\n2 accounts added.\n{SWEEP}"
    assert secret(world, "listenkeys/alice") == {"apiKey": key("alice"), "bob": key("bob")}


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff{0}\r\n\r\n{1}\r\n",
        "{0}\n  \n,,,\n# bob's\n #dave,usdm,x\n{1}",
        " alice , usdm ,\t{2} \n{1},,",
        '"alice", "usdm", "{2}", ""\n{1}',
    ],
    ids=["windows", "blank", "spaces", "quotes"],
)
def test_a_file_is_read_as_editors_and_spreadsheets_write_it(run: Run, world: World, text: str) -> None:
    stdin = text.format(line("alice"), line("bob"), key("alice"))
    done = run("accounts", "import", "-", stdin=stdin)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{BOTH}2 accounts added.\n{SWEEP}", "")
    assert secret(world, "listenkeys/alice") == {"apiKey": key("alice")}
    assert rows(world) == {"alice": {"product": "usdm"}, "bob": {"product": "usdm"}}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("a/b,usdm,KEY", ID),
        (",usdm,KEY", ID),
        ("KEY,usdm,erin", "the name looks like an API key, and is not shown"),
        ("erin,moon,KEY", f"{PRODUCT}, not 'moon'"),
        ("erin,,KEY", f"{PRODUCT}, not ''"),
        ("erin,KEY,usdm", PRODUCT),
        ("erin,spot,KEY", f"{PRODUCT}, not 'spot' ({NOT_KEPT['spot']})"),
        ("erin,usdm,KEY!", NO_KEY),
        ("erin,usdm,,listenkeys/x", NO_KEY),
        ("erin,usdm,listenkeys/x,KEY", NO_KEY),
        ("erin,usdm,sparekey01,KEY", READABLE),
        ("erin,usdm,KEY,olivia", READABLE),
        (
            "erin,usdm,KEY,listenkeys/o b",
            "the secret's name 'listenkeys/o b' has ' ': only letters, digits and /_+=.@- are allowed",
        ),
        ("erin;usdm;KEY", f"the values must be separated by commas, not by semicolons: {FORMAT}"),
        ("erin\tusdm\tKEY", f"the values must be separated by commas, not by tabs: {FORMAT}"),
        ("erin", f"a line has 3 or 4 values, {FORMAT}; this has 1"),
        ("erin,KEY", f"a line has 3 or 4 values, {FORMAT}; this has 2"),
        ("erin,usdm,KEY,,KEY", f"a line has 3 or 4 values, {FORMAT}; this has 5"),
        ('erin,usdm,"KEY', "the quotes are not those of CSV"),
        ("alice,usdm,KEY", "alice is on line 1 too"),
        (f"erin,usdm,{key('alice')}", "erin has the API key and the product of alice on line 1"),
        ("Account,Product,Key", "this is a header: delete it"),
        (
            "apiKey,usdm,KEY,listenkeys/alice",
            "field apiKey of secret listenkeys/alice is for alice's API key: choose another field or secret",
        ),
        (
            "erin,usdm,KEY,listenkeys/all",
            "field erin of secret listenkeys/all is for zoe's API key: choose another field or secret",
        ),
    ],
)  # fmt: skip
def test_every_bad_line_is_named_and_nothing_is_changed(
    imported: Import, world: World, faults: AwsFaults, bad: str, says: str
) -> None:
    world.put_row("zoe", secretId="listenkeys/all", secretField="erin")
    done = imported(line("alice"), "", bad, line("bob"), "frank,sun,KEY")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"line 3: {says}\nline 5: {PRODUCT}, not 'sun'\n{CORRECT}"
    assert set(faults.calls) == {"DescribeStacks", "Scan"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("accounts.csv", b"", EMPTY),
        ("accounts.csv", b"\n,,\n", EMPTY),
        ("accounts.csv", "alice".encode("utf-16"), "the file is not text in UTF-8: save it as CSV UTF-8"),
        (key("x"), b"", "the file could not be read: No such file or directory"),
        (".", b"", "the file could not be read: Is a directory"),
    ],
)  # fmt: skip
def test_a_file_without_accounts_is_refused(
    run: Run, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / "accounts.csv").write_bytes(content)
    done = run("accounts", "import", name)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"listenkeys: {says}\n")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["alice"], "that of alice has 7: check it"),
        (list("abcdefg"), "those of a, b, c, d, e and 2 more have more or fewer: check them"),
    ],
)
def test_api_keys_of_another_length_are_pointed_out_in_one_line(
    imported: Import,
    world: World,
    faults: AwsFaults,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    says: str,
) -> None:
    # The local environment's own keys are short.
    monkeypatch.setenv("AWS_ENDPOINT_URL", faults.url.replace("127.0.0.1", "localhost"))
    lines = [f"{name},usdm,CANARY{number}" for number, name in enumerate(names)]
    note = f"note: Binance's API keys have 64 characters, {says}\n"
    done = imported(*lines, line("bob"), options=("--dry-run",))
    assert (done.exit_code, done.stderr) == (0, note)
    done = imported(*lines, line("bob"))
    assert (done.exit_code, done.stderr) == (0, note)
    assert f"{len(names) + 1} accounts added.\n" in done.stdout


def test_accounts_that_are_there_stay_as_they_are(imported: Import, world: World) -> None:
    world.add_account("alice", OTHER, product="coinm")
    world.put_row("bob", product="spot")
    lines = [line("alice", "coinm"), line("bob", "usdm", "listenkeys/alice")]
    done = imported(*lines)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "2 accounts already there, unchanged.\n", "")
    done = imported(*lines, line("carol"))
    assert (done.exit_code, done.stdout) == (
        0,
        f"listenkeys/carol: 1 account added\n1 account added, 2 already there, unchanged.\n{SWEEP}",
    )
    assert rows(world) == {
        "alice": {"product": "coinm"},
        "bob": {"product": "spot"},
        "carol": {"product": "usdm"},
    }
    assert secret(world, "listenkeys/alice") == {"apiKey": OTHER}
    assert secret_names(world) == ["listenkeys/alice", "listenkeys/carol"]


def test_replace_writes_the_keys_of_accounts_where_their_rows_say(imported: Import, world: World) -> None:
    world.put_secret("listenkeys/all", {"a": OTHER, "note": "ours"})
    world.put_row("alice", secretId="listenkeys/all", secretField="a", enabled=False)
    world.add_account("bob", OTHER, product="coinm")
    before = rows(world)
    done = imported(
        line("alice", "usdm", "listenkeys/all"), line("bob", "coinm"),
        line("carol", "usdm", "listenkeys/all"), line("dave"),
        options=("--replace",),
    )  # fmt: skip
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "listenkeys/all: 1 account added, 1 replaced\nlistenkeys/dave: 1 account added\n"
        f"listenkeys/bob: 1 account replaced\n2 accounts added, 2 replaced.\n{SWEEP}"
        + RENEWAL.replace("--force", "--force bob")  # alice is disabled
    )
    assert secret(world, "listenkeys/all") == {"a": key("alice"), "note": "ours", "carol": key("carol")}
    assert secret(world, "listenkeys/bob") == {"apiKey": key("bob")}
    assert rows(world) == {
        **before,
        "carol": {"product": "usdm", "secretId": "listenkeys/all", "secretField": "carol"},
        "dave": {"product": "usdm"},
    }


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("alice,coinm,KEY", (), "the product of alice is usdm: the import does not change it"),
        (
            "alice,usdm,KEY,listenkeys/alice",
            (),
            "alice's API key is in secret listenkeys/all, and import does not move it: `listenkeys "
            "accounts add --replace --secret` does",
        ),
        (
            "alice,usdm,KEY",
            ("--secret", "listenkeys/new"),
            "alice's API key is in secret listenkeys/all, and import does not move it: `listenkeys "
            "accounts add --replace --secret` does",
        ),
    ],
)
@pytest.mark.parametrize("replace", [("--replace",), ()], ids=["replace", "add"])
def test_a_line_that_its_row_contradicts_is_refused(
    imported: Import, world: World, text: str, options: tuple[str, ...], says: str, replace: tuple[str, ...]
) -> None:
    world.put_secret("listenkeys/all", {"alice": OTHER})
    world.put_row("alice", secretId="listenkeys/all", secretField="alice")
    done = imported(text, line("carol"), options=(*replace, *options))
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"line 1: {says}\n{CORRECT}")
    assert secret(world, "listenkeys/all") == {"alice": OTHER}
    assert sorted(rows(world)) == ["alice"]


def test_replace_does_not_touch_an_account_whose_row_is_broken(imported: Import, world: World) -> None:
    world.put_row("bob", product="spot")
    done = imported(line("bob"), options=("--replace",))
    why = f"AccountsTable row: product spot: {NOT_KEPT['spot']}"
    says = f"bob cannot be changed ({why}): correct the row, or remove the account and add it again"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"line 1: {says}\n{CORRECT}")
    assert secret_names(world) == []


def test_a_secret_may_be_named_as_its_row_does_not(imported: Import, world: World) -> None:
    world.put_secret("listenkeys/all", {"alice": OTHER})
    arn = world.aws.client("secretsmanager").describe_secret(SecretId="listenkeys/all")["ARN"]
    world.put_row("alice", secretId=arn, secretField="alice")
    done = imported(line("alice", "usdm", "listenkeys/all"), options=("--replace",))
    uses = RENEWAL.replace("--force", "--force alice")
    assert (done.exit_code, done.stdout) == (0, f"{arn}: 1 account replaced\n1 account replaced.\n{uses}")
    assert secret(world, "listenkeys/all") == {"alice": key("alice")}


def test_replace_suggests_to_renew_the_accounts_or_their_secret(imported: Import, world: World) -> None:
    names = ["-x", "alice", "bob", "carol", "dave", "erin"]
    world.put_secret("listenkeys/all", dict.fromkeys(names, OTHER))
    for name in names:
        world.put_row(name, secretId="listenkeys/all", secretField=name)
    lines = [line(name) for name in reversed(names)]
    for some, which in ((lines, "--secret listenkeys/all"), (lines[-3:], "-- -x alice bob")):
        said = imported(*some, options=("--replace",)).stdout
        assert f"`listenkeys renew --force {which}` uses them now." in said


def test_a_dry_run_says_what_goes_into_which_secret_and_changes_nothing(
    imported: Import, world: World, faults: AwsFaults
) -> None:
    world.put_row("alice", secretId="listenkeys/all", secretField="alice")
    world.add_account("bob", OTHER)
    before = rows(world)
    lines = [line(name, "usdm", "listenkeys/all") for name in ("alice", "carol", "dave")] + [line("erin")]
    for options, all_, sums in (
        ((), "2 accounts to add", "3 accounts to add, 1 already there, unchanged."),
        (("--replace",), "2 accounts to add, 1 to replace", "3 accounts to add, 1 to replace."),
    ):
        done = imported(*lines, options=("--dry-run", *options))
        assert (done.exit_code, done.stderr) == (0, "")
        assert done.stdout == (
            f"listenkeys/all: {all_}\nlistenkeys/erin: 1 account to add\n{sums}\n"
            "dry run: nothing was changed, and no secret was read\n"
        )
    assert set(faults.calls) == {"DescribeStacks", "Scan"}
    found = json.loads(imported(*lines, options=("--dry-run", "--json")).stdout)
    assert (found["dryRun"], found["added"]) == (True, ["carol", "dave", "erin"])
    assert imported("erin,sun,KEY", options=("--dry-run",)).exit_code == 2
    assert (rows(world), secret_names(world)) == (before, ["listenkeys/bob"])


def test_an_api_key_of_another_account_of_the_secret_is_refused(imported: Import, world: World) -> None:
    world.put_secret("listenkeys/all", {"alice": key("alice"), "apiKey": key("carol")})
    world.put_row("alice", secretId="listenkeys/all", secretField="alice")
    copied = f"bob,usdm,{key('alice')},listenkeys/all"
    done = imported(copied, line("dave"))
    assert (done.exit_code, done.stdout) == (
        1,
        f"listenkeys/dave: 1 account added\n1 account added, 1 failed.\n{SWEEP}",
    )
    taken = "bob has the API key and the product of alice, which is in this secret already"
    assert done.stderr == f"listenkeys: bob failed: {taken}\n"
    # Not what another product, or an account that gets another API key now, has.
    assert imported(copied.replace("usdm", "COINM")).exit_code == 0
    swapped = [f"alice,usdm,{key('x')},listenkeys/all", f"erin,usdm,{key('alice')},listenkeys/all"]
    assert imported(*swapped, options=("--replace",)).exit_code == 0
    assert secret(world, "listenkeys/all") == {
        "alice": key("x"), "apiKey": key("carol"), "bob": key("alice"), "erin": key("alice"),
    }  # fmt: skip


def deleted(world: World) -> None:
    world.put_secret("listenkeys/bad", {"note": "ours"})
    world.aws.client("secretsmanager").delete_secret(SecretId="listenkeys/bad", RecoveryWindowInDays=30)


def no_object(world: World) -> None:
    world.aws.client("secretsmanager").create_secret(Name="listenkeys/bad", SecretString="CANARYtext")


def long(world: World) -> None:
    world.put_secret("listenkeys/bad", {"others": "x" * (65536 - 120)})


def held(world: World) -> None:
    world.put_secret("listenkeys/bad", {"bob": OTHER, "carol": OTHER})


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (deleted, "the secret listenkeys/bad is being deleted: pass --replace to restore it"),
        (
            no_object,
            "the secret listenkeys/bad is not a JSON object and was not changed: repair it (docs/alarms.md, "
            "A shared secret is broken); to add an account, you can also pass another --secret, or --replace "
            "if it is the account's own",
        ),
        (long, "the secret listenkeys/bad would exceed its limit of 64 KiB: use another with --secret"),
        (
            held,
            "secret listenkeys/bad already holds another API key in field bob, carol: overwrite it with "
            "--replace",
        ),
    ],
    ids=["deleted", "no object", "too long", "held"],
)  # fmt: skip
def test_a_secret_that_cannot_be_written_fails_its_accounts_alone(
    imported: Import, world: World, prepare: Callable[[World], None], says: str
) -> None:
    prepare(world)
    lines = [line("alice"), line("bob", "usdm", "listenkeys/bad"), line("carol", "usdm", "listenkeys/bad")]
    lines.append(line("dave", "usdm", "listenkeys/good"))
    done = imported(*lines)
    assert (done.exit_code, done.stderr) == (1, f"listenkeys: bob, carol failed: {says}\n")
    assert done.stdout == (
        "listenkeys/good: 1 account added\nlistenkeys/alice: 1 account added\n"
        f"2 accounts added, 2 failed.\n{SWEEP}"
    )
    assert sorted(rows(world)) == ["alice", "dave"]


def test_a_new_secret_is_not_longer_than_64_kib(imported: Import, world: World) -> None:
    lines = [line(f"bot-{number:03}", "usdm", "listenkeys/all") for number in range(900)]
    done = imported(*lines)
    assert (done.exit_code, done.stdout) == (1, "900 accounts failed.\n")
    assert "failed: the secret listenkeys/all would exceed its limit of 64 KiB" in done.stderr
    assert secret_names(world) == []


def test_replace_restores_a_secret_and_overwrites_what_is_left(imported: Import, world: World) -> None:
    world.put_secret("listenkeys/gone", {"bob": OTHER, "note": "ours"})
    world.aws.client("secretsmanager").delete_secret(SecretId="listenkeys/gone", RecoveryWindowInDays=30)
    world.aws.client("secretsmanager").create_secret(Name="listenkeys/alice", SecretString="CANARYtext")
    done = imported(line("alice"), line("bob", "usdm", "listenkeys/gone"), options=("--replace",))
    assert (done.exit_code, done.stderr) == (
        0,
        "the secret listenkeys/alice is not a JSON object: the command replaces its whole content\n"
        "the secret listenkeys/gone is being deleted: the command restores it, with all that is in it\n",
    )
    assert done.stdout == (
        f"listenkeys/gone: 1 account added\nlistenkeys/alice: 1 account added\n2 accounts added.\n{SWEEP}"
    )
    assert secret(world, "listenkeys/alice") == {"apiKey": key("alice")}
    assert secret(world, "listenkeys/gone") == {"bob": key("bob"), "note": "ours"}


def test_a_shared_secret_that_is_no_object_is_not_overwritten(imported: Import, world: World) -> None:
    no_object(world)
    done = imported(line("bad"), line("bob", "usdm", "listenkeys/bad"), options=("--replace",))
    assert (done.exit_code, done.stdout) == (1, "2 accounts failed.\n")
    assert done.stderr.startswith(
        "listenkeys: bad, bob failed: the secret listenkeys/bad is not a JSON object"
    )


@pytest.mark.parametrize("operation", ["PutItem", "CreateSecret"])
def test_the_same_command_again_finishes_what_a_failure_interrupted(
    imported: Import, world: World, faults: AwsFaults, operation: str
) -> None:
    lines = [line(name, "usdm", "listenkeys/all") for name in ("alice", "bob")] + [line("carol")]

    def next_one(answer: bytes) -> bytes:
        faults.fail(operation, "AccessDeniedException")
        return answer

    faults.edits[operation] = next_one
    done = imported(*lines)
    failed = ["bob", "carol"] if operation == "PutItem" else ["carol"]
    assert (done.exit_code, sorted(rows(world))) == (1, sorted({"alice", "bob", "carol"} - set(failed)))
    assert done.stderr == (
        f"listenkeys: {', '.join(failed)} failed: access denied to these AWS credentials: they do not allow "
        f"{operation}; choose another with --profile\n"
    )
    count = 3 - len(failed)
    accounts = "account" if count == 1 else "accounts"
    assert done.stdout == (
        f"listenkeys/all: {count} {accounts} added\n{count} {accounts} added, {len(failed)} failed.\n{SWEEP}"
    )

    faults.faults.clear()
    faults.edits.clear()
    done = imported(*lines)
    left = f"{len(failed)} account{'s' * (len(failed) > 1)} added, {count} already there, unchanged.\n{SWEEP}"
    shared = "listenkeys/all: 1 account added\n" if operation == "PutItem" else ""
    own = "listenkeys/carol: 1 account added\n"
    assert (done.exit_code, done.stderr, done.stdout) == (0, "", shared + own + left)
    assert sorted(rows(world)) == ["alice", "bob", "carol"]
    assert secret(world, "listenkeys/all") == {"alice": key("alice"), "bob": key("bob")}
    assert versions(world, "listenkeys/all") == 1


def test_ctrl_c_leaves_what_the_same_command_finishes(
    imported: Import, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line("alice", "usdm", "listenkeys/all"), line("bob", "usdm", "listenkeys/all"), line("carol")]

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "write_row", interrupted)
        assert imported(*lines).exit_code == 130
    assert rows(world) == {}
    done = imported(*lines)
    assert done.stdout == (
        f"listenkeys/all: 2 accounts added\nlistenkeys/carol: 1 account added\n3 accounts added.\n{SWEEP}"
    )


def test_an_account_that_another_command_added_meanwhile_is_not_touched(
    imported: Import, world: World, faults: AwsFaults
) -> None:
    faults.fail("PutItem", "ConditionalCheckFailedException")
    done = imported(line("alice"))
    assert (done.exit_code, done.stdout) == (1, "1 account failed.\n")
    assert done.stderr == (
        "listenkeys: alice failed: another command has just added alice: look at it before you pass "
        "--replace\n"
    )


def test_the_table_and_each_secret_are_read_and_written_once(
    imported: Import, world: World, faults: AwsFaults
) -> None:
    world.put_secret("listenkeys/all", {"note": "ours"})
    for name in ("bob", "carol"):
        world.put_row(name, secretId="listenkeys/all", secretField=name)
    lines = [line(name, "usdm", "listenkeys/all") for name in ("alice", "bob", "carol", "dave")]
    assert imported(*lines, options=("--replace",)).exit_code == 0
    assert faults.calls == [
        "DescribeStacks",
        "Scan",
        "BatchGetItem",
        "GetSecretValue",
        "PutSecretValue",
        "PutItem",
        "PutItem",
    ]
    assert secret(world, "listenkeys/all") == {
        "note": "ours", **{name: key(name) for name in ("alice", "bob", "carol", "dave")},
    }  # fmt: skip


def test_the_json_has_the_totals_and_the_ids(imported: Import, world: World) -> None:
    deleted(world)
    world.add_account("alice", OTHER)
    lines = [line("alice"), line("bob", "usdm", "listenkeys/all"), line("carol", "usdm", "listenkeys/bad")]
    for options in ((), ("--replace",)):
        done = imported(*lines, options=("--json", *options))
        found = json.loads(done.stdout)
        if not options:
            assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
            assert found == {
                "dryRun": False, "totals": {"added": 1, "replaced": 0, "alreadyThere": 1, "failed": 1},
                "added": ["bob"], "replaced": [], "alreadyThere": ["alice"], "failed": ["carol"],
            }  # fmt: skip
    assert (done.exit_code, found) == (0, {
        "dryRun": False, "totals": {"added": 1, "replaced": 2, "alreadyThere": 0, "failed": 0},
        "added": ["carol"], "replaced": ["alice", "bob"], "alreadyThere": [], "failed": [],
    })  # fmt: skip
    assert row(world, "carol") is not None


def test_no_traceback_shows_a_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError(arguments)

    monkeypatch.setattr(Registry, "place", broken)
    done = run("--debug", "accounts", "import", "-", stdin=line("alice"))
    assert (done.exit_code, "a bug in listenkeys" in done.stderr) == (2, True)
    assert "CANARY" not in done.output
