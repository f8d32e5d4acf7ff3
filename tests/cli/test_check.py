"""`listenkeys check` says of each part of a deployed stack that it is ok, or what to do."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from rich.console import Console

from listenkey_keeper.cli.check import check
from listenkey_keeper.cli.findings import Finding, check_view
from listenkey_keeper.cli.stack import Stack, connect
from local.aws.stack import REGION, LocalAws
from local.front import Front
from local.world import World

from .conftest import AwsFaults, Run, put_alarm

MAIL = "ops@example.com"
NOT_TRIED = "not tried: `listenkeys check --page` sends test messages"


@pytest.fixture
def stack(run: Run, aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The stack as if it were on AWS: only 127.0.0.1 is the local environment. Lambda cannot be reached."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9")
    return connect(None, None, None)


def said(stack: Any, part: str) -> list[Finding]:
    return [finding for finding in check(stack) if finding.name == part]


class Told:
    """The stack, some of whose services answer what they are told: what moto cannot say."""

    def __init__(self, stack: Stack, **parameters: str) -> None:
        self.name, self.region, self.outputs = stack.name, stack.region, stack.outputs
        self.parameters = {**stack.parameters, **parameters}
        self._stack = stack
        self._stubs: dict[str, tuple[Any, Stubber]] = {}

    def client(self, service: str) -> Any:
        return self._stubs[service][0] if service in self._stubs else self._stack.client(service)

    def answer(self, service: str, operation: str, response: dict[str, Any]) -> None:
        """Answer the service's next call, which must be this operation, with this."""
        if service not in self._stubs:
            client = boto3.client(service)
            self._stubs[service] = client, Stubber(client)
            self._stubs[service][1].activate()
        self._stubs[service][1].add_response(operation, response)


@pytest.fixture
def told(stack: Stack) -> Told:
    return Told(stack)


def its(name: str) -> str:
    """Return the physical id of a resource; as long as a UUID, which some operations want."""
    return f"its-{name}".ljust(36, "0")


def resources(**kinds: str) -> dict[str, Any]:
    """Return CloudFormation's answer for a stack of these resources, by logical id."""
    return {
        "StackResources": [
            {
                "LogicalResourceId": name,
                "PhysicalResourceId": its(name),
                "ResourceType": kind,
                "Timestamp": 0,
                "ResourceStatus": "CREATE_COMPLETE",
            }
            for name, kind in kinds.items()
        ]
    }


def stack_is(told: Told, status: str = "CREATE_COMPLETE", **kinds: str) -> None:
    told.answer("cloudformation", "describe_stack_resources", resources(**kinds))
    described = {"StackName": told.name, "CreationTime": 0, "StackStatus": status}
    told.answer("cloudformation", "describe_stacks", {"Stacks": [described]})


def test_a_deployed_stack_is_named_with_its_region(stack: Stack) -> None:
    [finding] = said(stack, "stack")
    assert finding.ok
    assert finding.says.startswith(f"{stack.name} in {REGION}, CREATE_COMPLETE")


@pytest.mark.parametrize("protected", ["true", "false"])
def test_a_stack_with_unprotected_tables_is_well_and_says_so(stack: Stack, protected: str) -> None:
    told = Told(stack, ProtectTables=protected)
    stack_is(told, Tick="AWS::Events::Rule")
    [finding] = said(told, "stack")
    assert finding.ok
    assert ("ProtectTables=true" in finding.says) is (protected == "false")


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_FAILED"])
def test_a_deployment_that_failed_is_not_well(told: Told, status: str) -> None:
    stack_is(told, status, Tick="AWS::Events::Rule")
    [finding] = said(told, "stack")
    assert finding.ok is False
    assert status in finding.says


OVERRIDES = {
    "a list": """[ 'AlarmEmail=""', 'RenewAfterMinutes=30', 'ScheduleExpression="rate(30 minutes)"' ]""",
    "by --guided": """'AlarmEmail="" RenewAfterMinutes="30" ScheduleExpression="rate(30 minutes)"'""",
    "a table": """{ AlarmEmail = "", RenewAfterMinutes = 30, ScheduleExpression = "rate(30 minutes)" }""",
}


