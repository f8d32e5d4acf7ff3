"""What template.yaml promises: its names, who may do what, and that no alarm or dead letter is lost."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from listenkeys.timing import AT_RISK, AT_RISK_MINUTES
from listenkeys.view.status import ATTRIBUTES
from local.aws.stack import choose, expand
from tests.dashboard import body_of, widgets_of
from tests.paths import ROOT
from tests.policies import as_list, statements_of

TEMPLATE = expand()
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c"
WITH_KEY = {"KmsKeyArn": KEY}
IN_VPC = {"SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"}
TOPIC = {"Ref": "AlarmTopic"}
STACK = "the stack's name"
FUNCTION_ARN = {"Fn::GetAtt": ["KeepaliveFunction", "Arn"]}
QUEUE_ARN = {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
RULES = {"KeepaliveFunctionTick", "KeepaliveFunctionSweep", "KeepaliveFunctionExpired"}

RESOURCES = {
    "KeepaliveFunction": "AWS::Lambda::Function",
    "KeepaliveRole": "AWS::IAM::Role",
    "KeepaliveLogGroup": "AWS::Logs::LogGroup",
    "AccountsTable": "AWS::DynamoDB::Table",
    "ListenKeysTable": "AWS::DynamoDB::Table",
    "LedgerTable": "AWS::DynamoDB::Table",
    "DeadLetterQueue": "AWS::SQS::Queue",
    "AlarmTopic": "AWS::SNS::Topic",
    "Dashboard": "AWS::CloudWatch::Dashboard",
    "WidgetFunction": "AWS::Lambda::Function",
    "WidgetRole": "AWS::IAM::Role",
    "ReaderPolicy": "AWS::IAM::ManagedPolicy",
    "MissedRunsAlarm": "AWS::CloudWatch::Alarm",
    "KeyAtRiskAlarm": "AWS::CloudWatch::Alarm",
    "RejectedAccountsAlarm": "AWS::CloudWatch::Alarm",
    "DeadLetterAlarm": "AWS::CloudWatch::Alarm",
    "ThrottlesAlarm": "AWS::CloudWatch::Alarm",
    "MissedTicksAlarm": "AWS::CloudWatch::Alarm",
    "UndeliveredAlarm": "AWS::CloudWatch::Alarm",
    "CrashedShardsAlarm": "AWS::CloudWatch::Alarm",
    "WaitingShardsAlarm": "AWS::CloudWatch::Alarm",
}
DEFAULTS = {
    "ScheduleExpression": "rate(30 minutes)",
    "SweepExpression": "rate(5 minutes)",
    "RenewAfterMinutes": "30",
    "SecretPrefix": "listenkeys",
    "BinanceBaseUrl": "",
    "BinanceStreamUrl": "",
    "MaxConcurrency": "16",
    "MaxWeightPerMinute": "1200",
    "LedgerMode": "all",
    "LedgerDays": "30",
    "ProtectTables": "false",
    "LogRetentionDays": "90",
    "LogLevel": "INFO",
    "AlarmEmail": "",
    "AlarmWebhookSecretId": "",
    "HeartbeatSecretId": "",
    "RulesEnabled": "true",
    "DashboardWidget": "true",
    "KmsKeyArn": "",
    "SecretsKmsKeyArn": "",
    "SubnetIds": "",
    "SecurityGroupIds": "",
    "MemorySize": "1769",
    "ReservedConcurrency": "0",
    "ShardCount": "1",
    "ShardConcurrency": "2",
}
OUTPUTS = {
    "KeepaliveFunctionName",
    "AccountsTableName",
    "ListenKeysTableName",
    "LedgerTableName",
    "SecretPrefix",
    "AlarmTopicArn",
    "DashboardUrl",
    "ReaderPolicyArn",
}
ENVIRONMENT = {
    "ACCOUNTS_TABLE": {"Ref": "AccountsTable"},
    "LISTEN_KEYS_TABLE": {"Ref": "ListenKeysTable"},
    "LEDGER_TABLE": {"Ref": "LedgerTable"},
    "SECRET_PREFIX": {"Ref": "SecretPrefix"},
    "SCHEDULE_EXPRESSION": {"Ref": "ScheduleExpression"},
    "SWEEP_EXPRESSION": {"Ref": "SweepExpression"},
    "RENEW_AFTER_MINUTES": {"Ref": "RenewAfterMinutes"},
    "BINANCE_BASE_URL": {"Ref": "BinanceBaseUrl"},
    "BINANCE_STREAM_URL": {"Ref": "BinanceStreamUrl"},
    "MAX_CONCURRENCY": {"Ref": "MaxConcurrency"},
    "MAX_WEIGHT_PER_MINUTE": {"Ref": "MaxWeightPerMinute"},
    "LEDGER_MODE": {"Ref": "LedgerMode"},
    "LEDGER_DAYS": {"Ref": "LedgerDays"},
    "SHARD_COUNT": {"Ref": "ShardCount"},
    "WORK_QUEUE_URL": "",
    "HEARTBEAT_SECRET_ID": {"Ref": "HeartbeatSecretId"},
    "POWERTOOLS_SERVICE_NAME": {"Ref": "AWS::StackName"},
    "POWERTOOLS_METRICS_NAMESPACE": "ListenKeyKeeper",
    "POWERTOOLS_LOG_LEVEL": {"Ref": "LogLevel"},
}
METRICS = {
    "SweepsCompleted",
    "TicksCompleted",
    "KeysExtended",
    "KeysChanged",
    "KeysFailed",
    "KeysDeferred",
    "KeysRejected",
    "MinRemainingSeconds",
    "UsedWeight",
    "KeysAtRisk",
}
ALARMS = sorted(name for name, kind in RESOURCES.items() if kind == "AWS::CloudWatch::Alarm")
SILENT = {"RejectedAccountsAlarm", "DeadLetterAlarm", "ThrottlesAlarm"}  # another one tells, or AccountsRule

HERE = "${AWS::Region}:${AWS::AccountId}"
GRANTS: list[tuple[str, Any, Any]] = [
    ("dynamodb:Scan", {"Fn::GetAtt": ["AccountsTable", "Arn"]}, None),
    ("dynamodb:BatchGetItem", {"Fn::GetAtt": ["ListenKeysTable", "Arn"]}, None),
    ("dynamodb:UpdateItem", {"Fn::GetAtt": ["ListenKeysTable", "Arn"]}, None),
    ("dynamodb:PutItem", {"Fn::GetAtt": ["LedgerTable", "Arn"]}, None),
    ("dynamodb:UpdateItem", {"Fn::GetAtt": ["LedgerTable", "Arn"]}, None),
    (
        "secretsmanager:GetSecretValue",
        {"Fn::Sub": f"arn:${{AWS::Partition}}:secretsmanager:{HERE}:secret:${{SecretPrefix}}/*"},
        None,
    ),
    ("secretsmanager:BatchGetSecretValue", "*", None),
    (
        "events:PutEvents",
        {"Fn::Sub": f"arn:${{AWS::Partition}}:events:{HERE}:event-bus/default"},
        {
            "ForAllValues:StringEquals": {"events:source": "listenkey-keeper"},
            "Null": {"events:source": "false"},
        },
    ),
    ("logs:CreateLogStream", {"Fn::GetAtt": ["KeepaliveLogGroup", "Arn"]}, None),
    ("logs:PutLogEvents", {"Fn::GetAtt": ["KeepaliveLogGroup", "Arn"]}, None),
    # Lambda's, to remove its interfaces when the function leaves a VPC; denied to the code.
    ("ec2:DescribeNetworkInterfaces", "*", None),
    ("ec2:DeleteNetworkInterface", "*", None),
    ("ec2:UnassignPrivateIpAddresses", "*", None),
]
OF_KEEPALIVE: list[tuple[str, Any, Any]] = [
    ("dynamodb:BatchGetItem", {"Fn::GetAtt": ["AccountsTable", "Arn"]}, None),
    ("dynamodb:Scan", {"Fn::GetAtt": ["ListenKeysTable", "Arn"]}, None),
    ("sqs:SendMessage", {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}, None),
]
KEY_GRANTS: list[tuple[str, Any, Any]] = [
    ("kms:Decrypt", {"Ref": "KmsKeyArn"}, None),
    ("kms:GenerateDataKey", {"Ref": "KmsKeyArn"}, None),
]
VPC_GRANTS: list[tuple[str, Any, Any]] = [
    (f"ec2:{action}", "*", None)
    for action in ("CreateNetworkInterface", "DescribeSubnets", "AssignPrivateIpAddresses")
]
SHARDED = {"ShardCount": "50"}
SEND_SHARDS = [("sqs:SendMessage", {"Fn::GetAtt": ["WorkQueue", "Arn"]}, None)]
OF_SHARDS: list[tuple[str, Any, Any]] = [
    (f"sqs:{action}", {"Fn::GetAtt": ["WorkQueue", "Arn"]}, None)
    for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "ChangeMessageVisibility")
]
SECRETS_KEY = {"SecretsKmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1a2b3c4d"}
SECRETS_KEY_GRANTS: list[tuple[str, Any, Any]] = [
    (
        "kms:Decrypt",
        {"Ref": "SecretsKmsKeyArn"},
        {"StringEquals": {"kms:ViaService": {"Fn::Sub": "secretsmanager.${AWS::Region}.amazonaws.com"}}},
    )
]


def deployed(parameters: dict[str, str] | None = None) -> dict[str, Any]:
    """Return each resource's properties, as these parameters leave them."""
    resources = choose(TEMPLATE, parameters or {})["Resources"]
    return {name: resource["Properties"] for name, resource in resources.items()}


