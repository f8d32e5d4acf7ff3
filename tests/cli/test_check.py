"""`listenkeys check` says of each part of a deployed stack that it is ok, or what to do."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from rich.console import Console

from listenkey_keeper import __version__
from listenkey_keeper.cli.check import check
from listenkey_keeper.cli.errors import CliError
from listenkey_keeper.cli.findings import Finding, check_view, to_dict
from listenkey_keeper.cli.probe import dry_run
from listenkey_keeper.cli.stack import Stack, connect
from listenkeys.report import MAX_PROBLEMS
from listenkeys.view.remedies import REMEDIES, remedy
from local.aws.stack import REGION, LocalAws
from local.clock import VirtualClock
from local.front import Front
from local.invoke import LocalFunction
from local.world import World

from .conftest import AwsFaults, Run, put_alarm
from .test_status import TICK

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


PROTECT = "; to protect the tables, deploy with ProtectTables=true"


@pytest.mark.parametrize(
    "status",
    ["CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"],
)
@pytest.mark.parametrize(("protected", "hint"), [("true", ""), ("false", PROTECT)])
def test_a_deployed_stack_is_named_and_unprotected_tables_too(
    stack: Stack, status: str, protected: str, hint: str
) -> None:
    told = Told(stack, ProtectTables=protected)
    stack_is(told, status, Tick="AWS::Events::Rule")
    place = f"{stack.name} in {REGION}, {status}"
    assert said(told, "stack") == [Finding("stack", True, f"{place}, version {__version__}{hint}")]
    stack_is(told, status, Tick="AWS::Events::Rule")
    told.outputs = {name: value for name, value in stack.outputs.items() if name != "Version"}
    assert said(told, "stack") == [Finding("stack", True, f"{place}{hint}")]


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_FAILED"])
def test_a_deployment_that_failed_is_not_well(told: Told, status: str) -> None:
    stack_is(told, status, Tick="AWS::Events::Rule")
    why = f"{status}: the last deployment failed or has not finished; the stack's events say why"
    assert said(told, "stack") == [Finding("stack", False, why)]


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
    same = Finding("settings", True, "the stack has the parameters of samconfig.toml")
    assert said(stack, "settings") == [same]
    end = ": the next `sam deploy` sends the file's value; edit the file if it is wrong"
    for name, value, differs in (
        ("RenewAfterMinutes", "10", "RenewAfterMinutes is 30 in samconfig.toml, but in the stack it is 10"),
        ("AlarmEmail", MAIL, f"AlarmEmail is empty in samconfig.toml, but in the stack it is {MAIL}"),
        ("RenewAfterMinutes", "", "RenewAfterMinutes is 30 in samconfig.toml, but in the stack it is empty"),
        ("AlarmEmail", None, "AlarmEmail is empty in samconfig.toml, but the stack does not have it"),
    ):
        told = Told(stack)
        told.parameters = {k: v for k, v in {**told.parameters, name: value}.items() if v is not None}
        assert said(told, "settings") == [Finding("settings", False, differs + end)]


def test_another_stacks_samconfig_and_a_broken_one_are_not_compared(stack: Stack) -> None:
    no_file = "run check in the folder with your samconfig.toml"
    for content, why in (
        (
            'stack_name = "another"\nparameter_overrides = ["LedgerDays=7"]',
            f"samconfig.toml is of another stack, another in {REGION}",
        ),
        (
            f'stack_name = "{stack.name}"\nregion = "us-west-1"\nparameter_overrides = ["LedgerDays=7"]',
            f"samconfig.toml is of another stack, {stack.name} in us-west-1",
        ),
        ("parameter_overrides = [1]", no_file),
        ("parameter_overrides = 1", no_file),
        ("""parameter_overrides = "AlarmEmail='a@b.example" """, no_file),
    ):
        Path("samconfig.toml").write_text(f"[default.deploy.parameters]\n{content}\n")
        assert said(Told(stack), "settings") == [Finding("settings", None, f"not compared: {why}")]


def test_a_stack_is_compared_with_the_samconfig_that_is_its_own(stack: Stack) -> None:
    for file, name, days in (("samconfig.toml", "first", 30), ("samconfig-2.toml", stack.name, 7)):
        Path(file).write_text(
            f'[default.deploy.parameters]\nstack_name = "{name}"\nregion = "{REGION}"\n'
            f'parameter_overrides = ["LedgerDays={days}"]\n'
        )
    told = Told(stack)
    told.parameters = {"LedgerDays": "7"}
    assert said(told, "settings") == [
        Finding("settings", True, "the stack has the parameters of samconfig-2.toml")
    ]


@pytest.fixture
def no_sweep(aws: LocalAws) -> Iterator[str]:
    """The sweep, disabled for a while."""
    rule = aws.resources["KeepaliveFunctionSweep"]
    aws.client("events").disable_rule(Name=rule)
    yield rule
    aws.client("events").enable_rule(Name=rule)


def test_a_disabled_rule_is_named_with_the_command_that_enables_it(stack: Stack, no_sweep: str) -> None:
    rules = sorted(name for name, its in stack_resources(stack).items() if its == "AWS::Events::Rule")
    rules.remove("KeepaliveFunctionSweep")
    off = "KeepaliveFunctionSweep is disabled"
    enable = f"enable it with `aws events enable-rule --name {no_sweep} --region {REGION}`"
    on = Finding("rules", True, f"{', '.join(rules)}: enabled")
    assert said(stack, "rules") == [Finding("rules", False, f"{off}: {enable}"), on]
    standby = Finding("rules", True, f"{off}, because RulesEnabled is false: this stack is paused")
    assert said(Told(stack, RulesEnabled="false"), "rules") == [standby, on]


def stack_resources(stack: Stack) -> dict[str, str]:
    """Return the types of the stack's resources by logical id."""
    found = stack.client("cloudformation").describe_stack_resources(StackName=stack.name)["StackResources"]
    return {each["LogicalResourceId"]: each["ResourceType"] for each in found}