@pytest.mark.parametrize("overrides", OVERRIDES.values(), ids=OVERRIDES)
def test_a_parameter_that_the_next_deployment_would_change_back_is_named(
    stack: Stack, overrides: str
) -> None:
    Path("samconfig.toml").write_text(
        f'[default.deploy.parameters]\nstack_name = "{stack.name}"\nparameter_overrides = {overrides}\n'
    )
    [finding] = said(stack, "settings")
    assert finding.ok

    [finding] = said(Told(stack, RenewAfterMinutes="10"), "settings")
    assert finding.ok is False
    assert finding.says.startswith("RenewAfterMinutes is 30 in samconfig.toml, but in the stack it is 10: ")

    [finding] = said(Told(stack, AlarmEmail=MAIL), "settings")
    assert finding.says.startswith(f"AlarmEmail is empty in samconfig.toml, but in the stack it is {MAIL}: ")


def test_another_stacks_samconfig_and_a_broken_one_are_not_compared(stack: Stack) -> None:
    for content in (
        'stack_name = "another"\nparameter_overrides = ["LedgerDays=7"]',
        f'stack_name = "{stack.name}"\nregion = "us-west-1"\nparameter_overrides = ["LedgerDays=7"]',
        "parameter_overrides = [1]",
        "parameter_overrides = 1",
        """parameter_overrides = "AlarmEmail='a@b.example" """,
    ):
        Path("samconfig.toml").write_text(f"[default.deploy.parameters]\n{content}\n")
        assert [finding.ok for finding in said(Told(stack), "settings")] == [None]


def test_enabled_rules_are_well(stack: Stack) -> None:
    [finding] = said(stack, "rules")
    assert finding.ok
    assert {"KeepaliveFunctionTick", "KeepaliveFunctionSweep"} <= set(finding.says.split(":")[0].split(", "))


@pytest.fixture
def no_sweep(aws: LocalAws) -> Iterator[str]:
    """The sweep, disabled for a while."""
    rule = aws.resources["KeepaliveFunctionSweep"]
    aws.client("events").disable_rule(Name=rule)
    yield rule
    aws.client("events").enable_rule(Name=rule)


def test_a_disabled_rule_is_named_with_the_command_that_enables_it(stack: Stack, no_sweep: str) -> None:
    off, on = said(stack, "rules")
    assert off.ok is False
    assert off.says.startswith("KeepaliveFunctionSweep is disabled")
    assert f"aws events enable-rule --name {no_sweep} --region {REGION}" in off.says
    assert on.ok
    assert "Sweep" not in on.says


@pytest.mark.parametrize(("state", "ok"), [("Enabled", True), ("Enabling", True), ("Disabled", False)])
def test_with_shards_the_queue_must_be_read(told: Told, state: str, ok: bool) -> None:
    stack_is(told, Work="AWS::Lambda::EventSourceMapping")
    told.answer("lambda", "get_event_source_mapping", {"UUID": its("Work"), "State": state})
    [finding] = said(told, "queue")
    assert finding.ok is ok
    assert state in finding.says
    assert ("aws lambda update-event-source-mapping" in finding.says) is not ok


def subscriptions(told: Told, *found: tuple[str, str, str]) -> None:
    """Have SNS name these: protocol, endpoint, ARN."""
    named = [{"Protocol": p, "Endpoint": e, "SubscriptionArn": arn} for p, e, arn in found]
    told.answer("sns", "list_subscriptions_by_topic", {"Subscriptions": named})


CONFIRMED = "arn:aws:sns:eu-west-1:123456789012:topic:1"


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ("", [("email", MAIL, CONFIRMED)], [(None, f"{MAIL}: {NOT_TRIED}")]),
        (
            MAIL,
            [("email", MAIL, "PendingConfirmation")],
            [(False, f"{MAIL} is not confirmed.*AWS Notification - Subscription Confirmation")],
        ),
        (
            "",
            [("email", MAIL, CONFIRMED), ("email-json", "b@example.com", "PendingConfirmation")],
            [(False, "b@example.com is not confirmed"), (None, MAIL)],
        ),
        (MAIL, [], [(False, f"{MAIL}.*aws sns subscribe --topic-arn arn:")]),
        ("", [], [(False, "nobody gets the alarms: set AlarmEmail in samconfig.toml and deploy$")]),
        ("", [("https", "https://example.com/CANARYtoken", CONFIRMED)], [(None, f"https: {NOT_TRIED}$")]),
    ],
    ids=["confirmed", "waiting", "confirmed and waiting", "forgotten by AWS", "nobody", "no address"],
)
def test_an_address_is_not_tried_or_told_what_to_do(
    told: Told, wanted: str, found: list[tuple[str, str, str]], expected: list[tuple[bool | None, str]]
) -> None:
    told.parameters["AlarmEmail"] = wanted
    subscriptions(told, *found)
    for finding, (ok, says) in zip(said(told, "email"), expected, strict=True):
        assert (finding.ok, bool(re.match(says, finding.says))) == (ok, True), finding


