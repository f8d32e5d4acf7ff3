"""What template.yaml promises: its names, who may do what, and that no alarm or dead letter is lost."""

from __future__ import annotations

import json
import re
import tomllib
from itertools import accumulate
from typing import Any

import pytest

from listenkeys.timing import AT_RISK, AT_RISK_MINUTES
from listenkeys.view.status import ATTRIBUTES
from local.aws.stack import choose, expand
from tests.dashboard import body_of, widgets_of
from tests.integration.test_reporting import METRICS
from tests.paths import ROOT
from tests.policies import as_list, statements_of

TEMPLATE = expand()
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c"
WITH_KEY = {"KmsKeyArn": KEY}
OUR_KEY = {"Ref": "KmsKeyArn"}
IN_VPC = {"SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"}
TOPIC = {"Ref": "AlarmTopic"}
STACK = "the stack's name"
FUNCTION_ARN = {"Fn::GetAtt": ["KeepaliveFunction", "Arn"]}
QUEUE_ARN = {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
RULES = {"KeepaliveFunctionTick", "KeepaliveFunctionSweep", "KeepaliveFunctionExpired"}

SILENT = {"RejectedAccountsAlarm", "DeadLetterAlarm", "ThrottlesAlarm"}  # another one tells, or AccountsRule
HERE = "${AWS::Region}:${AWS::AccountId}"
SHARDED = {"ShardCount": "50"}
Grant = tuple[str, Any, Any]


def deployed(parameters: dict[str, str] | None = None) -> dict[str, Any]:
    """Return each resource's properties, as these parameters leave them."""
    resources = choose(TEMPLATE, parameters or {})["Resources"]
    return {name: resource["Properties"] for name, resource in resources.items()}


def of_type(kind: str) -> set[str]:
    return {name for name, resource in TEMPLATE["Resources"].items() if resource["Type"] == kind}


ALARMS = sorted(of_type("AWS::CloudWatch::Alarm"))


def lines(statements: list[dict[str, Any]], effect: str = "Allow") -> set[str]:
    """Return one line for each action, resource and condition of the statements with this effect."""
    return {
        json.dumps([action, resource, statement.get("Condition")])
        for statement in statements
        if statement["Effect"] == effect
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


def through(service: str) -> dict[str, Any]:
    """Return the condition of a key that is used by this service only."""
    return {"StringEquals": {"kms:ViaService": {"Fn::Sub": f"{service}.${{AWS::Region}}.amazonaws.com"}}}


def dashboard() -> list[dict[str, Any]]:
    return widgets_of(choose(TEMPLATE, {}), AWSStackName=STACK)


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
        ("AlarmWebhookSecretId", "", True),
        ("AlarmWebhookSecretId", "ops/chat", True),
        (
            "AlarmWebhookSecretId",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ops/chat-a1B2c3",
            True,
        ),
        ("AlarmWebhookSecretId", "https://hooks.slack.com/services/T000", False),
        ("AlarmWebhookSecretId", "ops/chat:SecretString:url", False),
        ("KmsKeyArn", KEY, True),
        ("KmsKeyArn", "alias/mine", False),
        ("PermissionsBoundaryArn", "arn:aws:iam::123456789012:policy/boundary-of-listenkey-keeper", True),
        ("PermissionsBoundaryArn", "boundary-of-listenkey-keeper", False),
    ],
)
def test_a_parameter_takes_what_makes_sense(name: str, value: str, allowed: bool) -> None:
    assert bool(re.fullmatch(TEMPLATE["Parameters"][name]["AllowedPattern"], value)) is allowed


def test_each_parameter_is_in_one_group_of_the_console() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(TEMPLATE["Parameters"])


def test_vpc_and_reserved_concurrency_are_there_only_when_asked_for() -> None:
    asked = deployed({**IN_VPC, "ReservedConcurrency": "3"})["KeepaliveFunction"]

    assert {"VpcConfig", "ReservedConcurrentExecutions"}.isdisjoint(deployed()["KeepaliveFunction"])
    assert asked["VpcConfig"] == {
        "SubnetIds": {"Ref": "SubnetIds"},
        "SecurityGroupIds": {"Ref": "SecurityGroupIds"},
    }
    assert asked["ReservedConcurrentExecutions"] == {"Ref": "ReservedConcurrency"}


def test_every_role_has_the_permissions_boundary_that_is_asked_for() -> None:
    asked = deployed({"PermissionsBoundaryArn": "arn", "AlarmWebhookSecretId": "ops/chat", **SHARDED})
    roles = of_type("AWS::IAM::Role")
    assert len(roles) == 4
    assert all(asked[name]["PermissionsBoundary"] == {"Ref": "PermissionsBoundaryArn"} for name in roles)
    assert [name for name, each in deployed().items() if "PermissionsBoundary" in each] == []


