"""Checks the policy for who deploys, and the boundary of the roles.

What CloudFormation needs is in AWS's schema of each resource type, which cfn-lint brings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from local.aws.stack import choose, expand
from tests.paths import ROOT
from tests.policies import as_list, statements_of
from tests.rehearsal.conftest import emulated
from tests.rehearsal.judge import Request, decide

pytestmark = pytest.mark.rehearsal

POLICY, BOUNDARY = (
    json.loads((ROOT / f"docs/deploy-{name}.json").read_text()) for name in ("policy", "boundary")
)
REGION, ACCOUNT = "ap-northeast-1", "123456789012"
HERE = f"{REGION}:{ACCOUNT}"
KEY = f"arn:aws:kms:{HERE}:key/0f1e2d3c"
EVERYTHING = {
    "AlarmEmail": "ops@example.com",
    "AlarmWebhookSecretId": "listenkey-keeper/chat-1",
    "HeartbeatSecretId": "listenkey-keeper/heartbeat-1",
    "SubnetIds": "subnet-1",
    "SecurityGroupIds": "sg-1",
    "ShardCount": "2",
    "ReservedConcurrency": "3",
    "KmsKeyArn": KEY,
    "SecretsKmsKeyArn": KEY,
}
RESOURCES = choose(expand(), EVERYTHING)["Resources"]
WITHIN = {"iam:PermissionsBoundary": f"arn:aws:iam::{ACCOUNT}:policy/boundary-of-listenkey-keeper"}
BUS = f"arn:aws:events:{HERE}:event-bus/default"
LOG = f"arn:aws:logs:{HERE}:log-group:/aws/lambda/listenkey-keeper-keepalive"
SECRET = f"arn:aws:secretsmanager:{HERE}:secret"
TABLE = f"arn:aws:dynamodb:{HERE}:table"
IAM = f"arn:aws:iam::{ACCOUNT}"
INTERFACE = f"arn:aws:ec2:{HERE}:network-interface/eni-1a"

# What CloudFormation needs for properties that this template does not have, and for KMS keys.
UNUSED = [
    *("dynamodb:*Import*", "dynamodb:*Replica", "dynamodb:*Item", "dynamodb:Scan", "dynamodb:Query"),
    *("dynamodb:*ableKinesis*", "dynamodb:UpdateKinesis*", "dynamodb:UpdateContributorInsights"),
    *("dynamodb:PutResourcePolicy", "dynamodb:DeleteResourcePolicy"),
    *("kinesis:*", "kms:*", "s3:*", "s3files:*", "firehose:*", "elasticfilesystem:*"),
    *("logs:*LogStream*", "logs:PutLogEvents", "logs:CreateLogDelivery", "logs:PutDataProtectionPolicy"),
    *("logs:DeleteDataProtectionPolicy", "logs:PutIndexPolicy", "logs:DeleteIndexPolicy", "logs:*ateKmsKey"),
    *("logs:PutResourcePolicy", "logs:DeleteResourcePolicy", "logs:PutLogGroup*", "logs:PutBearerToken*"),
    *("sns:PutDataProtectionPolicy", "lambda:PutRuntimeManagementConfig", "lambda:PutFunctionRecursion*"),
    *("lambda:PutFunctionScaling*", "lambda:PassCapacityProvider", "lambda:AssociateRuntimeAlias"),
    *("lambda:PutFunctionCodeSigning*", "lambda:DeleteFunctionCodeSigning*", "lambda:GetCodeSigningConfig"),
    *("lambda:GetLayerVersion", "lambda:PublishVersion", "iam:*UserPolicy", "iam:*GroupPolicy"),
    *("iam:DeleteRolePermissionsBoundary",),
]
WITHOUT_A_RESOURCE = ["logs:Describe*", "ec2:Describe*", "lambda:CreateEventSourceMapping"]


def matches(action: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(action, pattern) for pattern in patterns)


@cache
def handlers() -> dict[str, dict[str, Any]]:
    """Return what CloudFormation does with a resource of each type of the template."""
    wanted, found = {resource["Type"] for resource in RESOURCES.values()}, {}
    for file in (files("cfnlint") / "data/schemas/resources").iterdir():
        if file.name.endswith(".json") and (schema := json.loads(file.read_text()))["typeName"] in wanted:
            found[schema["typeName"]] = schema["handlers"]
    assert found.keys() == wanted
    return found


def name_of(name: str) -> str:
    """Return a resource's name: the template's, or one as CloudFormation makes it."""
    given = RESOURCES.get(name, {}).get("Properties", {})
    text = (given.get("Name") or given.get("DashboardName") or {}).get("Fn::Sub", "")
    text = text.replace("${AWS::StackName}", "listenkey-keeper").replace("${AWS::Region}", REGION)
    return text or f"listenkey-keeper-{name}-1A2B3C"


def arn_of(kind: str, name: str) -> str:
    ours = name_of(name)
    match kind.partition("::")[2]:
        case "CloudWatch::Alarm":
            return f"arn:aws:cloudwatch:{HERE}:alarm:{ours}"
        case "CloudWatch::Dashboard":
            return f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{ours}"
        case "DynamoDB::Table":
            return f"{TABLE}/{ours}"
        case "Events::ApiDestination":
            return f"arn:aws:events:{HERE}:api-destination/{ours}/0a1b"
        case "Events::Connection":
            return f"arn:aws:events:{HERE}:connection/{ours}/0a1b"
        case "Events::Rule":
            return f"arn:aws:events:{HERE}:rule/{ours}"
        case "IAM::ManagedPolicy":
            return f"{IAM}:policy/{ours}"
        case "IAM::Policy" | "IAM::Role":
            return f"{IAM}:role/{ours}"
        case "Lambda::EventSourceMapping":
            return f"arn:aws:lambda:{HERE}:event-source-mapping:0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
        case "Lambda::Function" | "Lambda::Permission" | "Lambda::EventInvokeConfig":
            return f"arn:aws:lambda:{HERE}:function:{ours}"
        case "Logs::LogGroup":
            return LOG
    service = kind.split("::")[1].lower()
    assert service in ("sns", "sqs"), kind
    return f"arn:aws:{service}:{HERE}:{ours}"


def requests_of(kind: str, name: str) -> Iterator[Request]:
    """Yield what CloudFormation asks, as the person who deploys, to create, read, change and delete it."""
    service = kind.split("::")[1].lower()
    role, function = arn_of("AWS::IAM::Role", "KeepaliveRole"), arn_of("AWS::Lambda::Function", "Shards")
    verbs = handlers()[kind]
    for action in sorted({each for verb in verbs.keys() - {"list"} for each in verbs[verb]["permissions"]}):
        target, context = arn_of(kind, name), {}
        if matches(action, UNUSED):
            continue
        match action.partition(":"):
            case "iam", _, "PassRole" if service in ("lambda", "events"):
                target, context = role, {"iam:PassedToService": f"{service}.amazonaws.com"}
            case "iam", _, "CreateServiceLinkedRole" if service == "events":
                target = f"{IAM}:role/aws-service-role/apidestinations.events.amazonaws.com/AWSServiceRole"
            case "iam", _, "AttachRolePolicy" | "DetachRolePolicy":
                target, context = role, WITHIN
            case "iam", _, _ if service == "iam":
                context = WITHIN
            case "secretsmanager", _, _:
                target = f"{SECRET}:events!connection/{name_of(name)}/0a1b-2c3d4e"
            case "lambda", _, what if what.endswith("EventSourceMapping"):
                context = {"lambda:FunctionArn": function}
            case of, _, _ if of not in (service, "ec2"):
                continue  # for a table's imports and replicas, for a topic's delivery to a log
        if matches(action, WITHOUT_A_RESOURCE):
            target = "*"
        yield Request([POLICY], action, target, context)


def test_who_deploys_may_create_change_and_delete_each_resource() -> None:
    asked = [each for name, made in RESOURCES.items() for each in requests_of(made["Type"], name)]
    decided = zip(asked, decide(*asked), strict=True)
    assert len(asked) > 300
    assert {(each.action, each.resource, said) for each, said in decided if said != "Allowed"} == set()


def judge(document: dict[str, Any], *asked: tuple[Any, ...]) -> list[str]:
    """Return the decision for each `actions, resource, context`, with several actions of a service in one."""
    requests = []
    for actions, resource, *context in asked:
        service, _, names = actions.partition(":")
        requests += [Request([document], f"{service}:{name}", resource, *context) for name in names.split()]
    return decide(*requests)


def test_the_policy_lets_sam_deploy_change_and_delete_the_stack(tmp_path: Path) -> None:
    """The emulator enforces it for SAM's own requests. CloudFormation's are in the test above."""
    with emulated(tmp_path) as stage:
        stage.put_the_built_application_there()
        iam, name = stage.client("iam"), "listenkey-keeper-code"
        boundary, policy = (
            iam.create_policy(PolicyName=f"{who}-of-listenkey-keeper", PolicyDocument=json.dumps(document))
            for who, document in (("boundary", BOUNDARY), ("deployers", POLICY))
        )
        iam.create_user(UserName="ci")
        iam.attach_user_policy(UserName="ci", PolicyArn=policy["Policy"]["Arn"])
        key = iam.create_access_key(UserName="ci")["AccessKey"]
        constraint = {"LocationConstraint": REGION}
        stage.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=constraint)

        settings = stage.folder / "samconfig.toml"
        settings.write_text(settings.read_text().replace("resolve_s3 = true", f's3_bucket = "{name}"'))
        stage.set(f"PermissionsBoundaryArn={boundary['Policy']['Arn']}")
        stage.credentials = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        stage.deploy()
        stage.set("RenewAfterMinutes=10")
        stage.deploy()
        deleted = stage.sam("delete", "--no-prompts")
        assert "Deleted successfully" in deleted.stdout, deleted.stderr
        refused = stage.sam("deploy", "--stack-name", "orders")
        assert "not authorized to perform: cloudformation:" in refused.stderr


def test_who_deploys_may_not_leave_the_stack_or_its_boundary() -> None:
    own, admin = f"{IAM}:role/listenkey-keeper-KeepaliveRole-1A", f"{IAM}:role/admin"
    table, function = f"{TABLE}/listenkey-keeper-ListenKeysTable-1A", f"arn:aws:lambda:{HERE}:function:orders"
    another = {"iam:PermissionsBoundary": "arn:aws:iam::aws:policy/AdministratorAccess"}
    decided = judge(
        POLICY,
        ("iam:CreateRole PutRolePolicy AttachRolePolicy UpdateAssumeRolePolicy", own),
        ("iam:CreateRole PutRolePermissionsBoundary", own, another),
        ("iam:DeleteRolePermissionsBoundary", own, WITHIN),
        ("iam:CreateRole PutRolePolicy AttachRolePolicy DeleteRole", admin, WITHIN),
        ("iam:PassRole", admin, {"iam:PassedToService": "lambda.amazonaws.com"}),
        ("iam:PassRole", own, {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("iam:CreatePolicyVersion DeletePolicy", WITHIN["iam:PermissionsBoundary"]),
        ("iam:CreateUser AttachUserPolicy", f"{IAM}:user/listenkey-keeper-bots"),
        ("dynamodb:DeleteTable UpdateTable", f"{TABLE}/orders"),
        ("dynamodb:Scan GetItem", table),
        ("cloudformation:CreateChangeSet", f"arn:aws:cloudformation:{HERE}:stack/orders/0a1b"),
        ("lambda:UpdateFunctionCode", function),
        ("lambda:CreateEventSourceMapping", "*", {"lambda:FunctionArn": function}),
        ("secretsmanager:GetSecretValue", f"{SECRET}:listenkeys/alice-1a2b3c"),
        ("secretsmanager:GetSecretValue", f"{SECRET}:ops/db-1a2b3c"),
        ("secretsmanager:GetSecretValue PutSecretValue", f"{SECRET}:events!connection/Webhook-1A/0a1b"),
        ("events:UpdateConnection", f"arn:aws:events:{HERE}:connection/WebhookConnection-1A/0a1b"),
        ("events:DescribeApiDestination", f"arn:aws:events:{HERE}:api-destination/Webhook-1A/0a1b"),
        ("cloudwatch:PutDashboard", f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/Dashboard-1A"),
        ("s3:PutObject", "arn:aws:s3:::aws-sam-cli-managed-default-samclisourcebucket-1a/0a1b"),
        ("kms:Decrypt", KEY),
    )
    assert set(decided) == {"ImplicitlyDenied"}


def test_the_boundary_allows_what_the_roles_may_do_and_no_more() -> None:
    roles = [name for name, each in RESOURCES.items() if each["Type"] == "AWS::IAM::Role"]
    granted = {
        action
        for role in roles
        for statement in statements_of(RESOURCES, role)
        if statement["Effect"] == "Allow"
        for action in as_list(statement["Action"])
    }
    assert granted == {action for each in BOUNDARY["Statement"] for action in as_list(each["Action"])}
    code = arn_of("AWS::Lambda::Function", "KeepaliveFunction")
    allowed = judge(
        BOUNDARY,
        ("dynamodb:Scan BatchGetItem PutItem UpdateItem", f"{TABLE}/listenkey-keeper-LedgerTable-1A"),
        ("secretsmanager:GetSecretValue", f"{SECRET}:listenkeys/alice-1a2b3c"),
        ("sqs:SendMessage ReceiveMessage", f"arn:aws:sqs:{HERE}:listenkey-keeper-WorkQueue-1A"),
        ("logs:PutLogEvents", f"{LOG}:log-stream:2026/11/24/1a"),
        ("events:PutEvents", BUS, {"events:source": ["listenkey-keeper"] * 10}),
        ("events:InvokeApiDestination", arn_of("AWS::Events::ApiDestination", "Heartbeat")),
        ("ec2:CreateNetworkInterface DeleteNetworkInterface", INTERFACE),
        *(
            ("kms:Decrypt", KEY, {"kms:ViaService": f"{service}.ap-northeast-1.amazonaws.com"})
            for service in ("dynamodb", "sqs", "secretsmanager")
        ),
    )
    denied = judge(
        BOUNDARY,
        ("dynamodb:Scan", f"{TABLE}/orders"),
        ("secretsmanager:GetSecretValue", f"{SECRET}:orders/db-1a2b3c"),
        ("events:PutEvents", BUS, {"events:source": ["aws.billing"]}),
        ("kms:Decrypt", KEY, {"kms:ViaService": "s3.ap-northeast-1.amazonaws.com"}),
        ("events:InvokeApiDestination", f"arn:aws:events:{HERE}:api-destination/Webhook-1A/0a1b"),
        ("ec2:CreateNetworkInterface DeleteNetworkInterface", INTERFACE, {"lambda:SourceFunctionArn": code}),
        ("iam:CreateUser", f"{IAM}:user/x"),
    )
    assert (set(allowed), set(denied)) == ({"Allowed"}, {"ImplicitlyDenied"})


@pytest.mark.parametrize("document", [POLICY, BOUNDARY], ids=["policy", "boundary"])
def test_it_is_short_enough_for_a_managed_policy(document: dict[str, Any]) -> None:
    assert len(json.dumps(document, separators=(",", ":"))) <= 6144