@pytest.mark.parametrize("state", ["Enabled", "Enabling", "Creating", "Updating", "Disabled"])
def test_with_shards_the_queue_must_be_read(told: Told, state: str) -> None:
    stack_is(told, Work="AWS::Lambda::EventSourceMapping")
    told.answer("lambda", "get_event_source_mapping", {"UUID": its("Work"), "State": state})
    finding = Finding("queue", True, f"the function reads WorkQueue: {state}")
    if state == "Disabled":
        call = f"aws lambda update-event-source-mapping --enabled --uuid {its('Work')} --region {REGION}"
        finding = Finding("queue", False, f"{state}: enable it with `{call}`")
    assert said(told, "queue") == [finding]


def subscriptions(told: Told, *found: tuple[str, str, str]) -> None:
    """Have SNS name these: protocol, endpoint, ARN."""
    named = [{"Protocol": p, "Endpoint": e, "SubscriptionArn": arn} for p, e, arn in found]
    told.answer("sns", "list_subscriptions_by_topic", {"Subscriptions": named})


CONFIRM = (
    "is not confirmed and gets no alarms: open the email "
    '"AWS Notification - Subscription Confirmation" and confirm'
)
SUBSCRIBE = (
    f"{MAIL} is not subscribed: `aws sns subscribe --topic-arn TOPIC --protocol email "
    f"--notification-endpoint {MAIL} --region eu-west-1` sends a new confirmation email"
)
CONFIRMED = "arn:aws:sns:eu-west-1:123456789012:topic:1"


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ("", [("email", MAIL, CONFIRMED)], [(None, f"{MAIL}: {NOT_TRIED}")]),
        (MAIL, [("email", MAIL, "PendingConfirmation")], [(False, f"{MAIL} {CONFIRM}")]),
        (
            "",
            [("email", MAIL, CONFIRMED), ("email-json", "b@example.com", "PendingConfirmation")],
            [(False, f"b@example.com {CONFIRM}"), (None, f"{MAIL}: {NOT_TRIED}")],
        ),
        (MAIL, [("email", MAIL, "Deleted")], [(False, SUBSCRIBE)]),
        (MAIL, [], [(False, SUBSCRIBE)]),
        ("", [], [(False, "nobody gets the alarms: set AlarmEmail in samconfig.toml and deploy")]),
        ("", [("https", "https://example.com/CANARYtoken", CONFIRMED)], [(None, f"https: {NOT_TRIED}")]),
    ],
    ids=[
        "confirmed",
        "waiting",
        "confirmed and waiting",
        "deleted",
        "forgotten by AWS",
        "nobody",
        "no address",
    ],
)
def test_an_address_is_not_tried_or_told_what_to_do(
    told: Told, wanted: str, found: list[tuple[str, str, str]], expected: list[tuple[bool | None, str]]
) -> None:
    told.parameters["AlarmEmail"] = wanted
    subscriptions(told, *found)
    topic = told.outputs["AlarmTopicArn"]
    assert said(told, "email") == [
        Finding("email", ok, says.replace("TOPIC", topic)) for ok, says in expected
    ]