def of_type(kind: str) -> set[str]:
    return {name for name, resource in TEMPLATE["Resources"].items() if resource["Type"] == kind}


def lines(statements: list[dict[str, Any]]) -> list[str]:
    """Return one line for each action, resource and condition of these statements."""
    return sorted(
        json.dumps([action, resource, statement.get("Condition")])
        for statement in statements
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    )


def granted(policies: list[dict[str, Any]]) -> list[str]:
    """Return what these policy documents allow, as `lines`; they deny nothing."""
    statements = [statement for policy in policies for statement in policy["Statement"]]
    assert {statement["Effect"] for statement in statements} == {"Allow"}
    return lines(statements)


def dashboard() -> list[dict[str, Any]]:
    return widgets_of(choose(TEMPLATE, {}), AWSStackName=STACK)


def metrics_on_dashboard() -> set[tuple[str, str]]:
    """Return (namespace, metric) of each line, with CloudWatch's "." for "as above" filled in."""
    found = set()
    for widget in dashboard():
        above: list[Any] = []
        for line in widget["properties"].get("metrics", []):
            full = [above[at] if part == "." else part for at, part in enumerate(line)]
            found.add((full[0], full[1]))
            if full[0] == "ListenKeyKeeper":
                assert full[2:4] == ["service", STACK]
            above = full
    return found