@pytest.mark.parametrize(
    ("state", "ok", "says"), [("ACTIVE", None, "not tried"), ("INACTIVE", False, "deploy the stack again")]
)
@pytest.mark.parametrize(("name", "part"), [("Webhook", "webhook"), ("Heartbeat", "heartbeat")])
def test_a_url_that_eventbridge_calls_was_not_tried(
    told: Told, name: str, part: str, state: str, ok: bool | None, says: str
) -> None:
    stack_is(told, **{name: "AWS::Events::ApiDestination"})
    subscriptions(told)
    told.answer("events", "describe_api_destination", {"Name": its(name), "ApiDestinationState": state})
    [finding] = said(told, part)
    assert finding.ok is ok
    assert says in finding.says


@pytest.fixture
def key_at_risk(told: Told, aws: LocalAws) -> Iterator[str]:
    """The name of an alarm with KeyAtRiskAlarm's description; moto's CloudFormation makes none."""
    stack_is(told, KeyAtRiskAlarm="AWS::CloudWatch::Alarm")
    cloudwatch, name = told.client("cloudwatch"), its("KeyAtRiskAlarm")
    given = aws.template["Resources"]["KeyAtRiskAlarm"]["Properties"]
    put_alarm(cloudwatch, name, given["AlarmDescription"])
    yield name
    cloudwatch.delete_alarms(AlarmNames=[name])


def test_an_alarm_that_is_on_says_what_to_do_first(told: Told, key_at_risk: str) -> None:
    told.client("cloudwatch").set_alarm_state(AlarmName=key_at_risk, StateValue="ALARM", StateReason="-")
    [finding] = said(told, "alarms")
    assert finding.ok is False
    assert finding.says.startswith("KeyAtRiskAlarm is on: `listenkeys status` names the accounts")


def test_an_alarm_that_is_off_is_well(told: Told, key_at_risk: str) -> None:
    told.client("cloudwatch").set_alarm_state(AlarmName=key_at_risk, StateValue="OK", StateReason="-")
    assert said(told, "alarms") == [Finding("alarms", True, "none of the 1 is on")]


@pytest.mark.parametrize(
    ("alarm", "ok", "says"),
    [
        (None, False, "ThrottlesAlarm does not exist"),
        (
            {"StateValue": "OK", "ActionsEnabled": False},
            False,
            f"aws cloudwatch enable-alarm-actions --alarm-names {its('ThrottlesAlarm')}",
        ),
        ({"StateValue": "INSUFFICIENT_DATA", "ActionsEnabled": True}, True, "1 still without data"),
    ],
    ids=["deleted", "actions disabled", "new"],
)
def test_an_alarm_that_cannot_tell_anybody_is_not_well(
    told: Told, alarm: dict[str, Any] | None, ok: bool, says: str
) -> None:
    stack_is(told, ThrottlesAlarm="AWS::CloudWatch::Alarm")
    found = [{"AlarmName": its("ThrottlesAlarm"), **alarm}] if alarm else []
    told.answer("cloudwatch", "describe_alarms", {"MetricAlarms": found, "CompositeAlarms": []})
    [finding] = said(told, "alarms")
    assert (finding.ok, says in finding.says) == (ok, True), finding


def test_what_may_not_be_read_is_not_well_and_stops_nothing(stack: Stack, faults: AwsFaults) -> None:
    faults.fail("DescribeStackResources", "AccessDenied")
    findings = {f.name: f for f in check(connect(None, None, None))}
    assert findings["stack"].ok is False
    assert "access denied" in findings["stack"].says
    assert findings["rules"].says == "not checked, because the stack's resources could not be read"
    assert findings["email"].ok is None
    assert not any("CANARY" in f.says for f in findings.values())


