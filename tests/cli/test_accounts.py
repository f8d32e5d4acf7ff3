"""`listenkeys accounts`: rows and secrets as they are afterwards, and what is said."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from listenkey_keeper.cli.registry import Registry, Wanted
from listenkey_keeper.cli.stack import connect
from listenkeys.products import NOT_KEPT
from local.clock import VirtualClock
from local.front import Front
from local.invoke import LocalFunction
from local.world import World
from tests.faults.matrix import SWEEP, TICK
from tests.paths import ROOT

from .conftest import AwsFaults, Run

OTHER = "OTHERkey".ljust(64, "8")
PRODUCT = "the product must be one of usdm, coinm, portfolio, portfolio-pro, options"
ONLY = "only letters, digits and /_+=.@- are allowed"


def row(world: World, account_id: str) -> dict[str, Any] | None:
    table = world.aws.outputs["AccountsTableName"]
    answer = world.aws.client("dynamodb").get_item(TableName=table, Key={"accountId": {"S": account_id}})
    return answer.get("Item")


def secret(world: World, name: str) -> Any:
    return json.loads(world.aws.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])


def secret_names(world: World) -> list[str]:
    found = world.aws.client("secretsmanager").list_secrets(IncludePlannedDeletion=False)["SecretList"]
    return sorted(s["Name"] for s in found)


def test_an_added_account_has_a_secret_and_a_row_and_is_renewed(
    run: Run, world: World, function: LocalFunction, api_key: str
) -> None:
    world.exchange.add_account(api_key)
    done = run("accounts", "add", "alice", stdin=api_key + "\n")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "alice added (usdm); its API key is in field apiKey of secret listenkeys/alice.\n"
        "The next sweep, within 5 minutes, creates its listenKey.\n`listenkeys renew alice` does it now.\n"
    )
    assert row(world, "alice") == {"accountId": {"S": "alice"}, "product": {"S": "usdm"}}
    assert secret(world, "listenkeys/alice") == {"apiKey": api_key}
    function.invoke(TICK)
    assert world.current("alice")["outcome"] == "CREATED"


def test_an_api_key_that_is_not_as_long_as_binances_is_pointed_out(
    run: Run, faults: AwsFaults, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The local environment's own keys are short.
    monkeypatch.setenv("AWS_ENDPOINT_URL", faults.url.replace("127.0.0.1", "localhost"))
    note = "note: Binance's API keys have 64 characters, that of bob has 6: check it\n"
    for name, key, said in (("alice", "k" * 64, ""), ("bob", "badkey", note)):
        done = run("accounts", "add", name, stdin=key)
        assert (done.exit_code, done.stderr) == (0, said)
    own_host = (
        b"<member><ParameterKey>BinanceBaseUrl</ParameterKey>"
        b"<ParameterValue>https://stand-in.example</ParameterValue></member></Parameters>"
    )
    faults.edits["DescribeStacks"] = lambda answer: answer.replace(b"</Parameters>", own_host)
    assert run("accounts", "add", "carol", stdin="badkey").stderr == ""


def test_a_new_secret_is_under_the_stacks_kms_key(run: Run, world: World, api_key: str) -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/1a2b3c4d"
    found = connect(None, None, None)
    for name, parameters in (("alice", {"SecretsKmsKeyArn": key}), ("bob", {"SecretsKmsKeyArn": ""})):
        stack = replace(found, parameters={**found.parameters, **parameters})
        Registry(stack).add(Wanted(name), lambda: api_key, print)
    client = world.aws.client("secretsmanager")
    assert client.describe_secret(SecretId="listenkeys/alice")["KmsKeyId"] == key
    assert "KmsKeyId" not in client.describe_secret(SecretId="listenkeys/bob")


def test_options_of_add_end_up_in_the_row(run: Run, world: World, api_key: str) -> None:
    options = ["--product", "coinm", "--secret", "listenkeys/all", "--field", "a1", "--no-create-if-missing"]
    options += ["--renew-after", "5", "--environment", "demo"]
    done = run("accounts", "add", "alice", *options, "--json", stdin=api_key)
    assert json.loads(done.stdout) == {
        "accountId": "alice",
        "product": "coinm",
        "environment": "demo",
        "enabled": True,
        "createIfMissing": False,
        "renewAfterMinutes": 5,
        "secretId": "listenkeys/all",
        "secretField": "a1",
        "problem": None,
        "replaced": False,
    }
    assert row(world, "alice") == {
        "accountId": {"S": "alice"},
        "product": {"S": "coinm"},
        "environment": {"S": "demo"},
        "secretId": {"S": "listenkeys/all"},
        "secretField": {"S": "a1"},
        "createIfMissing": {"BOOL": False},
        "renewAfterMinutes": {"N": "5"},
    }


def test_several_accounts_share_a_secret_and_its_other_fields_stay(
    run: Run, world: World, function: LocalFunction, api_key: str
) -> None:
    world.put_secret("listenkeys/all", {"note": "ours", "nested": {"a": [1]}})
    for name, key in (("alice", api_key), ("bob", OTHER)):
        world.exchange.add_account(key)
        assert run("accounts", "add", name, "--secret", "listenkeys/all", stdin=key).exit_code == 0
    assert secret(world, "listenkeys/all") == {
        "note": "ours",
        "nested": {"a": [1]},
        "alice": api_key,
        "bob": OTHER,
    }
    function.invoke(TICK)
    assert [world.current(name)["outcome"] for name in ("alice", "bob")] == ["CREATED", "CREATED"]


@pytest.mark.parametrize("arguments", [("alice", "{key}"), ("alice", "--", "{key}"), ("{key}",)])
def test_a_key_given_as_an_argument_is_refused_and_not_repeated(
    run: Run, world: World, api_key: str, arguments: tuple[str, ...]
) -> None:
    done = run("accounts", "add", *(text.format(key=api_key) for text in arguments), stdin=api_key)
    assert done.exit_code == 2
    assert api_key not in done.output
    assert "history" in done.stderr
    assert done.stderr.count("\n") == 1
    assert secret_names(world) == []


@pytest.mark.parametrize("command", ["enable", "disable", "set", "remove"])
def test_a_key_in_the_place_of_an_account_is_not_repeated(run: Run, api_key: str, command: str) -> None:
    done = run("accounts", command, api_key)
    assert done.exit_code == 2
    assert api_key not in done.output


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "two words",
        "{key}\n{key}\n",
        "{key}\r\nx",
        "k\x00y",
        "clé",
        "<script>",
        "a.b",
        "x" * 257,
    ],
)
def test_what_can_be_no_api_key_is_refused_and_nothing_is_written(
    run: Run, world: World, api_key: str, text: str
) -> None:
    done = run("accounts", "add", "alice", stdin=text.format(key=api_key))
    assert done.exit_code == 2
    assert "API key" in done.stderr
    assert done.stderr.count("\n") == 1
    assert api_key not in done.output
    assert secret_names(world) == []
    assert row(world, "alice") is None


@pytest.mark.parametrize("text", ["{key}\r\n", " {key} \n", "\ufeff{key}", "\t{key}"])
def test_what_a_clipboard_or_a_file_puts_around_a_key_is_not_part_of_it(
    run: Run, world: World, api_key: str, text: str
) -> None:
    assert run("accounts", "add", "alice", stdin=text.format(key=api_key)).exit_code == 0
    assert secret(world, "listenkeys/alice") == {"apiKey": api_key}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a/b",), "an account's id must be 1 to 64 of A-Z a-z 0-9 . _ -"),
        (("",), "an account's id must be 1 to 64 of A-Z a-z 0-9 . _ -"),
        (("alice", "--product", "moon"), f"{PRODUCT}, not 'moon'"),
        (("alice", "--product", "m" * 20), f"{PRODUCT}, not '{'m' * 20}'"),
        (("alice", "--product", "m" * 21), PRODUCT),
        (("alice", "--product", "spot"), f"{PRODUCT}, not 'spot' ({NOT_KEPT['spot']})"),
        (("alice", "--environment", "moon"), "--environment must be one of live, demo, testnet"),
        (
            ("alice", "--product", "portfolio", "--environment", "demo"),
            "Binance has no portfolio in the demo environment",
        ),
        *(
            (
                ("alice", "--renew-after", minutes),
                "--renew-after must be a whole number of minutes from 1 to 38, or default: the stack's "
                "RenewAfterMinutes",
            )
            for minutes in ("0", "39", "1.5", "-5", "soon", "", "\u0665", "5 ", "001")
        ),
        *(
            (
                ("alice", "--secret", name),
                "the function reads only secrets under listenkeys/: name it listenkeys/NAME",
            )
            for name in (
                "elsewhere/alice", "elsewhere/a b", "listenkeys/", "listenkeys/" + "n" * 502,
                "arn:aws:secretsmanager:eu-west-1:1:secret:other/a-abcdef",
            )
        ),
        (("alice", "--secret", "listenkeys/a b"), f"the secret's name 'listenkeys/a b' has ' ': {ONLY}"),
        (
            ("alice", "--secret", "listenkeys/ann\r"),
            f"the secret's name 'listenkeys/ann\\r' has '\\r': {ONLY} (was it read from a file with Windows "
            "line ends?)",
        ),
        (
            ("alice", "--secret", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:listenkeys/a-abcdef"),
            "there is no secret with this ARN: give a name instead, and it is created",
        ),
    ],
)  # fmt: skip
def test_add_refuses_what_the_function_could_not_use(
    run: Run, world: World, api_key: str, arguments: tuple[str, ...], says: str
) -> None:
    done = run("accounts", "add", *arguments, stdin=api_key)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"listenkeys: {says}\n")
    assert secret_names(world) == []


@pytest.mark.parametrize("same", [False, True])
def test_an_account_that_is_there_is_not_touched_without_replace(
    run: Run, world: World, api_key: str, same: bool
) -> None:
    world.add_account("alice", OTHER, product="coinm")
    before = row(world, "alice")
    done = run("accounts", "add", "alice", "--product", "options", stdin=OTHER if same else api_key)
    assert (done.exit_code, "alice already exists: `listenkeys" in done.stderr) == (2, True)
    assert secret(world, "listenkeys/alice") == {"apiKey": OTHER}
    assert row(world, "alice") == before


def test_replace_changes_the_key_and_nothing_else(
    run: Run, world: World, function: LocalFunction, api_key: str
) -> None:
    world.add_account("alice", OTHER, product="coinm", createIfMissing=True, note={"S": "mine"})
    before = row(world, "alice")
    world.exchange.add_account(api_key)
    done = run("accounts", "add", "alice", "--replace", stdin=api_key)
    assert done.exit_code == 0
    assert done.stdout == (
        "alice's API key is replaced (field apiKey of secret listenkeys/alice).\n"
        "The next renewal uses it, in 30 minutes at most.\n`listenkeys renew --force alice` does it now.\n"
    )
    assert row(world, "alice") == before
    assert secret(world, "listenkeys/alice") == {"apiKey": api_key}
    function.invoke(TICK)
    assert world.current("alice")["outcome"] == "CREATED"


def test_replace_changes_the_options_that_are_passed_with_it(run: Run, world: World, api_key: str) -> None:
    world.add_account("alice", OTHER, createIfMissing=False, note={"S": "mine"})
    options = ["--product", "options", "--secret", "listenkeys/all", "--create-if-missing"]
    done = run("accounts", "add", "alice", "--replace", *options, stdin=api_key)
    assert done.stdout.splitlines()[:3] == [
        "alice's API key is replaced (field alice of secret listenkeys/all).",
        "It was in field apiKey of secret listenkeys/alice, which may still hold the old one.",
        "It is now options, live; it was usdm, live.",
    ]
    assert row(world, "alice") == {
        "accountId": {"S": "alice"},
        "product": {"S": "options"},
        "secretId": {"S": "listenkeys/all"},
        "secretField": {"S": "alice"},
        "createIfMissing": {"BOOL": True},
        "note": {"S": "mine"},
    }
    assert secret(world, "listenkeys/all") == {"alice": api_key}


def test_replace_takes_an_interval_of_its_own_away_again(run: Run, world: World, api_key: str) -> None:
    world.add_account("alice", OTHER, renewAfterMinutes={"N": "5"})
    done = run("accounts", "add", "alice", "--replace", "--renew-after", "default", stdin=api_key)
    assert (done.exit_code, row(world, "alice")) == (0, {"accountId": {"S": "alice"}})


@pytest.mark.parametrize("options", [(), ("--secret", "listenkeys/all")])
def test_replace_of_a_name_that_is_not_there_adds_nothing(
    run: Run, world: World, api_key: str, options: tuple[str, ...]
) -> None:
    world.add_account("alice", OTHER)
    world.put_secret("listenkeys/all", {"alice": OTHER})
    done = run("accounts", "add", "alcie", "--replace", *options, stdin=api_key)
    assert done.exit_code == 2
    assert "there is no account alcie, so no API key to replace: did you mean alice? " in done.stderr
    assert row(world, "alcie") is None
    assert secret_names(world) == ["listenkeys/alice", "listenkeys/all"]
    assert secret(world, "listenkeys/all") == {"alice": OTHER}


def test_replacing_the_key_of_a_disabled_account_says_that_it_is_disabled(
    run: Run, world: World, api_key: str
) -> None:
    world.add_account("alice", OTHER, enabled=False)
    done = run("accounts", "add", "alice", "--replace", stdin=api_key)
    assert done.stdout.splitlines()[1:] == [
        "The account is disabled: `listenkeys accounts enable alice` enables it."
    ]


def test_a_broken_row_is_not_written_over(run: Run, world: World, api_key: str) -> None:
    world.put_row("alice", product="spot")
    done = run("accounts", "add", "alice", "--replace", stdin=api_key)
    assert done.exit_code == 2
    assert "Binance removed its listenKeys" in done.stderr
    assert secret_names(world) == []


def test_a_key_is_not_written_where_the_function_cannot_read_it(run: Run, world: World, api_key: str) -> None:
    world.put_row("alice", secretId="elsewhere/alice")
    done = run("accounts", "add", "alice", "--replace", stdin=api_key)
    assert (done.exit_code, "only secrets under listenkeys/" in done.stderr) == (2, True)
    assert secret_names(world) == []


def test_an_add_that_stopped_half_way_is_finished_by_another(
    run: Run, world: World, function: LocalFunction, faults: AwsFaults, api_key: str
) -> None:
    world.exchange.add_account(api_key)
    faults.fail("PutItem", "AccessDeniedException")
    done = run("accounts", "add", "alice", stdin=api_key)
    assert done.exit_code == 2
    assert api_key not in done.output
    tick = function.invoke(TICK)
    assert tick.report is not None
    assert (tick.report["accounts"], tick.report["rejected"]) == (0, 0)
    faults.faults.clear()
    assert run("accounts", "add", "alice", stdin=api_key).exit_code == 0
    assert secret(world, "listenkeys/alice") == {"apiKey": api_key}
    function.invoke(TICK)
    assert world.current("alice")["outcome"] == "CREATED"


def test_another_command_that_was_faster_is_named(
    run: Run, world: World, faults: AwsFaults, api_key: str
) -> None:
    world.add_account("bob", OTHER)
    for operation in ("PutItem", "UpdateItem"):
        faults.fail(operation, "ConditionalCheckFailedException")
    assert "another command has just added alice" in run("accounts", "add", "alice", stdin=api_key).stderr
    assert "there is no account bob" in run("accounts", "disable", "bob").stderr


def test_a_secret_that_could_not_be_written_leaves_no_row(
    run: Run, world: World, faults: AwsFaults, api_key: str
) -> None:
    faults.fail("CreateSecret", "AccessDeniedException")
    assert run("accounts", "add", "alice", stdin=api_key).exit_code == 2
    assert row(world, "alice") is None


def test_a_key_that_no_row_names_is_not_written_over_silently(run: Run, world: World, api_key: str) -> None:
    world.put_secret("listenkeys/alice", {"apiKey": OTHER})
    done = run("accounts", "add", "alice", stdin=api_key)
    assert (done.exit_code, row(world, "alice")) == (2, None)
    assert "overwrite it with --replace" in done.stderr
    assert secret(world, "listenkeys/alice") == {"apiKey": OTHER}
    assert run("accounts", "add", "alice", "--replace", stdin=api_key).exit_code == 0
    assert secret(world, "listenkeys/alice") == {"apiKey": api_key}


@pytest.mark.parametrize("by_arn", [False, True])
@pytest.mark.parametrize("replace", [False, True])
def test_another_accounts_key_is_never_written_over(
    run: Run, world: World, api_key: str, by_arn: bool, replace: bool
) -> None:
    world.put_secret("listenkeys/bob", {"apiKey": OTHER})
    arn = world.aws.client("secretsmanager").describe_secret(SecretId="listenkeys/bob")["ARN"]
    world.put_row("bob", **({"secretId": arn} if by_arn else {}))
    options = ["--secret", "listenkeys/bob", "--field", "apiKey", *(["--replace"] if replace else [])]
    done = run("accounts", "add", "alice", *options, stdin=api_key)
    assert (done.exit_code, done.stderr) == (
        2,
        "listenkeys: field apiKey of secret listenkeys/bob is for bob's API key: choose another field or "
        "secret\n",
    )
    assert secret(world, "listenkeys/bob") == {"apiKey": OTHER}


@pytest.mark.parametrize("content", ["not json", '["a"]', '"CANARYtext"', ""])
def test_a_secret_that_is_not_a_json_object_stays_as_it_is(
    run: Run, world: World, api_key: str, content: str
) -> None:
    client = world.aws.client("secretsmanager")
    client.create_secret(Name="listenkeys/all", SecretString=content or "x")
    done = run("accounts", "add", "alice", "--secret", "listenkeys/all", "--replace", stdin=api_key)
    assert done.exit_code == 2
    assert "is not a JSON object and was not changed" in done.stderr
    assert "CANARY" not in done.output
    assert client.get_secret_value(SecretId="listenkeys/all")["SecretString"] == (content or "x")
    assert row(world, "alice") is None


def test_a_secret_does_not_grow_over_its_limit(run: Run, world: World, api_key: str) -> None:
    world.put_secret("listenkeys/all", {"others": "x" * (65536 - 80)})
    done = run("accounts", "add", "alice", "--secret", "listenkeys/all", stdin=api_key)
    assert done.exit_code == 2
    assert "limit of 64 KiB" in done.stderr
    assert row(world, "alice") is None


def test_a_secret_that_is_being_deleted_comes_back_only_with_replace(
    run: Run, world: World, faults: AwsFaults, api_key: str
) -> None:
    world.put_secret("listenkeys/alice", {"apiKey": OTHER, "note": "ours"})
    world.aws.client("secretsmanager").delete_secret(SecretId="listenkeys/alice", RecoveryWindowInDays=30)
    done = run("accounts", "add", "alice", stdin=api_key)
    assert done.exit_code == 2
    assert "is being deleted: pass --replace to restore it" in done.stderr
    assert run("accounts", "add", "alice", "--replace", stdin=api_key).exit_code == 0
    assert secret(world, "listenkeys/alice") == {"apiKey": api_key, "note": "ours"}


def test_disable_and_enable_change_nothing_but_that(run: Run, world: World, function: LocalFunction) -> None:
    world.add_account("alice", OTHER)
    world.add_account("bob", OTHER)
    done = run("accounts", "disable", "alice", "bob")
    said = "Their listenKeys expire within 60 minutes, and no alarm is raised."
    assert (done.exit_code, done.stdout) == (0, f"2 accounts disabled: alice, bob\n{said}\n")
    assert row(world, "alice") == {"accountId": {"S": "alice"}, "enabled": {"BOOL": False}}
    tick = function.invoke(TICK)
    assert tick.report is not None
    assert tick.report["accounts"] == 0
    assert run("accounts", "enable", "bob").stdout == (
        "bob is enabled. The next run renews it if it is due; `listenkeys renew bob` renews it now.\n"
    )
    done = run("accounts", "enable", "alice", "--json")
    assert [(a["accountId"], a["enabled"]) for a in json.loads(done.stdout)] == [("alice", True)]
    assert row(world, "alice") == {"accountId": {"S": "alice"}, "enabled": {"BOOL": True}}


def test_what_was_changed_before_an_error_is_printed(run: Run, world: World, faults: AwsFaults) -> None:
    names = ["alice", "bob", "carol"]
    for name in names:
        world.add_account(name, OTHER)

    def last(answer: bytes) -> bytes:
        faults.fail("UpdateItem", "AccessDeniedException")
        return answer

    faults.edits["UpdateItem"] = last
    done = run("accounts", "disable", *names)
    assert (done.exit_code, done.stdout.count("is disabled")) == (2, 1)
    assert done.stdout.startswith("alice is disabled.")
    assert "access denied" in done.stderr
    assert [(row(world, name) or {}).get("enabled") for name in names] == [{"BOOL": False}, None, None]


def test_set_changes_and_removes_an_interval_and_asks_for_no_key(
    run: Run, world: World, clock: VirtualClock, function: LocalFunction
) -> None:
    for name in ("alice", "bob"):
        world.add_account(name, name.ljust(64, "1"))
    function.invoke(TICK)
    done = run("accounts", "set", "alice", "--renew-after", "5")
    assert (done.exit_code, done.stdout) == (
        0,
        "alice is renewed by the next sweep once its listenKey is 5 minutes old.\n",
    )
    assert row(world, "alice") == {"accountId": {"S": "alice"}, "renewAfterMinutes": {"N": "5"}}
    clock.advance(minutes=5)
    sweep = function.invoke(SWEEP)
    assert sweep.report is not None
    assert (sweep.report["extended"], sweep.report["skipped"]) == (1, 1)

    done = run("accounts", "set", "alice", "bob", "--renew-after", "default", "--no-create-if-missing")
    said = "Each is renewed by the next sweep once its listenKey is 30 minutes old"
    said += " and gets an alarm instead of a new listenKey if Binance has none for it."
    assert (done.exit_code, done.stdout) == (0, f"2 accounts changed: alice, bob\n{said}\n")
    assert row(world, "alice") == {"accountId": {"S": "alice"}, "createIfMissing": {"BOOL": False}}
    clock.advance(minutes=5)
    sweep = function.invoke(SWEEP)
    assert sweep.report is not None
    assert sweep.report["skipped"] == 2

    run("accounts", "disable", "alice")
    done = run("accounts", "set", "alice", "--create-if-missing")
    said = "alice is disabled. After you enable it, it gets a new listenKey if Binance has none for it.\n"
    assert (done.exit_code, done.stdout) == (0, said)
    done = run("accounts", "set", "alice", "bob", "--create-if-missing")
    assert done.stdout.splitlines()[1:] == [
        "Each gets a new listenKey if Binance has none for it.",
        "These are disabled, and not renewed before you enable them: alice",
    ]


def test_set_corrects_a_row_whose_interval_makes_no_sense(run: Run, world: World) -> None:
    world.add_account("alice", OTHER, renewAfterMinutes="soon")
    assert "renewAfterMinutes must be a whole number (N) from 1 to 38" in run("accounts", "list").stdout
    done = run("accounts", "set", "alice", "--renew-after", "38", "--json")
    [alice] = json.loads(done.stdout)
    assert (alice["renewAfterMinutes"], alice["problem"]) == (38, None)


def test_set_corrects_a_wrong_product_without_the_api_key(
    run: Run, world: World, function: LocalFunction, clock: VirtualClock
) -> None:
    world.add_account("alice", OTHER, product="spot")
    world.add_account("bob", "b" * 64, product="coinm")
    function.invoke(TICK)
    clock.advance(minutes=5)

    done = run("accounts", "set", "alice", "bob", "--product", "USDM")

    said = "Each gets a listenKey of usdm at its next renewal (`listenkeys renew alice bob` does it now).\n"
    said = f"2 accounts changed: alice, bob\n{said}"
    assert (done.exit_code, done.stdout) == (0, said)
    clock.advance(minutes=25)
    function.invoke(TICK)
    assert [world.current(name)["product"] for name in ("alice", "bob")] == ["usdm", "usdm"]

    run("accounts", "set", "bob", "--environment", "demo")
    refused = run("accounts", "set", "alice", "bob", "--product", "portfolio")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Binance has no portfolio in the demo environment" in refused.stderr
    assert run("accounts", "set", "bob", "--product", "portfolio", "--environment", "live").exit_code == 0
    assert "must be one of usdm" in run("accounts", "set", "bob", "--product", "spots").stderr


def test_a_change_that_leaves_a_row_invalid_says_so(run: Run, world: World) -> None:
    world.put_row("alice", product="spot")
    world.add_account("bob", OTHER)
    for command in (("set", "--renew-after", "5"), ("enable",)):
        said = run("accounts", *command, "alice", "bob").stdout
        assert re.match(r"alice is still invalid: AccountsTable row: product spot.*\nbob is .*\n$", said)
    assert run("accounts", "disable", "alice").stdout.startswith("alice is disabled.")


@pytest.mark.parametrize(
    ("options", "says"),
    [((), "nothing to set: pass --renew-after"), (("--renew-after", "0"), "from 1 to 38")],
)
def test_set_of_nothing_or_of_nonsense_changes_nothing(
    run: Run, world: World, options: tuple[str, ...], says: str
) -> None:
    world.add_account("alice", OTHER)
    done = run("accounts", "set", "alice", *options)
    assert (done.exit_code, done.stderr.count("\n"), says in done.stderr) == (2, 1, True)
    assert row(world, "alice") == {"accountId": {"S": "alice"}}


@pytest.mark.parametrize(
    "command", [("enable",), ("disable",), ("set", "--renew-after", "5"), ("remove", "--yes")]
)
def test_an_account_that_is_not_there_is_not_made(
    run: Run, world: World, faults: AwsFaults, command: tuple[str, ...]
) -> None:
    world.put_row("norbert")
    done = run("accounts", *command, "nobert")
    meant = "there is no account nobert: did you mean norbert? `listenkeys accounts list` shows the accounts"
    assert (done.exit_code, done.stderr) == (2, f"listenkeys: {meant}\n")
    faults.fail("Scan", "AccessDeniedException")
    done = run("accounts", *command, "nobert")
    assert (done.exit_code, done.stderr) == (
        2,
        f"listenkeys: {meant.replace(' did you mean norbert?', '')}\n",
    )
    done = run("accounts", *command, "nobody")
    assert done.exit_code == 2
    assert done.stderr == (
        "listenkeys: there is no account nobody: `listenkeys accounts list` shows the accounts\n"
    )
    assert row(world, "nobody") is None


def test_list_shows_every_row_and_names_the_broken_one(run: Run, world: World) -> None:
    world.add_account("bob", OTHER, enabled=False)
    shared = {"secretId": "listenkeys/all", "secretField": "a"}
    world.add_account(
        "alice", OTHER, product="coinm", renewAfterMinutes={"N": "5"}, createIfMissing=False, **shared
    )
    world.put_row("carol", product="spot")
    done = run("accounts", "list")
    lines = done.stdout.splitlines()
    assert [re.split("  +", line) for line in lines[:4]] == [
        [
            "account",
            "product",
            "environment",
            "enabled",
            "create if missing",
            "renew after",
            "secret",
            "field",
        ],
        ["alice", "coinm", "live", "yes", "no", "5 min", "listenkeys/all", "a"],
        ["bob", "usdm", "live", "no", "yes", "-", "listenkeys/bob", "apiKey"],
        ["carol", "?", "?", "invalid", "?", "?", "?", "?"],
    ]
    assert lines[4] == ""
    assert lines[5].startswith("INVALID_ACCOUNT: AccountsTable row: product spot")
    assert lines[6:] == [
        "  - Correct it: listenkeys accounts set --OPTION VALUE carol (or enable carol)",
        "  - A wrong secretId: remove the account and add it again",
        "  - Then: listenkeys renew carol",
        "  carol",
    ]
    assert OTHER not in done.output
    listed = json.loads(run("accounts", "list", "--json").stdout)
    assert [account["accountId"] for account in listed] == ["alice", "bob", "carol"]
    assert "spot" in listed[2]["problem"]


def test_list_of_nothing_says_how_to_add(run: Run) -> None:
    assert "`listenkeys accounts add NAME`" in run("accounts", "list").stdout
    assert json.loads(run("accounts", "list", "--json").stdout) == []


def test_remove_takes_the_row_and_leaves_the_secret_and_the_ledger(
    run: Run, world: World, function: LocalFunction
) -> None:
    world.add_account("alice", OTHER)
    function.invoke(TICK)
    done = run("accounts", "remove", "alice", "--yes")
    assert done.exit_code == 0
    assert done.stdout == (
        "alice was removed. Its API key stays in field apiKey of secret listenkeys/alice.\n"
        "No account uses the secret listenkeys/alice now: `listenkeys accounts remove --with-secret --secret "
        "listenkeys/alice` deletes it.\n"
        "Its history stays: `listenkeys history alice` shows it.\n"
    )
    assert row(world, "alice") is None
    assert secret(world, "listenkeys/alice") == {"apiKey": OTHER}
    assert len(world.ledger("alice")) == 1
    assert "CREATED" in run("history", "alice").stdout


def test_several_accounts_are_removed_each_once_and_each_is_printed(run: Run, world: World) -> None:
    for name in ("alice", "bob", "carol"):
        world.add_account(name, OTHER)
    done = run("accounts", "remove", "bob", "alice", "bob", "--yes")
    said = "{0} was removed. Its API key stays in field apiKey of secret listenkeys/{0}.\n"
    stays = (
        "No account uses these 2 secrets now: `listenkeys accounts remove --with-secret --secret SECRET` "
        "deletes one.\nTheir history stays: `listenkeys history NAME` shows it.\n"
    )
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == said.format("bob") + said.format("alice") + stays
    assert [row(world, name) is None for name in ("alice", "bob", "carol")] == [True, True, False]


def test_nothing_is_removed_if_one_of_several_cannot_be(run: Run, world: World) -> None:
    world.add_account("alice", OTHER)
    world.add_account("bob", OTHER)
    world.aws.client("secretsmanager").put_secret_value(SecretId="listenkeys/bob", SecretString="plain")
    for names, says in (
        (("alice", "bobby", "bert"), "there is no account bobby, bert: did you mean bob? "),
        (("alice", "bob"), "bob was not removed: the secret listenkeys/bob is not a JSON object"),
    ):
        done = run("accounts", "remove", *names, "--with-secret", "--yes")
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"listenkeys: {says}")
    assert [bool(row(world, name)) for name in ("alice", "bob")] == [True, True]
    assert secret(world, "listenkeys/alice") == {"apiKey": OTHER}
    done = run("accounts", "remove", "alice", "bob", "--yes", "--json")  # without the secrets
    assert [(each["accountId"], each["key"]) for each in json.loads(done.stdout)] == [
        ("alice", "kept"),
        ("bob", "kept"),
    ]


def test_what_was_removed_before_an_error_is_printed(run: Run, world: World, faults: AwsFaults) -> None:
    for name in ("alice", "bob"):
        world.add_account(name, OTHER)

    def next_one(answer: bytes) -> bytes:
        faults.fail("DeleteItem", "AccessDeniedException")
        return answer

    faults.edits["DeleteItem"] = next_one
    done = run("accounts", "remove", "alice", "bob", "--yes")
    assert (done.exit_code, done.stdout.count("was removed")) == (2, 1)
    assert done.stdout.startswith("alice was removed.")
    assert (row(world, "alice"), bool(row(world, "bob"))) == (None, True)


def test_remove_needs_a_yes(run: Run, world: World) -> None:
    world.add_account("alice", OTHER)
    done = run("accounts", "remove", "alice", stdin="y\n")  # no terminal: nobody was asked
    assert (done.exit_code, "pass --yes" in done.stderr) == (2, True)
    assert row(world, "alice") is not None


def test_replace_adds_an_account_whose_secret_of_plain_text_stayed(
    run: Run, world: World, api_key: str
) -> None:
    world.aws.client("secretsmanager").create_secret(Name="listenkeys/alice", SecretString="plain")
    assert run("accounts", "add", "--replace", "alice", stdin=api_key).exit_code == 0
    assert secret(world, "listenkeys/alice") == {"apiKey": api_key}


def test_with_secret_the_key_goes_too_and_can_be_restored(run: Run, world: World) -> None:
    world.add_account("alice", OTHER)
    done = run("accounts", "remove", "alice", "--yes", "--with-secret")
    restore = "restore-secret --secret-id listenkeys/alice --region eu-west-1` restores it until "
    assert re.search(restore + r"\d{4}-\d\d-\d\d\.\n", done.stdout)
    assert secret_names(world) == []
    world.aws.client("secretsmanager").restore_secret(SecretId="listenkeys/alice")
    assert secret(world, "listenkeys/alice") == {"apiKey": OTHER}


def test_an_account_whose_secret_is_being_deleted_is_removed(run: Run, world: World) -> None:
    world.add_account("alice", OTHER)
    world.aws.client("secretsmanager").delete_secret(SecretId="listenkeys/alice")
    done = run("accounts", "remove", "alice", "--yes", "--with-secret")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "alice was removed. There was no secret listenkeys/alice to delete."


def test_with_secret_only_ones_own_field_goes_from_a_shared_secret(
    run: Run, world: World, api_key: str
) -> None:
    world.put_secret("listenkeys/all", {"alice": OTHER, "bob": api_key})
    for name in ("alice", "bob"):
        world.put_row(name, secretId="listenkeys/all", secretField=name)
    done = run("accounts", "remove", "alice", "--yes", "--with-secret", "--json")
    assert json.loads(done.stdout) == [{
        "accountId": "alice", "product": "usdm", "environment": "live", "enabled": True, "problem": None,
        "createIfMissing": True, "renewAfterMinutes": None, "secretId": "listenkeys/all",
        "secretField": "alice", "key": "field", "restorableUntil": None,
    }]  # fmt: skip
    assert secret(world, "listenkeys/all") == {"bob": api_key}


@pytest.mark.parametrize("invalid_row", [False, True])
def test_a_secret_that_stays_though_no_account_uses_it_is_named(
    run: Run, world: World, api_key: str, invalid_row: bool
) -> None:
    olivias(world, "alice", "bob", "carol")
    assert run("accounts", "add", "alice", "--replace", "--field", "new", stdin=api_key).exit_code == 0
    if invalid_row:  # its secret is not read, and may be this one
        world.put_row("zoe", product="spot")
    removed = "{} was removed. Its API key was removed from field {} of secret listenkeys/olivia."
    stays = (
        "The secret listenkeys/olivia stays: it has other fields, which no account uses. If nothing else "
        "needs them, `listenkeys accounts remove --with-secret --secret listenkeys/olivia` deletes it."
    )
    for names, said in (
        (("carol",), [removed.format("carol", "carol")]),
        (
            ("alice", "bob"),
            [removed.format("alice", "new"), removed.format("bob", "bob"), *[stays] * (not invalid_row)],
        ),
    ):
        done = run("accounts", "remove", *names, "--yes", "--with-secret")
        assert (done.exit_code, done.stdout.splitlines()[:-1]) == (0, said)
    assert secret(world, "listenkeys/olivia") == {"alice": OTHER}


_DELETES = "`listenkeys accounts remove --with-secret --secret listenkeys/olivia` deletes it.\n"


def test_keys_that_stayed_are_deleted_by_the_line_that_remove_prints(
    run: Run, world: World, faults: AwsFaults
) -> None:
    names = [f"a{number}" for number in range(7)]
    olivias(world, *names)
    done = run("accounts", "remove", "--secret", "listenkeys/olivia", "--yes")
    *gone, last, unused, _ = done.stdout.splitlines()
    assert gone == [f"{name} was removed." for name in names[:-1]]
    fields = "a0, a1, a2, a3, a4 and 2 more"
    assert last == f"a6 was removed. Their API keys stay in fields {fields} of secret listenkeys/olivia."
    assert unused == f"No account uses the secret listenkeys/olivia now: {_DELETES}".rstrip()

    line = unused.split("`")[1].split()[1:]
    assert run(*line).stderr == (
        "listenkeys: remove asks for confirmation, but this is not a terminal: pass --yes\n"
    )
    for no in (
        line[:2] + line[3:],
        [*line[:-1], "listenkeys/other"],
    ):  # without --with-secret; no such secret
        assert run(*no, "--yes").stderr.startswith("listenkeys: no account uses this secret: ")
    world.put_row("zoe", product="spot")
    assert "secret listenkeys/olivia may be that of an invalid row" in run(*line, "--yes").stderr
    assert secret(world, "listenkeys/olivia").keys() == set(names)
    run("accounts", "remove", "zoe", "--yes")
    [done] = json.loads(run(*line, "--yes", "--json").stdout)
    assert (done["secretId"], done["key"], secret_names(world)) == ("listenkeys/olivia", "deleted", [])
    done = run(*line, "--yes")
    says = "no valid account uses secret listenkeys/olivia, and it is being deleted already"
    assert (done.exit_code, done.stderr) == (2, f"listenkeys: {says}\n")


def test_only_a_secret_for_api_keys_is_deleted(run: Run, world: World) -> None:
    create = world.aws.client("secretsmanager").create_secret
    create(Name="listenkeys/chat", SecretString="https://chat.example/CANARY")
    create(Name="elsewhere/keys", SecretString="{}")
    for name, says in (
        (
            "listenkeys/chat",
            "not a JSON object with API keys: `aws secretsmanager delete-secret "
            "--secret-id listenkeys/chat --region eu-west-1` deletes it\n",
        ),
        ("elsewhere/keys", "listenkeys: no account uses this secret: "),
    ):
        done = run("accounts", "remove", "--with-secret", "--secret", name, "--yes")
        assert (done.exit_code, says in done.stderr, "CANARY" in done.output) == (2, True, False)
    assert sorted(secret_names(world)) == ["elsewhere/keys", "listenkeys/chat"]


@pytest.mark.parametrize("why", ["another account", "an invalid row", "no permission"])
def test_no_line_that_could_remove_another_account_is_printed(
    run: Run, world: World, faults: AwsFaults, why: str
) -> None:
    olivias(world, "alice", "bob", "carol")
    names = ["alice", "bob", *(["carol"] * (why != "another account"))]
    if why == "an invalid row":
        world.put_row("zoe", product="spot")
    elif why == "no permission":
        faults.fail("Scan", "AccessDeniedException")
    done = run("accounts", "remove", *names, "--yes")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"stay in fields {', '.join(names)} of secret listenkeys/olivia.\n" in done.stdout
    pointer = "docs/command.md, accounts remove, says how to take out API keys.\n"
    assert f"Another account may use listenkeys/olivia: {pointer}" in done.stdout
    assert "--with-secret" not in done.stdout


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")
def test_the_pages_line_takes_fields_out_of_a_shared_secret(run: Run, world: World) -> None:
    page = (ROOT / "docs/command.md").read_text()
    [program] = re.findall(r"\| jq '(del\(.*?\))' \| aws secretsmanager put-secret-value", page)
    olivias(world, "alice", "bob", "carol")
    text = json.dumps(secret(world, "listenkeys/olivia"))
    done = subprocess.run(["jq", program], input=text, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"carol": OTHER}


def test_add_refuses_an_api_key_that_the_secret_holds_for_another(
    run: Run, world: World, api_key: str
) -> None:
    olivias(world, "alice")
    into = ("--secret", "listenkeys/olivia")
    done = run("accounts", "add", "bob", *into, stdin=OTHER)
    taken = "bob has the API key and the product of alice, which is in this secret already"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"listenkeys: {taken}\n")
    assert (row(world, "bob"), secret(world, "listenkeys/olivia")) == (None, {"alice": OTHER})
    assert run("accounts", "add", "bob", *into, "--product", "coinm", stdin=OTHER).exit_code == 0
    assert run("accounts", "add", "carol", *into, stdin=api_key).exit_code == 0


def olivias(world: World, *names: str) -> None:
    world.put_secret("listenkeys/olivia", dict.fromkeys(names, OTHER))
    for name in names:
        world.put_row(name, secretId="listenkeys/olivia", secretField=name)


def test_the_keys_of_several_accounts_leave_a_secret_in_one_version(run: Run, world: World) -> None:
    olivias(world, "alice", "bob", "carol", "dora")
    assert run("accounts", "remove", "bob", "alice", "--yes", "--with-secret").exit_code == 0
    assert secret(world, "listenkeys/olivia") == {"carol": OTHER, "dora": OTHER}
    versions = world.aws.client("secretsmanager").get_secret_value(
        SecretId="listenkeys/olivia", VersionStage="AWSPREVIOUS"
    )
    assert json.loads(versions["SecretString"]) == dict.fromkeys(("alice", "bob", "carol", "dora"), OTHER)

    done = run("accounts", "remove", "carol", "dora", "--yes", "--with-secret")
    assert done.stdout.startswith(
        "carol was removed.\n"
        "dora was removed. The secret listenkeys/olivia was deleted; `aws secretsmanager restore-secret "
    )
    assert secret_names(world) == []


def test_after_an_error_the_keys_of_the_accounts_removed_are_gone(
    run: Run, world: World, faults: AwsFaults
) -> None:
    olivias(world, "alice", "bob", "carol")

    def next_one(answer: bytes) -> bytes:
        faults.fail("DeleteItem", "AccessDeniedException")
        return answer

    faults.edits["DeleteItem"] = next_one
    done = run("accounts", "remove", "--secret", "listenkeys/olivia", "--yes", "--with-secret")
    assert done.exit_code == 2
    [gone] = re.findall(r"^(\w+) was removed\. Its API key was removed from field \1 of secret", done.stdout)
    left = {"alice", "bob", "carol"} - {gone}
    assert {name for name in ("alice", "bob", "carol") if row(world, name)} == left
    assert secret(world, "listenkeys/olivia").keys() == left


def test_with_secret_a_key_that_another_account_uses_stays(run: Run, world: World) -> None:
    world.add_account("alice", OTHER)
    world.put_row("bob", product="coinm", secretId="listenkeys/alice")
    done = run("accounts", "remove", "alice", "--yes", "--with-secret")
    place = "field apiKey of secret listenkeys/alice"
    assert done.stdout.splitlines()[0] == (
        f"alice was removed. Its API key stays in {place}, because another account uses it."
    )
    assert secret(world, "listenkeys/alice") == {"apiKey": OTHER}


def test_an_account_whose_shared_secret_is_broken_is_not_removed(run: Run, world: World) -> None:
    world.aws.client("secretsmanager").create_secret(Name="listenkeys/own1", SecretString='{"alice": "x"')
    world.put_row("alice", secretId="listenkeys/own1", secretField="alice")
    done = run("accounts", "remove", "alice", "--yes", "--with-secret")
    assert done.exit_code == 2
    assert "alice was not removed: the secret listenkeys/own1 is not a JSON object" in done.stderr
    assert "repair it (docs/alarms.md, A shared secret is broken)" in done.stderr
    assert "alice" in run("accounts", "list").stdout


def test_a_key_that_could_not_be_removed_is_named(run: Run, world: World, faults: AwsFaults) -> None:
    world.add_account("alice", OTHER)
    faults.fail("DeleteSecret", "AccessDeniedException")
    done = run("accounts", "remove", "alice", "--yes", "--with-secret")
    assert done.exit_code == 2
    assert done.stderr == (
        "listenkeys: alice was removed, but its API key is still in secret listenkeys/alice: access denied "
        "to these AWS credentials: they do not allow DeleteSecret; choose another with --profile\n"
    )
    assert row(world, "alice") is None


def test_an_account_added_again_says_how_its_api_key_is_tried(
    run: Run, world: World, front: Front, tmp_path: Path
) -> None:
    run("accounts", "add", "alice", stdin="a" * 20)
    world.exchange.add_account("a" * 20)
    assert run("renew", "alice").exit_code == 0
    run("accounts", "remove", "alice", "--with-secret", "--yes")
    world.clock.advance(minutes=10)

    said = run("accounts", "add", "alice", "--replace", stdin="wrong").stdout
    assert "A removed account of this name left a listenKey. While it lives, only the tick" in said
    assert "`listenkeys renew --force alice` does it now." in said
    assert run("renew", "--force", "alice").exit_code == 1

    run("accounts", "remove", "alice", "--with-secret", "--yes")
    file = tmp_path / "accounts.csv"
    file.write_text(f"alice,usdm,{'b' * 20},listenkeys/all\nbob,usdm,{'c' * 20},listenkeys/all\n")
    said = run("accounts", "import", str(file)).stdout
    assert "\nalice: removed accounts of these names left listenKeys. While these live, only the tick" in said
