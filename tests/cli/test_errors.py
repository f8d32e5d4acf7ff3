"""Every way in which AWS lets the command down is one line that says what to do."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from botocore import exceptions as botocore
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from listenkey_keeper.cli.errors import CliError, explain, way_to
from listenkey_keeper.cli.main import app
from listenkey_keeper.cli.stack import now
from listenkey_keeper.stream.keys import ListenKeyUnavailable
from listenkeys.errors import Unavailable
from local.front import Controls, Front
from local.invoke import LocalFunction
from local.world import World
from tests.paths import PYTHONPATH

from .conftest import AwsFaults, Run
from .test_commands_page import commands

COMMANDS = [name.split() for name, _ in commands(typer.main.get_command(app))]


def shown(run: Run, *command: str) -> str:
    """Return the help of a command, in one line."""
    return " ".join(run(*command, "--help").stdout.split())


def example(run: Run, *command: str) -> list[str]:
    """Return the arguments of the example in a command's help."""
    [words] = re.findall(r"Example: listenkeys (.*)", shown(run, *command))
    return shlex.split(words)


def says(run: Run, *arguments: str, stdin: str = "somekey") -> str:
    """Run a command that must fail; return its one line."""
    done = run(*arguments, stdin=stdin)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert re.fullmatch(r"listenkeys: [^\n]+\n", done.stderr)
    assert "CANARY" not in done.output
    return done.stderr.removeprefix("listenkeys: ").rstrip("\n")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_that_works_and_no_types_or_braces(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    typed = example(run, *command)
    assert typed[: len(command)] == command
    assert not re.search("[<{]", shown(run, *command))
    line = says(run, *typed, "--stack-name", "nope", "--region", "eu-west-2")
    assert line.startswith("there is no stack nope in eu-west-2: deploy it")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert says(run, *typed).startswith("no AWS credentials: run `aws configure` or `aws sso login`")


@pytest.mark.parametrize("command", [(), ("status",), ("accounts",), ("accounts", "add")])
def test_the_word_help_is_the_option(run: Run, command: tuple[str, ...]) -> None:
    assert shown(run, *command).startswith(f"Usage: {' '.join(['listenkeys', *command])} ")
    assert run("help", *command).stdout == run(*command, "--help").stdout


def test_the_groups_have_an_example_and_the_exit_codes_that_tests_see(run: Run) -> None:
    assert example(run) == ["status"]
    assert example(run, "accounts") == ["accounts", "add", "alice"]
    assert set(re.findall(r"(?:: |; )(\d+) ", shown(run).partition("Exit codes")[2])) == {
        "0", "1", "2", "130", "141",  # the last two: test_terminal.py
    }  # fmt: skip


def test_half_of_the_credentials_are_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert says(run, "status").startswith("no AWS credentials")


@pytest.mark.parametrize("region", [None, "no such region"])
def test_a_region_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch, region: str | None) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert says(run, "status", *(("--region", region) if region else ())) == (
        "no AWS region, or not a valid one: pass --region, or set AWS_REGION"
    )


def test_a_profile_that_is_not_there(run: Run) -> None:
    assert says(run, "status", "--profile", "nope").startswith("there is no such AWS profile")


def test_a_sign_in_that_has_expired(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile work]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n"
        "[sso-session s]\nsso_start_url = http://127.0.0.1/\nsso_region = eu-west-1\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "aws sso login" in says(run, "status", "--profile", "work")


@pytest.mark.parametrize("operation", ["PutSecretValue", "DeleteSecret"])
def test_a_secret_with_replicas_is_explained(operation: str) -> None:
    answer: Any = {"Error": {"Code": "InvalidRequestException", "Message": "CANARY"}}
    assert explain(ClientError(answer, operation)) == (
        f"AWS refused {operation}: the secret is a replica of another region's (change it there), or has "
        "replicas (remove them first, with `aws secretsmanager remove-regions-from-replication`)"
    )


def test_throttling_is_tried_again_and_then_explained(run: Run, faults: AwsFaults) -> None:
    faults.fail("DescribeStacks", "Throttling")
    assert says(run, "status") == "AWS is throttling (Throttling): try again in a moment"
    assert faults.calls == ["DescribeStacks"] * 3