def metric_of(alarm: dict[str, Any]) -> dict[str, Any]:
    """Return the one stored metric an alarm reads, whether directly or through an expression."""
    if "Metrics" not in alarm:
        return {
            name: alarm[name] for name in ("Namespace", "MetricName", "Dimensions", "Period", "Statistic")
        }
    [stored] = [metric["MetricStat"] for metric in alarm["Metrics"] if "MetricStat" in metric]
    return {**stored["Metric"], "Period": stored["Period"], "Statistic": stored["Stat"]}


@pytest.mark.parametrize(("name", "kind"), RESOURCES.items())
def test_a_resource_has_the_logical_id_that_users_hold_on_to(name: str, kind: str) -> None:
    assert TEMPLATE["Resources"][name]["Type"] == kind


def test_the_parameters_and_their_defaults_are_those_of_the_contract() -> None:
    assert {name: parameter["Default"] for name, parameter in TEMPLATE["Parameters"].items()} == DEFAULTS


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_parameter_is_described_used_and_in_one_group_of_the_console(name: str) -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    used = json.dumps([TEMPLATE[section] for section in ("Conditions", "Resources")])

    assert TEMPLATE["Parameters"][name]["Description"]
    assert f'{{"Ref": "{name}"}}' in used or f"${{{name}}}" in used
    assert [name in group["Parameters"] for group in groups].count(True) == 1


@pytest.mark.parametrize(
    "name", [name for name in DEFAULTS if "AllowedPattern" in TEMPLATE["Parameters"][name]]
)
def test_a_default_is_allowed_by_its_own_pattern(name: str) -> None:
    parameter = TEMPLATE["Parameters"][name]
    assert re.fullmatch(parameter["AllowedPattern"], parameter["Default"])


SCHEDULES = [
    "rate(1 minute)", "rate(30 minutes)", "rate(60 minutes)", "rate(1 hour)", "cron(0/30 * * * ? *)",
    "cron(*/5 * * * ? *)", "cron(0 8 1 * ? *)", "cron(0 18 ? * MON-FRI *)", "cron(0/5 8-17 ? * MON-FRI *)",
    "cron(0 9 ? * 2#1 *)", "cron(0,20,40 0-23 L JAN,JUL ? 2026-2030)", "cron(0 0 15W * ? *)",
    "cron(0 0 ? * 6L *)",
]  # fmt: skip
NO_SCHEDULES = [
    "every 30 minutes", "rate(1 minutes)", "rate(30 minute)", "rate(2 hour)", "rate(0 minutes)",
    "rate(2 hours)", "rate(61 minutes)", "rate(1 day)",
    "rate(1.5 hours)", "cron(0/30 * * * ?)", "cron(*/5 * * * *)", "cron(0 10 * * * *)",
    "cron(0 10 ? * ? *)", "cron(60 * * * ? *)", "cron(0 24 * * ? *)", "cron(0 0 32 * ? *)",
    "cron(0 0 1 13 ? *)", "cron(0 0 ? * 8 *)", "cron(0, * * * ? *)", "cron(1515 * * * ? *)",
    "cron(0/0 * * * ? *)", "cron(0 0 * * ? 1969)", "cron(A * * * ? *)",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        # EventBridge User Guide, "Cron expressions reference" and "Rate expressions reference".
        *(("ScheduleExpression", text, True) for text in SCHEDULES),
        *(("ScheduleExpression", text, False) for text in NO_SCHEDULES),
        ("SweepExpression", "rate(8 minutes)", True),
        ("SweepExpression", "rate(9 minutes)", False),
        ("SweepExpression", "rate(1 hour)", False),
        ("SweepExpression", "cron(0/5 * * * ? *)", False),
        ("SecretPrefix", "team/listenkeys", True),
        ("SecretPrefix", "*", False),
        ("SecretPrefix", "listenkeys/", False),
        ("BinanceBaseUrl", "https://testnet.binancefuture.com", True),
        ("BinanceBaseUrl", "http://127.0.0.1:8080", True),
        ("BinanceBaseUrl", "http://fapi.binance.com", False),
        ("BinanceBaseUrl", "https://fapi.binance.com/fapi", False),
        ("BinanceStreamUrl", "wss://fstream.binancefuture.com", True),
        ("BinanceStreamUrl", "ws://127.0.0.1:8080", True),
        ("BinanceStreamUrl", "ws://fstream.binance.com", False),
        ("BinanceStreamUrl", "wss://fstream.binance.com/ws", False),
        ("AlarmEmail", "ops@example.com", True),
        ("AlarmEmail", "ops", False),
        ("KmsKeyArn", KEY, True),
        ("KmsKeyArn", "alias/mine", False),
    ],
)
def test_a_parameter_takes_what_makes_sense_and_nothing_else(name: str, value: str, allowed: bool) -> None:
    assert bool(re.fullmatch(TEMPLATE["Parameters"][name]["AllowedPattern"], value)) is allowed