SERVICE = "not tried: its service shows when the last finished tick called it"


@pytest.mark.parametrize(
    ("name", "state", "ok", "says"),
    [
        ("Webhook", "ACTIVE", None, NOT_TRIED),
        ("Heartbeat", "ACTIVE", None, SERVICE),
        ("Webhook", "INACTIVE", False, "Webhook is INACTIVE: deploy the stack again"),
        ("Heartbeat", "INACTIVE", False, "Heartbeat is INACTIVE: deploy the stack again"),
    ],
)
def test_a_url_that_eventbridge_calls_was_not_tried(
    told: Told, name: str, state: str, ok: bool | None, says: str
) -> None:
    stack_is(told, **{name: "AWS::Events::ApiDestination"})
    subscriptions(told)
    told.answer("events", "describe_api_destination", {"Name": its(name), "ApiDestinationState": state})
    found = [finding for finding in check(told) if finding.name in ("webhook", "heartbeat", "email")]  # type: ignore[arg-type]
    nobody = "nobody gets the alarms: set AlarmEmail in samconfig.toml and deploy"
    assert found == [
        *([Finding("email", False, nobody)] if name == "Heartbeat" else []),
        Finding(name.lower(), ok, says),
    ]


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
        (None, False, "ThrottlesAlarm does not exist any more: deploy the stack again"),
        (
            {"StateValue": "OK", "ActionsEnabled": False},
            False,
            "ThrottlesAlarm sends no email, because its actions are disabled: enable them with `aws "
            f"cloudwatch enable-alarm-actions --alarm-names {its('ThrottlesAlarm')} --region {REGION}`",
        ),
        (
            {"StateValue": "INSUFFICIENT_DATA", "ActionsEnabled": True},
            True,
            "none of the 2 is on; 1 still without data, as in a new stack",
        ),
    ],
    ids=["deleted", "actions disabled", "new"],
)
def test_an_alarm_that_cannot_tell_anybody_is_not_well(
    told: Told, alarm: dict[str, Any] | None, ok: bool, says: str
) -> None:
    stack_is(told, ThrottlesAlarm="AWS::CloudWatch::Alarm", Other="AWS::CloudWatch::CompositeAlarm")
    found = [{"AlarmName": its("ThrottlesAlarm"), **alarm}] if alarm else []
    other = [{"AlarmName": its("Other"), "StateValue": "OK"}]
    told.answer("cloudwatch", "describe_alarms", {"MetricAlarms": found, "CompositeAlarms": other})
    others = [] if ok else [Finding("alarms", True, "1 of 2 are off")]
    assert said(told, "alarms") == [Finding("alarms", ok, says), *others]


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
    assert "action needed: 1, as said above" in run("check").stdout
    states = {(each["check"], each["status"]) for each in found["checks"]}
    assert {
        ("rules", "action needed"),
        ("alarms", "unknown"),
        ("email", "unknown"),
        ("Binance", "ok"),
    } <= states


def listen_keys_of(run: Run) -> list[tuple[str, str]]:
    checks = json.loads(run("check", "--json").stdout)["checks"]
    return [(each["status"], each["says"]) for each in checks if each["check"] == "listenKeys"]


def test_check_says_whether_the_accounts_listen_keys_are_alive(
    world: World, run: Run, front: Front, function: LocalFunction, api_key: str
) -> None:
    assert listen_keys_of(run) == []
    world.add_account("alice", api_key)
    new = "1 of 1 enabled account is not ok (1 at risk), because it is new: the next sweep creates what is "
    assert listen_keys_of(run) == [("unknown", new + "missing; `listenkeys renew` does it now")]
    function.invoke(TICK)
    assert listen_keys_of(run) == [("ok", "every enabled account has one that was renewed in time")]
    world.put_row("bob", secretId="listenkeys/none")
    world.put_row("carol", secretId="listenkeys/none", enabled=False)
    function.invoke(TICK)
    world.put_row("dave")
    says = (
        "2 of 3 enabled accounts are not ok (2 at risk), 1 of them new: `listenkeys status` shows what to do"
    )
    assert listen_keys_of(run) == [("action needed", says)]
    assert run("status").stdout.endswith(" 1 ok, 2 at risk (bob, dave), 1 disabled\n"), (
        "as many as check says"
    )