SIGN_IN = "the AWS sign-in has expired: run `aws sso login` (with --profile, if you use one)"
EXPIRED = "the AWS credentials have expired: sign in again (`aws sso login`), or choose another (--profile)"
UNKNOWN = "AWS does not know these credentials: check them with `aws sts get-caller-identity`"
DENIED = "access denied to these AWS credentials: they do not allow {}; choose another with --profile"
NO_REGION = "no AWS region, or not a valid one: pass --region, or set AWS_REGION"
NOT_THERE = "{} does not exist: check that the stack is still deployed and that --region is right"
OF_CODE = {
    EXPIRED: "ExpiredToken ExpiredTokenException RequestExpired TokenRefreshRequired",
    UNKNOWN: "AuthFailure IncompleteSignature InvalidAccessKeyId InvalidClientTokenId "
    "InvalidSignatureException SignatureDoesNotMatch UnrecognizedClientException",
    DENIED: "AccessDenied AccessDeniedException UnauthorizedOperation KMSAccessDeniedException",
    "AWS is throttling ({code}): try again in a moment": "ProvisionedThroughputExceededException SlowDown "
    "RequestLimitExceeded Throttling ThrottlingException TooManyRequestsException",
    "AWS could not be reached ({code}): check the network, the proxy and --region": "ConnectTimeoutError "
    "ConnectionClosedError ConnectionError EndpointConnectionError HTTPClientError ProxyConnectionError "
    "ReadTimeoutError",
    "AWS's certificate is not trusted (SSLError): check the CA bundle (AWS_CA_BUNDLE)": "SSLError",
    NOT_THERE: "ResourceNotFoundException",
    "AWS answered {code}{to}: try again": "SomethingNew",
}