def test_the_outputs_are_those_of_the_contract_and_described() -> None:
    assert TEMPLATE["Outputs"].keys() == OUTPUTS
    assert all(output["Description"] for output in TEMPLATE["Outputs"].values())


def test_the_function_gets_exactly_the_settings_it_reads() -> None:
    assert deployed()["KeepaliveFunction"]["Environment"]["Variables"] == ENVIRONMENT


def test_the_function_has_the_size_and_runtime_of_the_contract() -> None:
    function = deployed()["KeepaliveFunction"]
    wanted = {
        "Handler": "app.lambda_handler",
        "Runtime": "python3.13",
        "Architectures": ["arm64"],
        "MemorySize": {"Ref": "MemorySize"},
        "Timeout": 300,
    }
    assert {name: function[name] for name in wanted} == wanted


def test_vpc_and_reserved_concurrency_are_there_only_when_asked_for() -> None:
    asked = deployed({**IN_VPC, "ReservedConcurrency": "3"})["KeepaliveFunction"]

    assert {"VpcConfig", "ReservedConcurrentExecutions"}.isdisjoint(deployed()["KeepaliveFunction"])
    assert asked["VpcConfig"] == {
        "SubnetIds": {"Ref": "SubnetIds"},
        "SecurityGroupIds": {"Ref": "SecurityGroupIds"},
    }
    assert asked["ReservedConcurrentExecutions"] == {"Ref": "ReservedConcurrency"}