def test_check_finds_accounts_with_the_same_listen_key(
    world: World, run: Run, front: Front, function: LocalFunction, clock: VirtualClock, api_key: str
) -> None:
    world.add_account("main", api_key)
    for name, row in (("second", {}), ("pro", {"product": "portfolio-pro"}), ("off", {"enabled": False})):
        world.put_row(name, secretId="listenkeys/main", **row)
    function.invoke(TICK)
    world.put_current("off", world.current("main")["listenKey"], clock.now())
    says = (
        "main, second have the same listenKey: run `listenkeys renew --force main second`, then check again; "
        "if they still have the same one, their API keys are of one account at Binance: replace the wrong "
        "ones with `listenkeys accounts add --replace NAME`"
    )
    assert listen_keys_of(run) == [("action needed", says)]
    for number in range(4):
        world.put_row(f"more{number}", secretId="listenkeys/main")
    function.invoke(TICK)
    [(_, said)] = listen_keys_of(run)
    assert "and 1 more have the same listenKey: run `listenkeys renew --force`, then" in said


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
    console = Console(width=29)
    with console.capture() as captured:
        console.print(check_view([Finding("rules", False, "advice, " * 2), Finding("x", True, "y\n")]))
    assert [line.rstrip() for line in captured.get().splitlines()] == [
        "rules  action needed  advice,", "                      advice,", "x      ok             y?", "",
        "action needed: 1, as said", "above",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "status", "end"),
    [
        ((True, True), "ok", "the stack is ok"),
        ((True, None), "unknown", "the stack is ok, except for what could not be checked (unknown)"),
        ((False, None, False), "action needed", "action needed: 2, as said above"),
    ],
)
def test_the_worst_check_decides(found: tuple[bool | None, ...], status: str, end: str) -> None:
    findings = [Finding("a", ok, "says") for ok in found]
    words = {True: ("ok", "green"), False: ("action needed", "red"), None: ("unknown", "yellow")}
    assert to_dict(findings) == {
        "status": status,
        "checks": [{"check": "a", "status": words[ok][0], "says": "says"} for ok in found],
    }
    table, _, summary = check_view(findings).renderables
    assert str(summary) == end
    marks = [(str(cell), cell.style) for cell in table.columns[1].cells]  # type: ignore[union-attr]
    assert marks == [words[ok] for ok in found]


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
    assert done.stdout.count("renew manually, then move: docs/alarms.md, Binance refuses the address") == 1


NAT = "the subnets need a route to a NAT gateway, and the security groups must allow outbound HTTPS"
SHARED = "outside a VPC: shared with other AWS customers, and it changes"
ALLOW = "of your NAT: allow it in each API key's IP restriction"


@pytest.mark.parametrize(
    ("subnets", "probe", "finding"),
    [
        ("", {"served": True, "address": "1.2.3.4"},
         (True, f"h answers; it sees the function at 1.2.3.4 ({SHARED})")),
        ("s-1", {"served": True, "address": None}, (True, f"h answers ({ALLOW})")),
        ("s-1", {"served": False, "errorCode": "TIMEOUT"}, (False, f"h: TIMEOUT: late; {NAT}")),
        ("s-1", {"served": False, "errorCode": "CONNECTION"}, (False, f"h: CONNECTION: late; {NAT}")),
        ("", {"served": False, "errorCode": "TIMEOUT"}, (False, f"h: TIMEOUT: late; {REMEDIES['TIMEOUT']}")),
        ("s-1", {"served": False, "errorCode": "NEW"}, (False, "h: NEW: late; report it as a bug")),
    ],
)  # fmt: skip
def test_what_the_function_found_at_binance_is_told(
    told: Told, subnets: str, probe: dict[str, Any], finding: tuple[bool, str]
) -> None:
    told.parameters["SubnetIds"] = subnets
    found = {"host": "h", "errorMessage": "late", **probe}
    report = {"runId": "r", "durationMs": 1250, "accounts": 0, "problems": [], "plan": [], "probe": found}
    told.answer("lambda", "invoke", {"Payload": io.BytesIO(json.dumps(report).encode())})
    none = "none yet: `listenkeys accounts add NAME` adds one"
    assert list(dry_run(told)) == [  # type: ignore[arg-type]
        Finding("function", True, "a dry run succeeded in 1.2 s"),
        Finding("accounts", True, none), Finding("Binance", *finding),
    ]  # fmt: skip


