"""AWS on this machine: expands template.yaml as SAM does, and creates it in moto's server on 127.0.0.1.

Owns the local stack and the environment variables with which a process reaches it. The template is the only
source of tables, queues and roles. moto leaves out what it does not know (alarms, policies of queues and
topics), so the resources that the program relies on are looked up once after the deployment. moto runs no
rule and checks no permission.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config
from moto.backends import get_backend
from moto.core.base_backend import BackendDict
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from local.aws import dynamodb, other_dynamodb

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
REGION = "eu-west-1"
TABLES = ("AccountsTable", "ListenKeysTable", "LedgerTable")
_CODE = {"Bucket": "local-code", "Key": "function.zip"}
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
_NO_SETTINGS = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
_EVENTS = "local-events"
# Types that moto does not support. It would warn of each in a thread and go on. So a type that is missing
# here shows as a warning.
_NOT_IN_MOTO = {
    "AWS::CloudWatch::Alarm",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::EventSourceMapping",  # moto knows it, and would start Docker for every message
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
}
RULES = ("KeepaliveFunctionTick", "KeepaliveFunctionSweep", "KeepaliveFunctionExpired")
_NO_VALUE = {"Ref": "AWS::NoValue"}
_open_worlds: set[LocalAws] = set()
_numbers = count(1)
# Silence werkzeug's line for each request, and samtranslator's complaint at exit about AWS's own metrics.
logging.getLogger("werkzeug").setLevel(logging.WARNING)
logging.getLogger("samtranslator.metrics.metrics").setLevel(logging.ERROR)


def _session() -> boto3.Session:
    """Return a boto3 session for the local AWS.

    Removes the user's AWS settings from this process: boto3 would read a profile, which might lead to real
    AWS.
    """
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(_NO_SETTINGS)
    return boto3.Session(region_name=REGION)


def expand(template_path: Path = TEMPLATE) -> dict[str, Any]:
    """Return the plain CloudFormation template that SAM makes of this one. Needs no network."""
    source = yaml_parse(template_path.read_text())
    for resource in source["Resources"].values():
        # A template from `sam package` already has a location in S3.
        if resource["Type"] == "AWS::Serverless::Function" and "://" not in str(
            resource["Properties"].get("CodeUri")
        ):
            resource["Properties"]["CodeUri"] = _CODE
    # Without a map, the translator would list the managed policies of IAM. This template uses none.
    translator = Translator(managed_policy_map={}, sam_parser=Parser(), boto_session=_session())
    template: dict[str, Any] = translator.translate(source, parameter_values={})
    return template


def choose(template: dict[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return an expanded template with its conditions evaluated for these parameters, and the rest removed.

    moto would leave a null in a list from which CloudFormation removes the element.
    """
    values = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()}
    values.update(parameters)

    def decide(condition: Any) -> Any:
        match condition:
            case {"Ref": name}:
                return values[name]
            case {"Condition": name}:
                return decide(template["Conditions"][name])
            case {"Fn::Equals": [left, right]}:
                return str(decide(left)) == str(decide(right))
            case {"Fn::Not": [inner]}:
                return not decide(inner)
            case {"Fn::And": inner}:
                return all(map(decide, inner))
            case {"Fn::Or": inner}:
                return any(map(decide, inner))
            # The value of a list parameter is one text with commas. It is only compared with "".
            case {"Fn::Join": [_, inner]}:
                return decide(inner)
            case str() | int():
                return condition
        raise NotImplementedError(f"a condition with {condition!r}")

    def prune(node: Any) -> Any:
        match node:
            case {"Fn::If": [name, yes, no]}:
                return prune(yes if decide({"Condition": name}) else no)
            case dict():
                kept = {key: prune(value) for key, value in node.items()}
                return {key: value for key, value in kept.items() if value != _NO_VALUE}
            case list():
                return [item for item in map(prune, node) if item != _NO_VALUE]
        return node

    chosen = {section: body for section, body in template.items() if section != "Conditions"}
    for section in ("Resources", "Outputs"):
        chosen[section] = {
            name: {key: prune(value) for key, value in item.items() if key != "Condition"}
            for name, item in template[section].items()
            if "Condition" not in item or decide({"Condition": item["Condition"]})
        }
    return chosen