def test_the_function_logs_to_its_own_group_as_text_and_the_group_forgets() -> None:
    resources = deployed()
    assert resources["KeepaliveFunction"]["LoggingConfig"] == {
        "LogGroup": {"Ref": "KeepaliveLogGroup"},
        "LogFormat": "Text",
    }
    assert resources["KeepaliveLogGroup"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_the_build_has_a_target_for_the_function() -> None:
    assert TEMPLATE["Resources"]["KeepaliveFunction"]["Metadata"]["BuildMethod"] == "makefile"
    assert "\nbuild-KeepaliveFunction:\n" in (ROOT / "functions/keepalive/Makefile").read_text()


@pytest.mark.parametrize(
    ("parameters", "role", "grants"),
    [
        pytest.param({}, "KeepaliveRole", OF_KEEPALIVE, id="by default"),
        pytest.param(WITH_KEY, "KeepaliveRole", OF_KEEPALIVE + KEY_GRANTS, id="with a customer key"),
        pytest.param(
            SECRETS_KEY, "KeepaliveRole", OF_KEEPALIVE + SECRETS_KEY_GRANTS, id="with a key for the secrets"
        ),
        pytest.param(IN_VPC, "KeepaliveRole", OF_KEEPALIVE + VPC_GRANTS, id="in a VPC"),
        pytest.param(SHARDED, "KeepaliveRole", OF_KEEPALIVE + SEND_SHARDS, id="with shards"),
        pytest.param(SHARDED, "ShardRole", OF_SHARDS, id="the shards'"),
        pytest.param({**SHARDED, **IN_VPC}, "ShardRole", OF_SHARDS + VPC_GRANTS, id="the shards' in a VPC"),
    ],
)
def test_a_role_may_do_what_the_code_does_and_nothing_else(
    parameters: dict[str, str], role: str, grants: list[tuple[str, Any, Any]]
) -> None:
    statements = statements_of(choose(TEMPLATE, parameters)["Resources"], role)
    allowed = [statement for statement in statements if statement["Effect"] == "Allow"]

    assert lines(allowed) == sorted(map(json.dumps, GRANTS + grants))


@pytest.mark.parametrize("vpc", [{}, IN_VPC], ids=["without a VPC", "in a VPC"])
@pytest.mark.parametrize("shards", [{}, SHARDED], ids=["one function", "shards"])
def test_the_code_may_not_touch_the_network_interfaces_that_lambda_makes(
    shards: dict[str, str], vpc: dict[str, str]
) -> None:
    resources = choose(TEMPLATE, {**vpc, **shards})["Resources"]
    functions = ["KeepaliveFunction", "ShardFunction"] if shards else ["KeepaliveFunction"]
    condition = {
        "ArnEquals": {"lambda:SourceFunctionArn": [{"Fn::GetAtt": [name, "Arn"]} for name in functions]}
    }

    for role in ["KeepaliveRole", "ShardRole"] if shards else ["KeepaliveRole"]:
        denied = [s for s in statements_of(resources, role) if s["Effect"] != "Allow"]
        assert {statement["Effect"] for statement in denied} == {"Deny"}
        assert lines(denied) == sorted(
            json.dumps([action, "*", condition])
            for action, *_ in VPC_GRANTS + GRANTS
            if action.startswith("ec2:")
        )


def test_nothing_else_in_the_stack_grants_permissions() -> None:
    assert of_type("AWS::IAM::Role") == {"KeepaliveRole", "ShardRole", "WebhookRole", "WidgetRole"}
    assert of_type("AWS::IAM::ManagedPolicy") == {"ReaderPolicy", "RunPolicy"}
    assert of_type("AWS::IAM::Policy") == {"NoInterfacesForCode"}
    assert not of_type("AWS::IAM::RolePolicy")
    assert deployed(SHARDED)["KeepaliveFunction"]["Role"] == {"Fn::GetAtt": ["KeepaliveRole", "Arn"]}
    assert deployed(SHARDED)["ShardFunction"]["Role"] == {"Fn::GetAtt": ["ShardRole", "Arn"]}


@pytest.mark.parametrize("parameters", [{}, WITH_KEY, IN_VPC], ids=["by default", "with a key", "in a VPC"])
def test_the_widget_may_read_what_it_shows_and_no_key(parameters: dict[str, str]) -> None:
    named = {
        "ForAllValues:StringEquals": {"dynamodb:Attributes": [*ATTRIBUTES, "record"]},
        "Null": {"dynamodb:Attributes": "false"},
        "StringEqualsIfExists": {"dynamodb:Select": "SPECIFIC_ATTRIBUTES"},
    }
    through = {"StringEquals": {"kms:ViaService": {"Fn::Sub": "dynamodb.${AWS::Region}.amazonaws.com"}}}
    grants = [
        ("dynamodb:Scan", {"Fn::GetAtt": ["AccountsTable", "Arn"]}, None),
        ("dynamodb:Scan", {"Fn::GetAtt": ["ListenKeysTable", "Arn"]}, named),
        ("logs:CreateLogStream", {"Fn::GetAtt": ["KeepaliveLogGroup", "Arn"]}, None),
        ("logs:PutLogEvents", {"Fn::GetAtt": ["KeepaliveLogGroup", "Arn"]}, None),
    ]
    if parameters == WITH_KEY:
        grants.append(("kms:Decrypt", {"Ref": "KmsKeyArn"}, through))
    resources = deployed(parameters)

    assert granted([policy["PolicyDocument"] for policy in resources["WidgetRole"]["Policies"]]) == sorted(
        map(json.dumps, grants)
    )
    assert "ManagedPolicyArns" not in resources["WidgetRole"]
    assert resources["WidgetFunction"]["Role"] == {"Fn::GetAtt": ["WidgetRole", "Arn"]}
    assert "VpcConfig" not in resources["WidgetFunction"]
    assert "listenKey" not in ATTRIBUTES


def test_the_widget_is_left_out_when_it_is_not_wanted() -> None:
    def names(wanted: str) -> set[str]:
        return set(deployed({"DashboardWidget": wanted}))

    assert names("true") - names("false") == {"WidgetFunction", "WidgetRole"}
    assert "${Widget" not in body_of(choose(TEMPLATE, {"DashboardWidget": "false"}))
    without = widgets_of(choose(TEMPLATE, {"DashboardWidget": "false"}), AWSStackName=STACK)
    assert [widget for widget in dashboard() if widget["type"] != "custom"] == without


def test_the_widget_calls_its_function_and_its_button_the_one_that_renews() -> None:
    arns = {"WidgetFunctionArn": "the widget", "KeepaliveFunctionArn": "the keeper"}
    [widget] = [w for w in widgets_of(choose(TEMPLATE, {}), **arns) if w["type"] == "custom"]
    assert (widget["properties"]["endpoint"], widget["properties"]["params"]) == (
        "the widget",
        {"renew": "the keeper"},
    )
    assert widget["properties"]["updateOn"]["refresh"] is True
    function = deployed()["WidgetFunction"]
    assert (function["Handler"], function["Timeout"], function["MemorySize"]) == ("widget.handler", 5, 512)
    assert TEMPLATE["Resources"]["WidgetFunction"]["Metadata"]["BuildMethod"] == "makefile"


def test_a_reader_may_get_a_key_and_say_that_it_is_dead() -> None:
    reads = ("dynamodb:GetItem", {"Fn::GetAtt": ["ListenKeysTable", "Arn"]}, None)
    through = {"StringEquals": {"kms:ViaService": {"Fn::Sub": "dynamodb.${AWS::Region}.amazonaws.com"}}}
    opens = ("kms:Decrypt", {"Ref": "KmsKeyArn"}, through)

    said = {"events:source": "listenkey-keeper.bot", "events:detail-type": "Listen Key Expired"}
    says = (
        "events:PutEvents",
        {"Fn::Sub": f"arn:${{AWS::Partition}}:events:{HERE}:event-bus/default"},
        {"ForAllValues:StringEquals": said, "Null": dict.fromkeys(said, "false")},
    )

    assert granted([deployed()["ReaderPolicy"]["PolicyDocument"]]) == sorted(map(json.dumps, (reads, says)))
    assert granted([deployed(WITH_KEY)["ReaderPolicy"]["PolicyDocument"]]) == sorted(
        map(json.dumps, [reads, says, opens])
    )


def test_only_the_tick_the_sweep_and_a_bots_event_start_the_function() -> None:
    resources = deployed()
    targets = {rule: resources[rule]["Targets"] for rule in of_type("AWS::Events::Rule") & resources.keys()}

    assert {rule for rule, each in targets.items() if FUNCTION_ARN in [t["Arn"] for t in each]} == RULES
    assert all(len(targets[rule]) == 1 for rule in RULES)
    assert "Input" not in targets["KeepaliveFunctionTick"][0]
    assert json.loads(targets["KeepaliveFunctionSweep"][0]["Input"]) == {"overdueOnly": True}
    assert resources["KeepaliveFunctionTick"]["ScheduleExpression"] == {"Ref": "ScheduleExpression"}
    assert resources["KeepaliveFunctionSweep"]["ScheduleExpression"] == {"Ref": "SweepExpression"}


def test_one_shard_deploys_neither_a_queue_nor_a_second_function() -> None:
    one, many = set(deployed({"ShardCount": "1"})), set(deployed(SHARDED))

    assert one == set(deployed())
    assert many - one == {
        "WorkQueue", "ShardFunction", "ShardFunctionWork", "ShardRole",
        "CrashedShardsAlarm", "WaitingShardsAlarm",
    }  # fmt: skip


def test_the_second_function_is_the_same_code_with_the_same_settings() -> None:
    resources = deployed(SHARDED)
    keepalive, shard = resources["KeepaliveFunction"], resources["ShardFunction"]

    differing = {name for name in keepalive.keys() | shard.keys() if keepalive.get(name) != shard.get(name)}
    assert differing == {"Description", "Handler", "Role"}
    assert shard["Handler"] == "app.shard_handler"
    assert shard["Environment"]["Variables"]["WORK_QUEUE_URL"] == {"Ref": "WorkQueue"}


def test_a_shard_that_fails_three_times_becomes_a_dead_letter() -> None:
    resources = deployed(SHARDED)
    queue, source = resources["WorkQueue"], resources["ShardFunctionWork"]

    assert queue["RedrivePolicy"] == {"deadLetterTargetArn": QUEUE_ARN, "maxReceiveCount": 3}
    assert queue["VisibilityTimeout"] == 6 * resources["ShardFunction"]["Timeout"]
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "ShardConcurrency"}}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_stack_that_waits_fires_nothing_and_answers_no_bot(rule: str) -> None:
    assert deployed()[rule]["State"] == "ENABLED"
    assert deployed({"RulesEnabled": "false"})[rule]["State"] == "DISABLED"