def test_the_function_logs_to_its_own_group_as_text_and_the_group_forgets() -> None:
    resources = deployed()
    assert resources["KeepaliveFunction"]["LoggingConfig"] == {
        "LogGroup": {"Ref": "KeepaliveLogGroup"},
        "LogFormat": "Text",
    }
    assert resources["KeepaliveLogGroup"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


FOR_KEY: list[Grant] = [(f"kms:{action}", OUR_KEY, None) for action in ("Decrypt", "GenerateDataKey")]
FOR_VPC: list[Grant] = [
    (f"ec2:{action}", "*", None)
    for action in ("CreateNetworkInterface", "DescribeSubnets", "AssignPrivateIpAddresses")
]


@pytest.mark.parametrize(
    ("role", "always", "option", "grants"),
    [
        (
            "KeepaliveRole",
            {},
            WITH_KEY,
            [(f"kms:{do}", OUR_KEY, None) for do in ("Decrypt", "GenerateDataKey")],
        ),
        (
            "KeepaliveRole",
            {},
            {"SecretsKmsKeyArn": KEY},
            [("kms:Decrypt", {"Ref": "SecretsKmsKeyArn"}, through("secretsmanager"))],
        ),
        ("KeepaliveRole", {}, IN_VPC, FOR_VPC),
        ("KeepaliveRole", {}, SHARDED, [("sqs:SendMessage", {"Fn::GetAtt": ["WorkQueue", "Arn"]}, None)]),
        ("ShardRole", SHARDED, IN_VPC, FOR_VPC),
        ("WidgetRole", {}, WITH_KEY, [("kms:Decrypt", OUR_KEY, through("dynamodb"))]),
        ("WidgetRole", {}, IN_VPC, []),
    ],
    ids=[
        "key",
        "key of the secrets",
        "vpc",
        "shards",
        "shard in a vpc",
        "widget's key",
        "widget beside a vpc",
    ],
)
def test_an_option_gives_a_role_what_it_needs_and_no_more(
    role: str, always: dict[str, str], option: dict[str, str], grants: list[Grant]
) -> None:
    """What a role may do without any is held against the calls in tests/end_to_end/deployed/test_role.py."""
    without, given = (
        lines(statements_of(choose(TEMPLATE, parameters)["Resources"], role))
        for parameters in (always, always | option)
    )
    assert given - without == set(map(json.dumps, grants))


@pytest.mark.parametrize("vpc", [{}, IN_VPC], ids=["without a VPC", "in a VPC"])
@pytest.mark.parametrize("shards", [{}, SHARDED], ids=["one function", "shards"])
def test_the_code_may_not_touch_lambdas_network_interfaces(
    shards: dict[str, str], vpc: dict[str, str]
) -> None:
    resources = choose(TEMPLATE, {**vpc, **shards})["Resources"]
    functions = ["KeepaliveFunction", "ShardFunction"] if shards else ["KeepaliveFunction"]
    arns = [{"Fn::GetAtt": [name, "Arn"]} for name in functions]
    leaving = ("DescribeNetworkInterfaces", "DeleteNetworkInterface", "UnassignPrivateIpAddresses")
    actions = [*(action for action, *_ in FOR_VPC), *(f"ec2:{action}" for action in leaving)]

    for role in ["KeepaliveRole", "ShardRole"] if shards else ["KeepaliveRole"]:
        assert lines(statements_of(resources, role), "Deny") == {
            json.dumps([action, "*", {"ArnEquals": {"lambda:SourceFunctionArn": arns}}]) for action in actions
        }


def test_nothing_else_in_the_stack_grants_permissions() -> None:
    assert of_type("AWS::IAM::Role") == {"KeepaliveRole", "ShardRole", "WebhookRole", "WidgetRole"}
    assert of_type("AWS::IAM::ManagedPolicy") == {"ReaderPolicy", "RunPolicy"}
    assert of_type("AWS::IAM::Policy") == {"NoInterfacesForCode"}
    assert not of_type("AWS::IAM::RolePolicy")
    assert deployed(SHARDED)["KeepaliveFunction"]["Role"] == {"Fn::GetAtt": ["KeepaliveRole", "Arn"]}
    assert deployed(SHARDED)["ShardFunction"]["Role"] == {"Fn::GetAtt": ["ShardRole", "Arn"]}


def test_the_widget_may_read_what_it_shows_and_no_key() -> None:
    statements = statements_of(choose(TEMPLATE, {})["Resources"], "WidgetRole")
    [condition] = [statement["Condition"] for statement in statements if "Condition" in statement]
    assert condition == {
        "ForAllValues:StringEquals": {"dynamodb:Attributes": [*ATTRIBUTES, "record"]},
        "Null": {"dynamodb:Attributes": "false"},
        "StringEqualsIfExists": {"dynamodb:Select": "SPECIFIC_ATTRIBUTES"},
    }
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
    assert widget["properties"]["endpoint"] == "the widget"
    assert widget["properties"]["params"] == {"renew": "the keeper"}
    assert widget["properties"]["updateOn"]["refresh"] is True
    assert deployed()["WidgetFunction"]["Timeout"] == 5


def test_a_reader_may_get_a_key_and_say_that_it_is_dead() -> None:
    reads = ("dynamodb:GetItem", {"Fn::GetAtt": ["ListenKeysTable", "Arn"]}, None)
    said = {"events:source": "listenkey-keeper.bot", "events:detail-type": "Listen Key Expired"}
    says = (
        "events:PutEvents",
        {"Fn::Sub": f"arn:${{AWS::Partition}}:events:{HERE}:event-bus/default"},
        {"ForAllValues:StringEquals": said, "Null": dict.fromkeys(said, "false")},
    )
    opens = ("kms:Decrypt", OUR_KEY, through("dynamodb"))

    for parameters, grants in (({}, [reads, says]), (WITH_KEY, [reads, says, opens])):
        statements = deployed(parameters)["ReaderPolicy"]["PolicyDocument"]["Statement"]
        assert lines(statements) == set(map(json.dumps, grants))


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


@pytest.mark.row(44)
@pytest.mark.parametrize("rule", sorted(RULES))
def test_what_a_rule_cannot_deliver_in_25_minutes_is_a_dead_letter(rule: str) -> None:
    [target] = deployed()[rule]["Targets"]
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 1500, "MaximumRetryAttempts": 10}
    assert target["DeadLetterConfig"] == {"Arn": QUEUE_ARN}
    [let_in] = deployed()["DeadLetterQueuePolicy"]["PolicyDocument"]["Statement"]
    assert {"Fn::GetAtt": [rule, "Arn"]} in let_in["Condition"]["ArnEquals"]["aws:SourceArn"]