def known_to_moto(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template without the resources that moto would leave out with a warning.

    If the text of another resource refers to one (`${KeyAtRiskAlarm.Arn}`), its logical id replaces that.
    """
    resources = template["Resources"].items()
    unknown = [name for name, resource in resources if resource["Type"] in _NOT_IN_MOTO]
    known = json.dumps({name: resource for name, resource in resources if name not in unknown})
    named = re.compile(rf"\$\{{({'|'.join(unknown)})(?:\.\w+)?}}")
    return template | {"Resources": json.loads(named.sub(r"\1", known))}


def _backend(service: str) -> Any:
    """Return moto's backend of a service: its state in this process."""
    backends: Any = get_backend(service)  # type: ignore[call-overload]
    return backends[DEFAULT_ACCOUNT_ID][REGION]


class LocalAws:
    """The deployed template. Use it as a context manager, or call `close()`.

    Two objects in one process have their own tables and queues. But both are the same AWS account: they share
    the secrets and the event bus, and `reset()` empties the queues of both. Raises ValueError if the template
    does not have one of the `parameters`.
    """

    def __init__(self, parameters: Mapping[str, str] | None = None, template_path: Path = TEMPLATE) -> None:
        parameters = parameters or {}
        template = expand(template_path)
        if unknown := parameters.keys() - template["Parameters"]:
            raise ValueError(f"{template_path.name} has no parameter {', '.join(sorted(unknown))}")
        self.template = choose(template, parameters)
        defaults = {name: str(parameter["Default"]) for name, parameter in template["Parameters"].items()}
        self.parameters = {**defaults, **parameters}
        number = next(_numbers)
        self.stack_name = "listenkey-keeper" if number == 1 else f"listenkey-keeper-{number}"
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        _open_worlds.add(self)
        host, port = self._server.get_host_and_port()
        self.endpoint_url = f"http://{host}:{port}"
        # The URL of the DynamoDB that has the tables; "" if moto has them.
        self.dynamodb_url = os.environ.get("DYNAMODB_URL", "")
        self._tables: list[str] = []
        # Called with each event that a rule passes to the function.
        self.on_event: Callable[[dict[str, Any]], object] = lambda _: None
        self._session = _session()
        self._clients: dict[str, Any] = {}
        try:
            self._deploy(parameters)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def client(self, service: str) -> Any:
        """Return a boto3 client for the local AWS, the same one for each call."""
        if service not in self._clients:
            self._clients[service] = self._session.client(
                service,
                endpoint_url=(service == "dynamodb" and self.dynamodb_url) or self.endpoint_url,
                aws_access_key_id=_CREDENTIALS["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
                # A long read timeout: moto creates a stack in one call, which takes seconds on a busy
                # machine. No proxies: the server is on this machine.
                config=Config(
                    connect_timeout=2, read_timeout=60, retries={"total_max_attempts": 1}, proxies={}
                ),
            )
            self._clients[service].exceptions  # noqa: B018 - made now, not by two threads at once
        return self._clients[service]

    def function_environment(self, logical_id: str = "KeepaliveFunction") -> dict[str, str]:
        """Return the environment variables that the template gave the deployed function."""
        deployed = self.client("lambda").get_function_configuration(FunctionName=self.resources[logical_id])
        # moto keeps a number as a number. In Lambda every value is text.
        return {name: str(value) for name, value in deployed["Environment"]["Variables"].items()}

    def environment(self) -> dict[str, str]:
        """Return the variables that a process needs in `os.environ` to run the function with this AWS."""
        direct = f"{os.environ.get('no_proxy') or os.environ.get('NO_PROXY') or ''},127.0.0.1".lstrip(",")
        return {
            **_CREDENTIALS,
            **_NO_SETTINGS,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            **({"AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb_url} if self.dynamodb_url else {}),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            # Without it, botocore may spend seconds looking for EC2's metadata service.
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": direct,
            "no_proxy": direct,
            **self.function_environment(),
        }

    def sent_events(self) -> list[dict[str, Any]]:
        """Return the events sent to the default bus since the last `reset()`, oldest first, as delivered."""
        return [json.loads(message.body) for message in _backend("sqs").queues[_EVENTS]._messages]

    def account_events(self) -> list[dict[str, Any]]:
        """Return the sent events that are about one account: those for programs, not those for people."""
        return [event for event in self.sent_events() if "accountId" in event["detail"]]

    def items(self, table: str) -> Iterator[dict[str, Any]]:
        """Yield every item of a table, in DynamoDB's notation. `table` is its logical id."""
        name = self.resources[table]
        if self.dynamodb_url:
            for page in self.client("dynamodb").get_paginator("scan").paginate(TableName=name):
                yield from page["Items"]
            return
        # Read from moto's memory: through its API this would be the slowest part of a test.
        for stored in _backend("dynamodb").tables[name].items.values():
            for item in stored.values() if isinstance(stored, dict) else [stored]:
                yield {key: value.to_json() for key, value in item.attrs.items()}

    def reset(self) -> None:
        """Delete all items, messages, secrets and sent events. The stack stays."""
        # Done in moto's memory: through its API, 10,000 rows take seconds, and a queue can be purged only
        # once a minute.
        for table in self._tables:
            if self.dynamodb_url:
                other_dynamodb.empty(self.client("dynamodb"), table)
            else:
                _backend("dynamodb").tables[table].items.clear()
        for queue in _backend("sqs").queues.values():
            queue._messages.clear()
            queue._pending_messages.clear()
            queue.deleted_messages.clear()
        _backend("secretsmanager").secrets.clear()

    def close(self) -> None:
        """Stop the server. When the last one of this process stops, moto's state is deleted."""
        if self not in _open_worlds:
            return
        _open_worlds.remove(self)
        if self.dynamodb_url:
            for table in self._tables:
                self.client("dynamodb").delete_table(TableName=table)
        for client in self._clients.values():
            client.close()
        self._server.stop()
        if self._server._server is not None:
            self._server._server.server_close()
        if not _open_worlds:
            BackendDict.reset()

    def _deploy(self, parameters: Mapping[str, str]) -> None:
        self._create_stack(parameters)
        cloudformation = self.client("cloudformation")
        stack = cloudformation.describe_stacks(StackName=self.stack_name)["Stacks"][0]
        if stack["StackStatus"] != "CREATE_COMPLETE":
            raise RuntimeError(f"the stack is {stack['StackStatus']}: {stack.get('StackStatusReason')}")
        self.outputs: dict[str, str] = {
            output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]
        }
        made = cloudformation.describe_stack_resources(StackName=self.stack_name)["StackResources"]
        self.resources: dict[str, str] = {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for resource in made
            if "PhysicalResourceId" in resource
        }
        if self.dynamodb_url:
            for name in TABLES:
                table = _backend("dynamodb").tables[self.resources[name]]
                other_dynamodb.create(self.client("dynamodb"), table)
        self._look_up()
        for name, resource in self.template["Resources"].items():
            if resource["Type"] != "AWS::DynamoDB::Table":
                continue
            self._tables.append(self.resources[name])
            # moto's CloudFormation does not set a table's TTL. It is not set in DynamoDB Local, which deletes
            # by the real time: the virtual time of a test is earlier.
            forgotten = resource["Properties"].get("TimeToLiveSpecification")
            if forgotten and not self.dynamodb_url:
                self.client("dynamodb").update_time_to_live(
                    TableName=self.resources[name], TimeToLiveSpecification=forgotten
                )
        dynamodb.make_atomic(_backend("dynamodb"), self._tables)
        self._listen()

    def _create_stack(self, parameters: Mapping[str, str]) -> None:
        s3 = self.client("s3")
        # The template must refer to some code in S3. moto does not run it.
        location = {"LocationConstraint": REGION}
        if _CODE["Bucket"] not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(Bucket=_CODE["Bucket"], CreateBucketConfiguration=location)
            s3.put_object(Bucket=_CODE["Bucket"], Key=_CODE["Key"], Body=b"")
        self.client("cloudformation").create_stack(
            StackName=self.stack_name,
            TemplateBody=json.dumps(known_to_moto(self.template)),
            Parameters=[{"ParameterKey": name, "ParameterValue": text} for name, text in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )

    def _look_up(self) -> None:
        """Ask each service for the resources of the stack. Raises ClientError if one does not exist."""
        ids = self.resources
        for table in TABLES:
            self.client("dynamodb").describe_table(TableName=ids[table])
        for rule in RULES:
            self.client("events").describe_rule(Name=ids[rule])
        self.client("sqs").get_queue_attributes(QueueUrl=ids["DeadLetterQueue"], AttributeNames=["QueueArn"])
        self.client("sns").get_topic_attributes(TopicArn=ids["AlarmTopic"])
        self.client("lambda").get_function_configuration(FunctionName=ids["KeepaliveFunction"])

    def _listen(self) -> None:
        """Send all events of the default bus to a queue, which `sent_events()` reads."""
        # moto sends every event to rules that have only a schedule too, and PutEvents then fails, because it
        # cannot call a function. It does not know topics as targets either.
        for name in ("AccountsRule", *RULES):
            rule = _backend("events").describe_rule(self.resources[name], None)
            rule.send_to_targets = lambda *_, **__: None
        rule.send_to_targets = lambda event, **_: (
            rule.event_pattern.matches_event(event) and self.on_event(event)
        )
        self.client("sqs").create_queue(QueueName=_EVENTS)
        events = self.client("events")
        events.put_rule(Name=_EVENTS, EventPattern=json.dumps({"account": [DEFAULT_ACCOUNT_ID]}))
        arn = f"arn:aws:sqs:{REGION}:{DEFAULT_ACCOUNT_ID}:{_EVENTS}"
        events.put_targets(Rule=_EVENTS, Targets=[{"Id": _EVENTS, "Arn": arn}])