@pytest.mark.parametrize("rule", [pytest.param(rule, id=f"row44-{rule}") for rule in sorted(RULES)])
def test_what_a_rule_cannot_deliver_within_25_minutes_reaches_the_dead_letter_queue(rule: str) -> None:
    [target] = deployed()[rule]["Targets"]
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 1500, "MaximumRetryAttempts": 10}
    assert target["DeadLetterConfig"] == {"Arn": QUEUE_ARN}


@pytest.mark.parametrize("row", [pytest.param(44, id="row44")])
def test_the_queue_takes_messages_from_exactly_these_rules(row: int) -> None:
    [statement] = deployed()["DeadLetterQueuePolicy"]["PolicyDocument"]["Statement"]

    assert deployed()["DeadLetterQueuePolicy"]["Queues"] == [{"Ref": "DeadLetterQueue"}]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "sqs:SendMessage")
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Resource"] == QUEUE_ARN
    [[operator, sources]] = statement["Condition"].items()
    assert operator == "ArnEquals"
    assert sorted(map(json.dumps, sources["aws:SourceArn"])) == sorted(
        json.dumps({"Fn::GetAtt": [rule, "Arn"]}) for rule in RULES
    )


@pytest.mark.parametrize("row", [pytest.param(45, id="row45")])
def test_a_failed_or_throttled_event_is_retried_for_25_minutes_and_then_kept_once(row: int) -> None:
    resources = deployed()
    [config] = [resources[name] for name in of_type("AWS::Lambda::EventInvokeConfig")]

    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (2, 1500)
    assert config["DestinationConfig"] == {"OnFailure": {"Destination": QUEUE_ARN}}
    assert "DeadLetterConfig" not in resources["KeepaliveFunction"]


