"""Where the command looks for the stack, and how it talks to AWS."""

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from listenkey_keeper.cli.errors import CliError
from listenkey_keeper.cli.stack import Stack, connect, in_local_environment, world_time

SAVED = '[default.deploy.parameters]\nstack_name = "saved"\nregion = "eu-west-1"\nprofile = "saved"\n'
OUTPUTS = {
    name: f"its-{name}"
    for name in (
        "KeepaliveFunctionName",
        "AccountsTableName",
        "ListenKeysTableName",
        "LedgerTableName",
        "SecretPrefix",
    )
}


class Session:
    """Stands in for boto3's: notes what it was asked for; CloudFormation answers with `stack`."""

    def __init__(self, stack: dict[str, Any] | ClientError) -> None:
        self.stack, self.asked, self.clients = stack, {}, {}

    def __call__(self, profile_name: str | None, region_name: str | None) -> "Session":
        self.asked, self.region_name = {"profile": profile_name, "region": region_name}, region_name
        return self

    def client(self, service: str, config: Any) -> "Session":
        tries = config.retries["total_max_attempts"]
        self.clients[service] = (config.connect_timeout, config.read_timeout, tries)
        return self

    def describe_stacks(self, StackName: str) -> Any:  # noqa: N803 - boto3's own
        self.asked["name"] = StackName
        if isinstance(self.stack, ClientError):
            raise self.stack
        return {"Stacks": [self.stack]}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Session:
    outputs = [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()]
    parameters = [
        {"ParameterKey": "SweepExpression", "ParameterValue": "rate(4 minutes)"},
        {"ParameterKey": "AlarmEmail"},
    ]
    made = Session({"StackStatus": "CREATE_COMPLETE", "Outputs": outputs, "Parameters": parameters})
    monkeypatch.setattr("listenkey_keeper.cli.stack.boto3.Session", made)
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.mark.parametrize(
    ("options", "environ", "saved", "asked"),
    [
        ((None, None, None), {}, "", ("listenkey-keeper", None, None)),
        ((None, None, None), {}, SAVED, ("saved", "eu-west-1", "saved")),
        (
            ("mine", "us-east-2", "me"),
            {"AWS_REGION": "one", "AWS_PROFILE": "work"},
            SAVED,
            ("mine", "us-east-2", "me"),
        ),
        (
            (None, None, None),
            {"AWS_REGION": "one", "AWS_DEFAULT_REGION": "two", "AWS_PROFILE": "work"},
            SAVED,
            ("saved", "one", "work"),
        ),
        ((None, None, None), {"AWS_DEFAULT_REGION": "two"}, SAVED, ("saved", "two", "saved")),
        ((None, None, None), {"AWS_ACCESS_KEY_ID": "AKIA"}, SAVED, ("saved", "eu-west-1", None)),
        ((None, None, "me"), {"AWS_ACCESS_KEY_ID": "AKIA"}, SAVED, ("saved", "eu-west-1", "me")),
    ],
    ids=["nothing", "samconfig", "options first", "environment", "default region", "credentials", "profile"],
)
def test_options_win_then_the_environment_then_samconfig(
    session: Session, monkeypatch: pytest.MonkeyPatch, options: Any, environ: Any, saved: str, asked: Any
) -> None:
    Path("samconfig.toml").write_text(saved)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    stack = connect(*options)
    assert tuple(session.asked[key] for key in ("name", "region", "profile")) == asked
    assert (stack.name, stack.region, stack.outputs) == (asked[0], str(asked[1]), OUTPUTS)
    assert stack.parameters == {"SweepExpression": "rate(4 minutes)", "AlarmEmail": ""}
    assert [stack.minutes(name, 7) for name in ("SweepExpression", "AlarmEmail", "Other")] == [4, 7, 7]


def test_lambda_is_asked_once_and_waits_for_a_whole_run(session: Session) -> None:
    stack = connect(None, None, None)
    for service in ("lambda", "dynamodb"):
        stack.client(service)
    assert session.clients == {"cloudformation": (3, 10, 3), "lambda": (3, 310, 1), "dynamodb": (3, 10, 3)}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_stack_without_one_of_the_outputs_is_none_of_ours(session: Session, name: str) -> None:
    session.stack["Outputs"] = [o for o in session.stack["Outputs"] if o["OutputKey"] != name]
    with pytest.raises(CliError) as raised:
        connect(None, "eu-west-1", None)
    assert str(raised.value) == (
        f"the stack listenkey-keeper (CREATE_COMPLETE) has no output {name}: check that it is a "
        "listenkey-keeper stack and that its deployment has finished"
    )


def test_a_stack_without_any_outputs_says_so_of_the_first(session: Session) -> None:
    session.stack = {"StackStatus": "ROLLBACK_COMPLETE"}
    with pytest.raises(CliError, match=r"\(ROLLBACK_COMPLETE\) has no output KeepaliveFunctionName"):
        connect(None, None, None)


@pytest.mark.parametrize("code", ["ValidationError", "AccessDenied"])
def test_only_a_stack_that_is_not_there_is_said_not_to_be(session: Session, code: str) -> None:
    session.stack = ClientError({"Error": {"Code": code, "Message": "-"}}, "DescribeStacks")
    with pytest.raises(CliError if code == "ValidationError" else ClientError) as raised:
        connect("mine", "eu-west-1", None)
    if code == "ValidationError":
        assert str(raised.value) == (
            "there is no stack mine in eu-west-1: deploy it (`sam build && sam deploy`), "
            "or pass --stack-name and --region"
        )


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("http://127.0.0.1:5000", True), ("", False), (None, False), ("http://127.0.0.10:5000", False),
        ("https://127.0.0.1:5000", False), ("https://proxy/http://127.0.0.1:5000", False),
    ],
)  # fmt: skip
def test_only_this_machines_endpoint_is_the_local_environment(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None, local: bool
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    if endpoint is not None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert in_local_environment() is local


def test_the_local_environments_time_runs_at_its_speed() -> None:
    assert world_time("1000,5000,60", 1010).timestamp() == 5600
    assert world_time("1000,5000,60", 1010).utcoffset().total_seconds() == 0


def test_a_rate_of_one_minute_is_not_taken_for_none() -> None:
    assert Stack("a", "b", {}, {"X": "rate(1 minute)"}, None).minutes("X", 9) == 1
