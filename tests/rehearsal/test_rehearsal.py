"""The rehearsal: the real SAM CLI deploys the built application to an AWS that enforces the policies.

The tests run in this order, and each continues with the state that the previous one has left.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import Any

import pytest

from local.aws.stack import expand
from local.binance.server import BinanceServer
from tests.end_to_end.deployed.test_role import HERE, needed
from tests.paths import ROOT
from tests.rehearsal.conftest import ACCOUNT_ID, Stage
from tests.rehearsal.judge import Request, decide
from tests.sam import REGION
from tests.waiting import eventually

# One test has a dozen deployments, which take long on a busy machine.
pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(900)]

TEMPLATE = expand()
DEFAULTS = {name: parameter["Default"] for name, parameter in TEMPLATE["Parameters"].items()}
TABLES = [n for n, each in TEMPLATE["Resources"].items() if each["Type"] == "AWS::DynamoDB::Table"]
ROLES = {"KeepaliveFunction": "KeepaliveRole", "ShardFunction": "ShardRole", "WidgetFunction": "WidgetRole"}
KEYS = {name: f"rehearsal{name}".ljust(64, "0") for name in ("alice", "bob", "carol", "dave")}


def slowly(happened: Any) -> Any:
    """Wait for the result of a rule that fires once a minute; return it."""
    deadline = time.monotonic() + 400
    while not (found := happened()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(1)
    return found


def test_01_the_dialog_with_nothing_but_enter_deploys(stage: Stage) -> None:
    stage.put_the_built_application_there()
    with closing(stage.terminal("deploy", "--guided")) as terminal:
        terminal.press_enter_at_each_question(len(DEFAULTS) + 9)
        assert terminal.end() == 0, terminal.output
    assert stage.parameters() == DEFAULTS


def test_02_its_own_rules_fire_and_the_function_records(stage: Stage, binance: BinanceServer) -> None:
    stage.reset_the_settings()
    stage.set(f"BinanceBaseUrl={binance.url}")
    stage.set('ScheduleExpression="rate(1 minute)"')
    stage.deploy()
    for name in ("alice", "dave"):
        added = stage.listenkeys("accounts", "add", name, typed=KEYS[name])
        assert added.returncode == 0, added.stderr
    binance.exchange.add_account(KEYS["alice"])

    slowly(lambda: stage.outcomes() == {"alice": "CREATED", "dave": "REJECTED"})
    current = stage.client("dynamodb").get_item(
        TableName=stage.resources()["ListenKeysTable"],
        Key={"accountId": {"S": "alice"}, "record": {"S": "CURRENT"}},
    )["Item"]
    assert binance.exchange.live_key(KEYS["alice"], "usdm") == current["listenKey"]["S"]
    assert ("events", "PutEvents") in {call[:2] for call in stage.recorded_calls()}


def test_03_the_command_renews_and_checks(stage: Stage, binance: BinanceServer) -> None:
    renewed = stage.listenkeys("renew", "alice", "--force", "--json")
    assert renewed.returncode == 0, renewed.stdout + renewed.stderr
    assert json.loads(renewed.stdout)["extended"] == 1

    checked = {
        each["check"]: each for each in json.loads(stage.listenkeys("check", "--json").stdout)["checks"]
    }
    for part in ("stack", "settings", "rules", "function", "Binance"):
        assert checked[part]["status"] == "ok", checked[part]


def optional(stage: Stage) -> list[list[str]]:
    """Return groups of settings for the optional parameters, and create the resources that they name."""
    key = stage.client("kms").create_key()["KeyMetadata"]["Arn"]
    stage.client("secretsmanager").create_secret(Name="ops/chat", SecretString="https://example.com/hook")
    boundary = stage.client("iam").create_policy(
        PolicyName="boundary-of-listenkey-keeper",
        PolicyDocument=(ROOT / "docs/deploy-boundary.json").read_text(),
    )["Policy"]["Arn"]
    ec2 = stage.client("ec2")
    subnets = ",".join(each["SubnetId"] for each in ec2.describe_subnets()["Subnets"][:2])
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    return [
        ["AlarmEmail=ops@example.com", "AlarmWebhookSecretId=ops/chat", "DashboardWidget=false"],
        ["HeartbeatSecretId=ops/chat", "RulesEnabled=false", "BinanceStreamUrl=wss://stream.example.com"],
        [f"KmsKeyArn={key}", f"SecretsKmsKeyArn={key}", "MemorySize=256", "ReservedConcurrency=3"],
        [f"PermissionsBoundaryArn={boundary}"],
        [f"SubnetIds={subnets}", f"SecurityGroupIds={group}", "ProtectTables=true", "SecretPrefix=a"],
        ["ShardCount=2", "ShardConcurrency=3", "MaxConcurrency=4", "MaxWeightPerMinute=600"],
        [
            "LedgerMode=changes",
            "LedgerDays=7",
            "LogRetentionDays=14",
            "LogLevel=DEBUG",
            "RenewAfterMinutes=10",
        ],
    ]


def test_04_every_optional_parameter_is_set_and_taken_back(stage: Stage) -> None:
    before, settings = stage.resources(), (stage.folder / "samconfig.toml").read_text()
    parameters = stage.parameters()
    named = {"BinanceBaseUrl", "ScheduleExpression", "SweepExpression"}
    for group in optional(stage):
        lines = [line for line in group if line.partition("=")[0] in DEFAULTS]
        named |= {line.partition("=")[0] for line in lines}
        for line in lines:
            stage.set(line)
        stage.deploy()
        given = stage.parameters()
        assert [line for line in lines if given[line.partition("=")[0]] != line.partition("=")[2]] == []
        # As documented: an empty value is written as '""', any other default unchanged.
        for line in lines:
            name = line.partition("=")[0]
            stage.set(f"{name}={DEFAULTS[name] or chr(34) * 2}")
        stage.deploy()
        assert stage.parameters() == parameters
        assert stage.resources() == before
    assert named == DEFAULTS.keys()
    (stage.folder / "samconfig.toml").write_text(settings)


def test_05_an_update_that_fails_rolls_back_to_the_same_stack(stage: Stage) -> None:
    before, parameters = stage.resources(), stage.parameters()
    settings = (stage.folder / "samconfig.toml").read_text()
    stage.set("RenewAfterMinutes=10")
    stage.set("AlarmWebhookSecretId=ops/no-such-secret")
    done = stage.sam("deploy")

    assert done.returncode != 0
    stack = stage.described()
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]} == parameters
    assert stage.resources() == before
    assert stage.listenkeys("renew", "alice", "--force").returncode == 0
    (stage.folder / "samconfig.toml").write_text(settings)
    stage.deploy()


def test_06_a_second_stack_with_shards_works_beside_the_first(stage: Stage, binance: BinanceServer) -> None:
    other = stage.another("listenkeys-sharded")
    other.put_the_built_application_there()
    for line in ('ScheduleExpression="rate(1 minute)"', "ShardCount=2", "SecretPrefix=other"):
        other.set(line)
    other.set(f"BinanceBaseUrl={binance.url}")
    other.deploy()
    for name in ("bob", "carol"):
        binance.exchange.add_account(KEYS[name])
        assert other.listenkeys("accounts", "add", name, typed=KEYS[name]).returncode == 0

    slowly(lambda: other.outcomes() == {"bob": "CREATED", "carol": "CREATED"})
    shard = other.resources()["ShardFunction"]
    recorded = {call[1] for call in other.recorded_calls() if call[3] == shard}
    assert "TransactWriteItems" in recorded
    assert stage.outcomes().keys() == {"alice", "dave"}
    assert set(stage.resources().values()).isdisjoint(other.resources().values())


def test_07_after_sam_delete_a_new_stack_can_use_the_old_accounts(stage: Stage) -> None:
    tables = {name: stage.resources()[name] for name in TABLES}
    accounts = stage.outcomes().keys()
    gone = stage.sam("delete", "--no-prompts")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    dynamodb = stage.client("dynamodb")
    assert set(tables.values()) <= set(dynamodb.list_tables()["TableNames"])
    rows = dynamodb.scan(TableName=tables["AccountsTable"])["Items"]
    stage.deploy()

    for row in rows:
        dynamodb.put_item(TableName=stage.resources()["AccountsTable"], Item=row)
    assert stage.outcomes().keys() == accounts

    assert stage.listenkeys("renew", "alice", "--force").returncode == 0
    eventually(lambda: stage.outcomes()["alice"] == "EXTENDED")


def policies_of(stage: Stage, role: str) -> list[dict[str, Any]]:
    """Return the policies that a role of the deployed stack has."""
    iam, of_role = stage.client("iam"), {"RoleName": stage.resources()[role]}
    found = [
        iam.get_role_policy(**of_role, PolicyName=name)["PolicyDocument"]
        for name in iam.list_role_policies(**of_role)["PolicyNames"]
    ]
    for attached in iam.list_attached_role_policies(**of_role)["AttachedPolicies"]:
        policy = {"PolicyArn": attached["PolicyArn"]}
        version = iam.get_policy(**policy)["Policy"]["DefaultVersionId"]
        found.append(iam.get_policy_version(**policy, VersionId=version)["PolicyVersion"]["Document"])
    return found


def context_of(operation: str, sent: dict[str, Any], function: str) -> dict[str, Any]:
    """Return the condition keys that AWS adds to a call."""
    context: dict[str, Any] = {"lambda:SourceFunctionArn": function}
    if operation == "PutEvents":
        context["events:source"] = [entry["Source"] for entry in sent["Entries"]]
    for request in sent["RequestItems"].values() if operation == "BatchGetItem" else [sent]:
        if "ProjectionExpression" in request:
            names = request.get("ExpressionAttributeNames", {})
            asked = request["ProjectionExpression"].split(",")
            context["dynamodb:Attributes"] = [names.get(name.strip(), name.strip()) for name in asked]
            context["dynamodb:Select"] = "SPECIFIC_ATTRIBUTES"
    return context


def test_08_iam_allows_the_calls_made_and_denies_the_forbidden(
    stage: Stage,
) -> None:
    other = stage.another("listenkeys-sharded")
    # The dashboard's widget, and a manual run that names its account.
    for each in (stage, other):
        event = json.dumps({"describe": False, "widgetContext": {"width": 900}})
        each.client("lambda").invoke(FunctionName=each.resources()["WidgetFunction"], Payload=event.encode())
    roles = {
        (each.stack, function): (policies_of(each, role), each.resources()[function])
        for each in (stage, other)
        for function, role in ROLES.items()
        if function in each.resources()
    }
    asked: dict[str, Request] = {}
    for (_, function), (policies, name) in roles.items():
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{name}"
        for service, operation, sent, caller in stage.recorded_calls():
            if caller == name:
                for action, resource in needed(service, operation, sent):
                    if ":secret:a/" in resource:
                        continue  # from test_04, when SecretPrefix and so the policy were different
                    resource = resource.replace(f":{HERE}", f":{REGION}:{ACCOUNT_ID}")
                    context = context_of(operation, sent, arn)
                    asked[f"{function} {action} {resource} {context}"] = Request(
                        policies, action, resource, context
                    )
    decided = dict(zip(asked, decide(*asked.values()), strict=True))
    assert [what for what, decision in decided.items() if decision != "Allowed"] == []
    seen = {" ".join(what.split()[:2]) for what in decided}
    assert seen >= {
        "KeepaliveFunction dynamodb:Scan", "KeepaliveFunction dynamodb:PutItem",
        "KeepaliveFunction secretsmanager:GetSecretValue", "KeepaliveFunction events:PutEvents",
        "KeepaliveFunction sqs:SendMessage", "ShardFunction dynamodb:PutItem",
        "WidgetFunction dynamodb:Scan",
    }  # fmt: skip

    policies, name = roles[stage.stack, "KeepaliveFunction"]
    own = {"lambda:SourceFunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{name}"}
    tables = {
        logical: f"arn:aws:dynamodb:{REGION}:{ACCOUNT_ID}:table/{stage.resources()[logical]}"
        for logical in ("AccountsTable", "ListenKeysTable")
    }
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT_ID}:secret:"
    interface = f"arn:aws:ec2:{REGION}:{ACCOUNT_ID}:network-interface/eni-1"
    denied = [
        Request(policies, "dynamodb:PutItem", tables["AccountsTable"]),
        Request(policies, "dynamodb:DeleteItem", tables["AccountsTable"]),
        Request(policies, "dynamodb:DeleteTable", tables["ListenKeysTable"]),
        Request(policies, "secretsmanager:GetSecretValue", f"{secret}other/bob-1a2b3c"),
        Request(policies, "secretsmanager:PutSecretValue", f"{secret}listenkeys/alice-1a2b3c"),
        Request(policies, "ec2:DeleteNetworkInterface", interface, own),
        *(
            Request(
                roles[stage.stack, "WidgetFunction"][0], f"dynamodb:{action}", tables["ListenKeysTable"],
                {"dynamodb:Attributes": ["accountId", "listenKey"], "dynamodb:Select": "SPECIFIC_ATTRIBUTES"},
            )
            for action in ("BatchGetItem", "Scan", "GetItem")
        ),
    ]  # fmt: skip
    assert [result for result in decide(*denied) if not result.endswith("Denied")] == []