def test_the_local_world_is_well_as_far_as_moto_can_tell(
    world: World, run: Run, front: Front, api_key: str
) -> None:
    world.add_account("alice", api_key)
    done = run("check")
    assert done.exit_code == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert " ok " in lines["stack"]
    assert "in the local environment, CREATE_COMPLETE" in lines["stack"]
    assert " ok " in lines["rules"]
    assert "unknown" in lines["email"]
    assert "unknown" in lines["alarms"]
    assert " ok " in lines["function"]
    assert "not compared" in lines["settings"]
    assert "1 account read; 1 API key read, of those that are due" in lines["accounts"]
    assert lines["Binance"].endswith(
        "127.0.0.1 answers; it sees the function at 127.0.0.1 (all on this machine)"
    )
    assert "the stack is ok, except for what could not be checked (unknown)" in done.stdout
    assert [r.method for r in world.exchange.requests] == ["PUT"]
    assert json.loads(run("check", "--json").stdout)["status"] == "unknown"


def test_json_has_the_status_of_each_check(run: Run, front: Front, no_sweep: str) -> None:
    done = run("check", "--json")
    found = json.loads(done.stdout)
    assert (found["status"], done.exit_code) == ("action needed", 1)
    assert "action needed: 1; `listenkeys status` shows the accounts" in run("check").stdout
    states = {(each["check"], each["status"]) for each in found["checks"]}
    assert {
        ("rules", "action needed"),
        ("alarms", "unknown"),
        ("email", "unknown"),
        ("Binance", "ok"),
    } <= states


def test_a_stack_without_accounts_is_well_and_says_how_to_add_one(run: Run, front: Front) -> None:
    done = run("check")
    assert done.exit_code == 0
    assert "`listenkeys accounts add NAME`" in done.stdout


def test_an_account_whose_row_makes_no_sense_is_named(world: World, run: Run, front: Front) -> None:
    world.put_row("alice", product="spot")
    done = run("check")
    assert done.exit_code == 1
    assert "alice: INVALID_ACCOUNT:" in done.stdout


def test_a_narrow_terminal_cuts_no_advice() -> None:
    console = Console(width=40)
    with console.capture() as captured:
        console.print(check_view([Finding("rules", False, "advice " * 30)]))
    assert captured.get().count("advice") == 30


def test_no_control_character_of_a_table_reaches_the_terminal(world: World, run: Run, front: Front) -> None:
    world.put_row("a\x1b[2J\x07\u202eb", product="x\x1b[2J")
    done = run("check")
    assert [letter for letter in done.output if not letter.isprintable() and letter != "\n"] == []


def test_a_region_that_binance_refuses_is_told_to_deploy_elsewhere(
    world: World, run: Run, front: Front
) -> None:
    world.exchange.fault(status=451)
    done = run("check")
    assert done.exit_code == 1
    assert "RESTRICTED_LOCATION" in done.stdout
    assert done.stdout.count("deploy in another AWS region") == 1


def probed(stack: Stack, front: Front, monkeypatch: pytest.MonkeyPatch, **parameters: str) -> str:
    """Return what is said of Binance for a stack with these parameters."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", front.url)
    [finding] = said(Told(stack, **parameters), "Binance")
    return finding.says


def test_behind_a_nat_gateway_the_address_is_the_one_to_allow(
    stack: Stack, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = probed(stack, front, monkeypatch, SubnetIds="subnet-1")
    assert "127.0.0.1 (of your NAT: allow it in each API key's IP restriction)" in inside
    assert "(outside a VPC: shared with other AWS customers" in probed(stack, front, monkeypatch)


def test_behind_a_nat_gateway_no_way_out_means_a_route(
    world: World, stack: Stack, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.exchange.fault("reset")
    inside = probed(stack, front, monkeypatch, SubnetIds="subnet-1")
    assert "the subnets need a route to a NAT gateway" in inside
    assert "NAT" not in probed(stack, front, monkeypatch)


def test_with_shards_the_dry_run_is_for_some_accounts(
    world: World, run: Run, front: Front, api_key: str
) -> None:
    for number in range(12):
        world.add_account(f"a{number}", api_key, secretId="listenkeys/all")
    told = Told(connect(None, None, None), ShardCount="4")
    [finding] = said(told, "accounts")
    assert finding.says.startswith("10 accounts read; 10 API keys read")


def test_a_function_that_cannot_be_called_is_a_line_of_its_own(stack: Stack) -> None:
    [finding] = said(stack, "function")
    assert finding.ok is False
    assert finding.says.startswith("AWS could not be reached")