@pytest.mark.parametrize("table", sorted(of_type("AWS::DynamoDB::Table")))
@pytest.mark.parametrize("parameters", [{}, WITH_KEY], ids=["by default", "with a customer key"])
def test_a_table_outlives_the_stack_can_be_restored_and_is_encrypted(
    table: str, parameters: dict[str, str]
) -> None:
    properties = deployed(parameters)[table]
    customer_key = {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": {"Ref": "KmsKeyArn"}}

    # A table that a failed first deployment has made goes with it; every other one stays.
    assert TEMPLATE["Resources"][table]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert TEMPLATE["Resources"][table]["UpdateReplacePolicy"] == "Retain"
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["DeletionProtectionEnabled"] == {"Ref": "ProtectTables"}
    # None: the key that DynamoDB owns, free and open to readers from other accounts.
    assert properties.get("SSESpecification") == (customer_key if parameters else None)


def test_the_template_that_adopts_tables_has_them_as_this_one_has() -> None:
    whole, tables = (
        yaml_parse((ROOT / path).read_text()) for path in ("template.yaml", "docs/adopt-tables.yaml")
    )
    assert tables["Resources"] == {name: whole["Resources"][name] for name in of_type("AWS::DynamoDB::Table")}
    assert tables["Conditions"].items() <= whole["Conditions"].items()
    for name, declared in tables["Parameters"].items():
        assert declared.items() <= whole["Parameters"][name].items()


def test_the_queue_keeps_letters_for_14_days_and_is_encrypted_with_a_key_that_rules_can_use() -> None:
    queue, with_key = deployed()["DeadLetterQueue"], deployed(WITH_KEY)["DeadLetterQueue"]

    assert queue == {"MessageRetentionPeriod": 14 * 24 * 3600, "SqsManagedSseEnabled": True}
    assert with_key == {"MessageRetentionPeriod": 14 * 24 * 3600, "KmsMasterKeyId": {"Ref": "KmsKeyArn"}}


@pytest.mark.parametrize("row", [pytest.param(44, id="row44")])
def test_the_topic_is_never_encrypted_with_a_key_that_alarms_cannot_use(row: int) -> None:
    assert "KmsMasterKeyId" not in deployed()["AlarmTopic"]
    assert deployed(WITH_KEY)["AlarmTopic"]["KmsMasterKeyId"] == {"Ref": "KmsKeyArn"}


@pytest.mark.parametrize("row", [pytest.param(44, id="row44")])
def test_alarms_of_this_account_may_publish_to_the_topic(row: int) -> None:
    policy = deployed()["AlarmTopicPolicy"]
    statement, of_rules = policy["PolicyDocument"]["Statement"]

    assert policy["Topics"] == [TOPIC]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "sns:Publish")
    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert statement["Resource"] == TOPIC
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert of_rules["Principal"] == {"Service": "events.amazonaws.com"}
    assert "Condition" not in of_rules, "EventBridge meets none when it publishes to a topic"


def test_an_address_is_subscribed_only_when_one_is_given() -> None:
    assert "AlarmSubscription" not in deployed()
    assert deployed({"AlarmEmail": "ops@example.com"})["AlarmSubscription"] == {
        "TopicArn": TOPIC,
        "Protocol": "email",
        "Endpoint": {"Ref": "AlarmEmail"},
    }


def test_there_is_no_alarm_outside_the_contract() -> None:
    assert sorted(of_type("AWS::CloudWatch::Alarm")) == ALARMS


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_tells_the_topic_what_it_means_and_what_to_do_first(name: str) -> None:
    alarm = deployed(SHARDED)[name]
    told = [] if name in SILENT else [TOPIC]
    assert alarm.get("AlarmActions", []) == alarm.get("OKActions", []) == told
    assert "First: " in alarm["AlarmDescription"]
    assert len(alarm["AlarmDescription"]) <= 1024
    assert alarm.get("ActionsEnabled", True) is True
    assert "TreatMissingData" in alarm
    assert alarm["WarmUpConfiguration"] == {
        "WarmUpPeriodDurationInMinutes": 30, "OnlyStartEvaluatingAfterWarmUpPeriodEnds": True
    }  # fmt: skip


def test_an_alarm_reads_this_stacks_function_and_queue() -> None:
    resources = deployed(SHARDED)
    dimensions = {name: metric_of(resources[name])["Dimensions"] for name in ALARMS}
    of_service = [{"Name": "service", "Value": {"Ref": "AWS::StackName"}}]

    assert dimensions == {
        "MissedRunsAlarm": of_service,
        "MissedTicksAlarm": of_service,
        "UndeliveredAlarm": [
            {"Name": "QueueName", "Value": {"Fn::GetAtt": ["UndeliveredQueue", "QueueName"]}}
        ],
        "KeyAtRiskAlarm": of_service,
        "RejectedAccountsAlarm": of_service,
        "DeadLetterAlarm": [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["DeadLetterQueue", "QueueName"]}}],
        "ThrottlesAlarm": [{"Name": "FunctionName", "Value": {"Ref": "KeepaliveFunction"}}],
        "CrashedShardsAlarm": [{"Name": "FunctionName", "Value": {"Ref": "ShardFunction"}}],
        "WaitingShardsAlarm": [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["WorkQueue", "QueueName"]}}],
    }


def test_every_metric_is_read_somewhere_and_none_is_read_that_nobody_writes() -> None:
    resources = deployed(SHARDED)
    in_alarms = {
        (metric["Namespace"], metric["MetricName"])
        for metric in (metric_of(resources[name]) for name in ALARMS)
    }
    ours = {name for namespace, name in in_alarms | metrics_on_dashboard() if namespace == "ListenKeyKeeper"}
    assert ours == METRICS
    assert len(METRICS) == 10  # what CloudWatch gives away
    of_one_function = [metric_of(alarm) for name, alarm in deployed().items() if name in ALARMS]
    assert len(of_one_function) <= 10  # and of these, too


def test_the_application_repository_is_given_a_readme_and_a_license_that_are_there() -> None:
    application = TEMPLATE["Metadata"]["AWS::ServerlessRepo::Application"]
    assert (ROOT / application["ReadmeUrl"]).read_text().startswith("# listenkey-keeper\n")
    assert "Apache License" in (ROOT / application["LicenseUrl"]).read_text()
    # What the SAM guide, "Metadata section properties", requires, and its limits.
    assert application["Author"]
    assert application["Name"]
    assert 0 < len(application["Description"]) <= 256
    assert len(application["Labels"]) <= 10


