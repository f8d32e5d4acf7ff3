"""Finds the deployed stack by name, creates its AWS clients, and gives the time. Prints nothing."""

import functools
import inspect
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import boto3
import typer
from botocore.config import Config
from botocore.exceptions import ClientError

from listenkeys.settings import rate_minutes

from . import samconfig
from .errors import CliError

DEFAULT_NAME = "listenkey-keeper"
CLOCK = "LISTENKEYS_CLOCK"
_OUTPUTS = (
    "KeepaliveFunctionName", "AccountsTableName", "ListenKeysTableName", "LedgerTableName", "SecretPrefix",
)  # fmt: skip
_CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
# A run may take as long as the function's timeout, 300 s. A retry would start a second run beside it.
_ONE_LONG_CALL = Config(connect_timeout=3, read_timeout=310, retries={"total_max_attempts": 1})

# The options that every command has.
StackName = Annotated[
    str | None,
    typer.Option(
        envvar="LISTENKEYS_STACK_NAME",
        show_envvar=False,
        metavar="STACK",
        help=f"The deployed stack; by default the one in samconfig.toml, or {DEFAULT_NAME}.",
    ),
]
ACCOUNT_HELP = "The account's id, as in `listenkeys accounts list`."
AccountId = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help=ACCOUNT_HELP)]
AccountIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME", show_default=False, help="One or more ids, as in `listenkeys accounts list`."
    ),
]
InSecret = Annotated[
    str | None,
    typer.Option("--secret", metavar="SECRET", help="Only the accounts whose API keys are in this secret."),
]
Region = Annotated[
    str | None,
    typer.Option(
        metavar="REGION", help="The stack's AWS region; by default AWS_REGION, or the one in samconfig.toml."
    ),
]
Profile = Annotated[
    str | None, typer.Option(metavar="PROFILE", help="The AWS profile to use; by default AWS_PROFILE.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


Connect = Callable[[], "Stack"]


def on_stack(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all commands have: --stack-name, --region, --profile and --json.

    The command is called with `connect`, which finds the stack, and `as_json` instead of them.
    """
    own = [
        parameter
        for name, parameter in inspect.signature(command).parameters.items()
        if name not in ("connect", "as_json")
    ]
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, default, kind in (
            ("stack_name", None, StackName),
            ("region", None, Region),
            ("profile", None, Profile),
            ("as_json", False, AsJson),
        )
    ]

    @functools.wraps(command)
    def with_options(
        *given: Any, stack_name: str | None, region: str | None, profile: str | None, **more: Any
    ) -> None:
        command(*given, connect=functools.partial(connect, stack_name, region, profile), **more)

    with_options.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *common)}
    return with_options


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack: its outputs and parameters by name, and a session with its region and credentials."""

    name: str
    region: str
    outputs: dict[str, str]
    parameters: dict[str, str]
    session: boto3.Session

    def client(self, service: str) -> Any:
        """Return a client of an AWS service. Lambda's waits for a whole run and never retries."""
        config = _ONE_LONG_CALL if service == "lambda" else _CONFIG
        return self.session.client(service, config=config)

    def minutes(self, parameter: str, default: int) -> int:
        """Return the minutes of a parameter that is a rate() expression, `default` if it is not one."""
        return rate_minutes(self.parameters.get(parameter, "")) or default


def connect(stack_name: str | None, region: str | None, profile: str | None) -> Stack:
    """Find the stack.

    A region or profile that is None is taken from the environment, then from samconfig.toml in this
    directory; a name from samconfig.toml, by default DEFAULT_NAME. Raises CliError if there is no such stack,
    and botocore's errors.
    """
    saved = samconfig.location()
    name = stack_name or saved.get("stack_name") or DEFAULT_NAME
    chosen = profile or os.environ.get("AWS_PROFILE")
    if not chosen and "AWS_ACCESS_KEY_ID" not in os.environ:
        chosen = saved.get("profile")
    region = (
        region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or saved.get("region")
    )
    session = boto3.Session(profile_name=chosen, region_name=region)
    client = session.client("cloudformation", config=_CONFIG)
    try:
        [described] = client.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ValidationError":
            raise
        described = None
    if described is None:
        raise CliError(
            f"there is no stack {name} in {session.region_name}: deploy it (`sam build && sam deploy`), "
            "or pass --stack-name and --region"
        )
    outputs = {o["OutputKey"]: o["OutputValue"] for o in described.get("Outputs", ())}
    missing = [output for output in _OUTPUTS if output not in outputs]
    if missing:
        raise CliError(
            f"the stack {name} ({described['StackStatus']}) has no output {missing[0]}: check that it "
            "is a listenkey-keeper stack and that its deployment has finished"
        )
    parameters = {p["ParameterKey"]: p.get("ParameterValue", "") for p in described.get("Parameters", ())}
    return Stack(name, str(session.region_name), outputs, parameters, session)


def in_local_environment() -> bool:
    """Return whether the command talks to the local environment of `make up` instead of AWS."""
    return bool(re.match(r"http://127\.0\.0\.1:", os.environ.get("AWS_ENDPOINT_URL", "")))


def now() -> datetime:
    """Return the time, as an aware datetime in UTC.

    In the local environment, which may run faster, it is the time there.
    """
    clock = os.environ.get(CLOCK)
    # With AWS itself, a variable that is still set would make every time wrong.
    if clock and in_local_environment():
        return world_time(clock, time.time())
    return datetime.now(UTC)


def world_time(clock: str, real: float) -> datetime:
    """Return the local environment's time at the real time `real`, both in epoch seconds UTC.

    `clock` is "<real time of its start>,<its time then>,<its speed>", the times in epoch seconds.
    """
    start, world_start, speed = map(float, clock.split(","))
    return datetime.fromtimestamp(world_start + (real - start) * speed, UTC)