SHOWS = "`listenkeys renew --dry-run` shows what to do"


@pytest.mark.parametrize(
    ("accounts", "problems", "due", "says"),
    [
        (1, 0, 0, "1 account read; none is due"),
        (2, 0, 1, "2 accounts read; 1 API key read, of those that are due"),
        (3, 0, 2, "3 accounts read; 2 API keys read, of those that are due"),
        (11, 10, 1, None),
        (11, 11, 0, f"1 more account; {SHOWS}"),
        (90, 80, 10, f"70 more accounts; {SHOWS}"),
    ],
)
def test_a_dry_run_counts_its_accounts_and_shows_ten_errors(
    told: Told, accounts: int, problems: int, due: int, says: str | None
) -> None:
    code = "INVALID_API_KEY"
    wrong = [
        {"accountId": f"a{number}", "errorCode": code, "errorMessage": f"no {number}"}
        for number in range(min(problems, MAX_PROBLEMS))
    ]
    report = {"runId": "r", "durationMs": 9, "accounts": accounts, "rejected": problems, "problems": wrong}
    report |= {"plan": [{}] * due, "probe": {"host": "h", "served": True, "address": None}}
    told.answer("lambda", "invoke", {"Payload": io.BytesIO(json.dumps(report).encode())})
    named = [
        Finding("accounts", False, f"a{number}: INVALID_API_KEY: no {number}; {remedy(code, f'a{number}')}")
        for number in range(min(problems, 10))
    ]
    assert list(dry_run(told))[1:-1] == [*named, *([Finding("accounts", not problems, says)] if says else [])]  # type: ignore[arg-type]
    del report["probe"]
    told.answer("lambda", "invoke", {"Payload": io.BytesIO(json.dumps(report).encode())})
    with pytest.raises(CliError, match="is another version than this command and did not ask Binance"):
        list(dry_run(told))  # type: ignore[arg-type]


def test_an_error_of_many_accounts_is_one_line_that_names_their_secret(
    world: World, run: Run, front: Front, faults: AwsFaults
) -> None:
    for number in range(60):
        world.add_account(f"a{number:02}", "a" * 20, secretId="listenkeys/all", secretField=f"a{number:02}")
    world.put_secret("listenkeys/all", "plain text")
    world.put_row("bob", secretId="listenkeys/bob")
    world.put_row("dave", product="spot")
    world.put_row("erin", product="spot")
    told = Told(connect(None, None, None))
    found = said(told, "accounts")
    assert [(each.ok, each.says.partition(": ")[0]) for each in found] == [
        (False, "dave, erin"),
        (False, "secret listenkeys/all, used by a00, a01, a02, a03, a04 and 43 more"),
        (False, f"13 more accounts; {SHOWS}"),
    ]
    assert found[1].says.partition(": ")[2].startswith("SECRET_INVALID: the secret must be text holding")
    assert found[1].says.endswith(f"; {REMEDIES['SECRET_INVALID']}")
    run("accounts", "disable", *(f"a{number:02}" for number in range(58)))
    told.parameters["ShardCount"] = "4"  # then the first ten rows are read, whether enabled or not
    assert [each.says for each in said(told, "accounts") if "DISABLED" in each.says] == []
    told.parameters["ShardCount"] = "1"
    named = ["dave, erin", "secret listenkeys/all, used by a58, a59", "bob"]
    assert [each.says.partition(": ")[0] for each in said(told, "accounts")] == named


def test_with_shards_the_dry_run_is_for_some_accounts(
    world: World, run: Run, front: Front, api_key: str
) -> None:
    for number in range(12):
        world.add_account(f"a{number}", api_key, secretId="listenkeys/all")
    told = Told(connect(None, None, None), ShardCount="4")
    counted = "{0} accounts read; {0} API keys read, of those that are due"
    assert said(told, "accounts") == [Finding("accounts", True, counted.format(10))]
    told.parameters["ShardCount"] = "1"
    assert said(told, "accounts") == [Finding("accounts", True, counted.format(12))]


def test_a_function_that_cannot_be_called_is_a_line_of_its_own(stack: Stack) -> None:
    [finding] = said(stack, "function")
    assert finding.ok is False
    assert finding.says.startswith("AWS could not be reached")