@pytest.mark.parametrize(("said", "code"), [(k, c) for k, v in OF_CODE.items() for c in v.split()])
def test_each_code_is_explained_with_the_operation_and_without_it(said: str, code: str) -> None:
    answer: Any = {"Error": {"Code": code, "Message": "CANARY"}}
    what, it = ("the resource of Query", "it") if said == NOT_THERE else ("Query", "this")
    assert explain(ClientError(answer, "Query")) == said.format(what, code=code, to=" to Query")
    assert explain(Unavailable(f"T: no: {code}")) == f"T: no: {said.format(it, code=code, to='')}"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (botocore.SSOTokenLoadError(error_msg="CANARY"), SIGN_IN),
        (botocore.UnauthorizedSSOTokenError(), SIGN_IN),
        (botocore.SSOError(), SIGN_IN),
        (botocore.TokenRetrievalError(provider="p", error_msg="CANARY"), SIGN_IN),
        (
            botocore.CredentialRetrievalError(provider="p", error_msg="CANARY"),
            "the AWS credentials could not be loaded: sign in again, or choose another with --profile",
        ),
        (botocore.InvalidRegionError(region_name="CANARY"), NO_REGION),
        (ListenKeyUnavailable("CANARY", "AccessDenied", "CANARY", {}), DENIED.format("GetItem")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_of_botocore_is_explained(error: Exception, line: str) -> None:
    assert explain(error) == line


ACCESS = [
    (("status",), "Scan", "AccountsTable could not be read: access denied"),
    (("history", "alice"), "Query", "they do not allow Query"),
    (("accounts", "list"), "Scan", "AccountsTable could not be read: access denied"),
    (("accounts", "add", "bob"), "BatchGetItem", "AccountsTable could not be read: access denied"),
    (("accounts", "add", "bob"), "GetSecretValue", "they do not allow GetSecretValue"),
    (("accounts", "add", "bob"), "CreateSecret", "they do not allow CreateSecret"),
    (("accounts", "enable", "alice"), "UpdateItem", "they do not allow UpdateItem"),
    (("accounts", "remove", "alice", "--yes"), "DeleteItem", "access denied to these AWS credentials"),
]


@pytest.mark.parametrize(("command", "operation", "line"), ACCESS)
def test_a_permission_that_is_missing_is_named(
    run: Run, world: World, faults: AwsFaults, command: tuple[str, ...], operation: str, line: str
) -> None:
    world.add_account("alice", "a" * 20)
    faults.fail(operation, "AccessDeniedException")
    assert line in says(run, *command)


def test_the_action_that_is_not_allowed_is_taken_from_what_aws_says(run: Run, faults: AwsFaults) -> None:
    said = "User: arn:aws:iam::1:user/CANARY is not authorized to perform: dynamodb:Query on resource: CANARY"
    faults.fail("Query", "AccessDeniedException", said)
    assert "they do not allow dynamodb:Query" in says(run, "history", "alice")


def test_a_table_that_is_gone_is_explained(run: Run, faults: AwsFaults) -> None:
    faults.fail("Query", "ResourceNotFoundException")
    assert "check that the stack is still deployed and that --region is right" in says(
        run, "history", "alice"
    )


def test_a_function_that_is_gone_is_explained(
    run: Run, world: World, function: LocalFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Front("another-function", function.invoke, lambda _: None, Controls(world)) as front:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", front.url)
        assert says(run, "renew").startswith("the resource of Invoke does not exist")


def test_a_network_that_is_down_is_explained(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert says(run, "status").startswith("AWS could not be reached (EndpointConnectionError)")


def test_a_stack_of_something_else_is_recognised(run: Run, world: World) -> None:
    cloudformation = world.aws.client("cloudformation")
    body = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    cloudformation.create_stack(StackName="other", TemplateBody=body)
    try:
        assert "has no output KeepaliveFunctionName" in says(run, "status", "--stack-name", "other")
    finally:
        cloudformation.delete_stack(StackName="other")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nonsense",), "No such command 'nonsense' (see `listenkeys --help`)"),
        (("add", "alice"), "there is no command add: did you mean `listenkeys accounts add`?"),
        (("ls",), "there is no command ls: did you mean `listenkeys accounts list`?"),
        (("accounts", "rm", "alice"), "there is no command rm: did you mean `listenkeys accounts remove`?"),
        (
            ("accounts", "delete", "alice"),
            "there is no command delete: did you mean `listenkeys accounts remove`?",
        ),
        (("accounts", "renew"), "there is no command renew: did you mean `listenkeys renew`?"),
        (("status", "-h"), "No such option: -h (see `listenkeys status --help`)"),
        (
            ("accounts", "list", "--secret"),
            "Option '--secret' requires an argument (see `listenkeys accounts list --help`)",
        ),
        (("status", "--nonsense"), "No such option: --nonsense (see `listenkeys status --help`)"),
        (("history",), "Missing argument 'NAME' (see `listenkeys history --help`)"),
        (("accounts", "nonsense"), "No such command 'nonsense' (see `listenkeys accounts --help`)"),
        (("--nonsense",), "No such option: --nonsense (see `listenkeys --help`)"),
        (("--region", "x", "status"), "put --region after the command, such as `listenkeys status --region`"),
        (
            ("accounts", "--json", "list"),
            "put --json after the command, such as `listenkeys accounts list --json`",
        ),
        (("status", "--json=x"), "Option '--json' does not take a value (see `listenkeys status --help`)"),
        (("accounts", "list", "--debug"), "put --debug first: `listenkeys --debug accounts list`"),
        (("--debug", "status", "--debug"), "put --debug first: `listenkeys --debug status`"),
        (
            ("history", "-bob"),
            "No such option: -b (see `listenkeys history --help`); put -- before an account whose name "
            "begins with -",
        ),
        (("check", "alice", "bob"), "too many arguments: alice bob (see `listenkeys check --help`)"),
        (("history", "\udcff"), "an argument is not valid UTF-8"),
        *[
            (("history", "alice", "--limit", limit), "--limit must be a whole number from 1 to 10000")
            for limit in ("0", "10001", "-1", "2.5", "ten", "")
        ],
        *[
            (("status", "--watch", "--every", every), "--every must be a number from 1 to 60")
            for every in ("0", "61", "nan", "inf", "fast")
        ],
        (("status", "--every", "5"), "--every needs --watch: `listenkeys status --watch --every 5`"),
    ],
)
def test_a_wrong_way_to_call_it_is_one_line_too(run: Run, arguments: tuple[str, ...], line: str) -> None:
    assert says(run, *arguments) == line


def test_an_answer_that_is_not_awss_is_one_line(run: Run, faults: AwsFaults) -> None:
    faults.edits["DescribeStacks"] = lambda _: b"<html>CANARY"
    assert says(run, "status") == "the answer is not AWS's: check the proxy, AWS_ENDPOINT_URL and --region"


def test_the_stack_is_found_by_samconfig(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTENKEYS_STACK_NAME")
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "no AWS region" in says(run, "status")
    Path("samconfig.toml").write_text(
        'version = 0.1\n[default.global.parameters]\nstack_name = "overruled"\n'
        '[default.deploy.parameters]\nstack_name = "from-samconfig"\n'
        'region = "eu-west-3"\nprofile = "ignored"\n'
    )
    # Credentials in the environment are somebody's choice: the profile of samconfig.toml is not taken.
    assert says(run, "status").startswith("there is no stack from-samconfig in eu-west-3")
    assert says(run, "status", "--region", "eu-west-2").startswith(
        "there is no stack from-samconfig in eu-west-2"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert says(run, "status").startswith("there is no such AWS profile")


@pytest.mark.parametrize("content", ["not toml [", 'default = "x"', "", "default.deploy = 1"])
def test_a_samconfig_that_makes_no_sense_is_left_aside(
    run: Run, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.delenv("LISTENKEYS_STACK_NAME")
    Path("samconfig.toml").write_text(content)
    assert says(run, "status", "--region", "eu-west-2").startswith(
        "there is no stack listenkey-keeper in eu-west-2"
    )


def test_a_clock_left_in_the_environment_counts_only_beside_a_local_aws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LISTENKEYS_CLOCK", "0,0,0")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:5000")
    assert now().year == 1970
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://dynamodb.eu-west-1.amazonaws.com")
    assert now().year > 2000
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert now().year > 2000


def test_debug_shows_the_way_to_an_error_but_nothing_that_aws_said(run: Run, faults: AwsFaults) -> None:
    faults.fail("DescribeStacks", "SomethingNew")
    done = run("--debug", "status")
    assert done.exit_code == 2
    assert re.search(r'File ".*stack.py", line \d+, in connect', done.stderr)
    assert done.stderr.splitlines()[-2].endswith(".ClientError")
    assert done.stderr.splitlines()[-1].startswith("listenkeys: AWS answered SomethingNew")
    assert "CANARY" not in done.output


def test_a_bug_says_where_it_is_and_how_to_see_more_but_not_what_it_held(api_key: str) -> None:
    with pytest.raises(ValueError, match="could not convert") as caught:
        float(api_key)
    line = explain(caught.value)
    assert re.match(r"a bug in listenkeys, please report it: ValueError at \S*test_errors:\d+ \(", line)
    assert "listenkeys --debug" in line
    assert api_key not in line + way_to(caught.value)


@pytest.mark.parametrize(("hidden", "shown"), [(False, ["CliError", "KeyError"]), (True, ["CliError"])])
def test_debug_shows_the_error_before_unless_it_is_hidden(hidden: bool, shown: list[str]) -> None:
    error = CliError("later")
    error.__context__, error.__suppress_context__ = KeyError("earlier"), hidden
    assert [line.rpartition(".")[2] for line in way_to(error).splitlines()] == shown


def test_dynamodb_is_not_asked_for_an_id_that_can_be_no_key(run: Run, faults: AwsFaults) -> None:
    for id_ in ("", "\u00e9" * 1025):
        assert says(run, "history", id_).startswith("an account's id must be")
    assert not {"BatchGetItem", "Query"} & set(faults.calls)
    assert says(run, "history", "\u00e9" * 1024).startswith("an account's id must be")
    assert "BatchGetItem" in faults.calls


@pytest.mark.parametrize(
    ("words", "completed"), [("listenkeys st", "status"), ("listenkeys accounts en", "enable")]
)
def test_a_shell_completes_commands_without_aws(words: str, completed: str) -> None:
    asked = {
        "_LISTENKEYS_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = CliRunner().invoke(app, prog_name="listenkeys", env={**asked, "AWS_ACCESS_KEY_ID": None})
    assert done.stdout.split() == [completed]


@pytest.mark.parametrize(
    ("package", "code", "said"),
    [
        ("typer", 2, "listenkeys: typer is missing: pip install '.[cli]' in listenkey-keeper's folder"),
        (
            "botocore",
            1,
            "ModuleNotFoundError: No module named 'botocore.exceptions'; 'botocore' is not a package",
        ),
    ],
)
def test_a_missing_package_is_said_if_the_command_alone_needs_it(package, code, said):
    without = f"import sys; sys.modules[{package!r}] = None; from listenkey_keeper.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (code, said)