@pytest.mark.row(45)
def test_a_failed_or_throttled_event_is_kept_once_after_25_minutes() -> None:
    resources = deployed()
    [config] = [resources[name] for name in of_type("AWS::Lambda::EventInvokeConfig")]

    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (2, 1500)
    assert config["DestinationConfig"] == {"OnFailure": {"Destination": QUEUE_ARN}}
    assert "DeadLetterConfig" not in resources["KeepaliveFunction"]


@pytest.mark.parametrize("table", sorted(of_type("AWS::DynamoDB::Table")))
@pytest.mark.parametrize("parameters", [{}, WITH_KEY], ids=["by default", "with a customer key"])
def test_a_table_outlives_the_stack_and_is_encrypted(table: str, parameters: dict[str, str]) -> None:
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


def test_the_queue_keeps_letters_for_14_days_encrypted() -> None:
    queue, with_key = deployed()["DeadLetterQueue"], deployed(WITH_KEY)["DeadLetterQueue"]

    assert queue == {"MessageRetentionPeriod": 14 * 24 * 3600, "SqsManagedSseEnabled": True}
    assert with_key == {"MessageRetentionPeriod": 14 * 24 * 3600, "KmsMasterKeyId": {"Ref": "KmsKeyArn"}}


def test_an_address_is_subscribed_only_when_one_is_given() -> None:
    assert "AlarmSubscription" not in deployed()
    assert deployed({"AlarmEmail": "ops@example.com"})["AlarmSubscription"] == {
        "TopicArn": TOPIC,
        "Protocol": "email",
        "Endpoint": {"Ref": "AlarmEmail"},
    }


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_tells_the_topic_what_it_means_and_what_to_do_first(name: str) -> None:
    alarm = deployed(SHARDED)[name]
    told = [] if name in SILENT else [TOPIC]
    assert alarm.get("AlarmActions", []) == alarm.get("OKActions", []) == told
    assert "First: " in alarm["AlarmDescription"]
    assert alarm["AlarmDescription"].endswith(f" All steps: docs/alarms.md, {name}.")
    assert len(alarm["AlarmDescription"]) <= 1024
    assert alarm.get("ActionsEnabled", True) is True
    assert "TreatMissingData" in alarm
    assert alarm["WarmUpConfiguration"] == {
        "WarmUpPeriodDurationInMinutes": 30, "OnlyStartEvaluatingAfterWarmUpPeriodEnds": True
    }  # fmt: skip


def test_the_application_repository_is_given_files_that_are_there() -> None:
    application = TEMPLATE["Metadata"]["AWS::ServerlessRepo::Application"]
    assert (ROOT / application["ReadmeUrl"]).read_text().startswith("# listenkey-keeper\n")
    assert "Apache License" in (ROOT / application["LicenseUrl"]).read_text()


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
    edges = list(accumulate(widget["width"] for widget in widgets))
    assert {24 * row for row in range(1, edges[-1] // 24 + 1)} <= set(edges), "a row is not full"
    # Well? Who is not? What have the runs done?
    accounts, of_shards = ["custom"] * (wanted == "true"), ["metric"] * (3 if shards else 0)
    kinds = [widget["type"] for widget in widgets]
    assert kinds == ["alarm", *accounts, "log", *["metric"] * 5, *of_shards]


def test_a_deployment_goes_to_tokyo_and_the_readme_says_so() -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]
    # Without one SAM takes the profile's, else us-east-1, where Binance answers 451.
    assert config["global"]["parameters"]["region"] == "ap-northeast-1"
    assert not any("region" in section["parameters"] for name, section in config.items() if name != "global")
    readme = (ROOT / "README.md").read_text().partition("\n## Deploy\n")[2].partition("\n## ")[0]
    assert "`ap-northeast-1`" in readme


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