def test_the_page_explains_each_metric_and_no_other() -> None:
    page = (ROOT / "docs/reference.md").read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", "".join(rows))) == sorted(METRICS)


def test_the_dashboard_draws_the_line_at_which_the_alarm_fires() -> None:
    [widget] = [
        widget
        for widget in dashboard()
        if "MinRemainingSeconds" in json.dumps(widget["properties"].get("metrics", []))
    ]
    [line] = widget["properties"]["annotations"]["horizontal"]
    assert line["value"] == 60 * AT_RISK_MINUTES == AT_RISK


def test_the_dashboard_lists_recent_problems_from_the_functions_log_group() -> None:
    [widget] = [widget for widget in dashboard() if widget["type"] == "log"]
    assert "SOURCE '${KeepaliveLogGroup}'" in body_of(choose(TEMPLATE, {}))
    for field in ("level", "accountId", "product", "outcome", "errorCode", "errorMessage"):
        assert field in widget["properties"]["query"]


@pytest.mark.parametrize(
    "parameters", [{}, SHARDED, {"RulesEnabled": "false"}], ids=["one function", "shards", "waiting"]
)
def test_the_dashboard_shows_every_alarm_of_the_stack(parameters: dict[str, str]) -> None:
    template = choose(TEMPLATE, parameters)
    alarms = {n for n, each in template["Resources"].items() if each["Type"] == "AWS::CloudWatch::Alarm"}
    named = {f"{name}Arn": name for name in alarms}
    [widget] = [each for each in widgets_of(template, **named) if each["type"] == "alarm"]
    assert sorted(widget["properties"]["alarms"]) == sorted(alarms)


@pytest.mark.parametrize("shards", [{}, SHARDED], ids=["one function", "shards"])
@pytest.mark.parametrize("wanted", ["true", "false"])
def test_the_dashboard_reads_from_top_to_bottom_in_full_rows(wanted: str, shards: dict[str, str]) -> None:
    widgets = widgets_of(choose(TEMPLATE, {"DashboardWidget": wanted, **shards}))
    # CloudWatch gives a widget without a place the next that is free.
    assert not [widget for widget in widgets if {"x", "y"} & widget.keys()]
    rows: list[list[str]] = [[]]
    left = 24
    for widget in widgets:
        assert widget["width"] <= left, "a row is not full"
        rows[-1].append(widget["type"])
        left -= widget["width"]
        if not left:
            rows.append([])
            left = 24
    accounts = [["custom"]] if wanted == "true" else []
    of_shards = [["metric"] * 3] if shards else []
    # Well? Who is not? What have the runs done?
    assert rows == [["alarm"], *accounts, ["log"], ["metric"] * 2, ["metric"] * 3, *of_shards, []]


@pytest.mark.parametrize("path", sorted((ROOT / "events").iterdir()), ids=lambda path: path.name)
def test_an_event_file_is_json_and_short_enough_to_read(path: Path) -> None:
    text = path.read_text()
    assert path.suffix == ".json"
    assert isinstance(json.loads(text), dict)
    assert len(text.splitlines()) <= 15


def test_the_event_files_are_the_events_the_rules_send() -> None:
    scheduled = json.loads((ROOT / "events/scheduled.json").read_text())
    sweep = json.loads((ROOT / "events/sweep.json").read_text())

    assert (scheduled["source"], scheduled["detail-type"]) == ("aws.events", "Scheduled Event")
    assert sweep == json.loads(deployed()["KeepaliveFunctionSweep"]["Targets"][0]["Input"])


def test_a_deployment_goes_to_tokyo_unless_somebody_says_otherwise_and_the_readme_says_so() -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]
    # Without one SAM takes the profile's, else us-east-1, where Binance answers 451.
    assert config["global"]["parameters"]["region"] == "ap-northeast-1"
    assert not any("region" in section["parameters"] for name, section in config.items() if name != "global")
    readme = (ROOT / "README.md").read_text().partition("\n## Deploy\n")[2].partition("\n## ")[0]
    assert "`ap-northeast-1`" in readme


def test_the_readme_leads_from_a_clone_to_a_checked_deployment_in_six_commands() -> None:
    readme = (ROOT / "README.md").read_text().partition("\n## Deploy\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^\$ (.+)$", readme, re.MULTILINE)
    assert commands == [
        "python3 -m venv .venv-cli && . .venv-cli/bin/activate",
        "pip install '.[cli]'",
        "sam build",
        "sam deploy",
        "listenkeys accounts add alice",
        "listenkeys check",
    ]


def test_a_deployment_asks_for_no_more_than_it_needs_and_puts_no_question() -> None:
    deploy = tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]["deploy"]["parameters"]
    assert deploy["capabilities"] == "CAPABILITY_IAM"
    assert deploy["confirm_changeset"] is False
    assert deploy["resolve_s3"] is True


def test_the_shipped_settings_are_the_templates_defaults() -> None:
    deploy = tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]["deploy"]["parameters"]
    for line in deploy["parameter_overrides"]:
        name, _, value = line.partition("=")
        assert value.strip('"') == TEMPLATE["Parameters"][name]["Default"]
        assert value  # SAM refuses `AlarmEmail=`
