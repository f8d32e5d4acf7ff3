"""`listenkeys check`: finds out what is wrong with a deployed stack, and what to do.

It reads AWS and calls the function once. With --page it also sends test messages.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import samconfig
from .errors import explain
from .findings import Finding
from .key_policy import key_policies
from .left_over import dead_letters, undelivered, unsent_messages
from .listen_keys import listen_keys
from .paging import Page, send_tests
from .probe import dry_run
from .resources import Resources, of_type
from .stack import Stack, in_local_environment

_SETTLED = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"}
_TRY = "`listenkeys check --page` sends test messages"
_CONFIRM = 'open the email "AWS Notification - Subscription Confirmation" and confirm'


def check(stack: Stack, paging: bool = False) -> Iterator[Finding]:
    """Yield the findings of each check. With `paging`, send test messages.

    If a check raises an error, this is a finding that needs action, and the other checks still run.
    """
    resources: Resources = {}
    sent = Page() if paging else None
    parts: list[tuple[str, Callable[[Stack, Resources], Iterable[Finding]]]] = [
        ("stack", _stack),
        ("settings", lambda stack, _: _settings(stack)),
        ("rules", _rules),
        ("KMS key", key_policies),
        ("dead letters", dead_letters),
        ("undelivered", undelivered),
        ("account messages", unsent_messages),
        ("alarms", _alarms),
        ("test messages", lambda stack, resources: _page(stack, resources, sent)),
        ("email", lambda stack, resources: _mail(stack, resources, sent)),
        ("function", lambda stack, _: dry_run(stack)),
        ("listenKeys", listen_keys),
    ]
    for name, part in parts:
        try:
            yield from part(stack, resources)
        except Exception as error:  # noqa: BLE001 - the other checks still run
            yield Finding(name, False, explain(error))


def _stack(stack: Stack, resources: Resources) -> Iterator[Finding]:
    client = stack.client("cloudformation")
    for resource in client.describe_stack_resources(StackName=stack.name)["StackResources"]:
        resources[resource["LogicalResourceId"]] = resource
    status = client.describe_stacks(StackName=stack.name)["Stacks"][0]["StackStatus"]
    if status in _SETTLED:
        # Not an error: the first deployment needs ProtectTables=false. It is easily forgotten afterwards.
        open_to_all = stack.parameters.get("ProtectTables") == "false" and not in_local_environment()
        hint = "; to protect the tables, deploy with ProtectTables=true" if open_to_all else ""
        place = "the local environment" if in_local_environment() else stack.region
        version = f", version {stack.outputs['Version']}" if "Version" in stack.outputs else ""
        yield Finding("stack", True, f"{stack.name} in {place}, {status}{version}{hint}")
    else:
        yield Finding(
            "stack",
            False,
            f"{status}: the last deployment failed or has not finished; the stack's events say why",
        )


def _settings(stack: Stack) -> Iterator[Finding]:
    """Compare the stack's parameters with those that the next `sam deploy` here would send."""
    file = samconfig.file_of(stack.name, stack.region)
    written, place = samconfig.parameter_overrides(file), samconfig.location(file)
    of_stack, region = place.get("stack_name"), place.get("region", stack.region)
    if in_local_environment() or not written or (of_stack, region) != (stack.name, stack.region):
        why = f"{samconfig.FILE} is of another stack, {of_stack} in {region}"
        if in_local_environment():
            why = f"the local environment does not use {samconfig.FILE}"
        elif not written:
            why = f"run check in the folder with your {samconfig.FILE}"
        yield Finding("settings", None, f"not compared: {why}")
        return
    differ = {name: value for name, value in written.items() if stack.parameters.get(name) != value}
    for name, value in differ.items():
        deployed = stack.parameters.get(name)
        has = (
            "the stack does not have it" if deployed is None else f"in the stack it is {deployed or 'empty'}"
        )
        yield Finding(
            "settings",
            False,
            f"{name} is {value or 'empty'} in {file}, but {has}: the next `sam deploy` sends the "
            "file's value; edit the file if it is wrong",
        )
    if not differ:
        yield Finding("settings", True, f"the stack has the parameters of {file}")


def _rules(stack: Stack, resources: Resources) -> Iterator[Finding]:
    events, enabled = stack.client("events"), []
    for name, rule in sorted(of_type(resources, "AWS::Events::Rule").items()):
        if events.describe_rule(Name=rule)["State"] == "DISABLED":
            if stack.parameters.get("RulesEnabled") == "false":
                yield Finding(
                    "rules",
                    True,
                    f"{name} is disabled, because RulesEnabled is false: this stack is paused",
                )
                continue
            enable = f"`aws events enable-rule --name {rule} --region {stack.region}`"
            yield Finding("rules", False, f"{name} is disabled: enable it with {enable}")
        else:
            enabled.append(name)
    if enabled:
        yield Finding("rules", True, f"{', '.join(enabled)}: enabled")
    for uuid in of_type(resources, "AWS::Lambda::EventSourceMapping").values():
        state = stack.client("lambda").get_event_source_mapping(UUID=uuid)["State"]
        ok = state in ("Enabled", "Enabling", "Creating", "Updating")
        enable = f"aws lambda update-event-source-mapping --enabled --uuid {uuid} --region {stack.region}"
        yield Finding(
            "queue",
            ok,
            f"the function reads WorkQueue: {state}" if ok else f"{state}: enable it with `{enable}`",
        )


def _mail(stack: Stack, resources: Resources, sent: Page | None) -> Iterator[Finding]:
    topic, address = stack.outputs["AlarmTopicArn"], stack.parameters.get("AlarmEmail")
    if in_local_environment():
        yield Finding("email", None, "not tried: the local environment sends no email")
        return
    confirmed, waiting = [], []
    pages = stack.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    for subscription in (each for page in pages for each in page["Subscriptions"]):
        # Only an address is shown: the URL of another endpoint may hold a token.
        by_mail = subscription["Protocol"].startswith("email")
        who = subscription["Endpoint"] if by_mail else subscription["Protocol"]
        if subscription["SubscriptionArn"].startswith("arn:"):
            confirmed.append(who)
        elif subscription["SubscriptionArn"] == "PendingConfirmation":
            waiting.append(who)
    for who in waiting:
        yield Finding("email", False, f"{who} is not confirmed and gets no alarms: {_CONFIRM}")
    called = of_type(resources, "AWS::Events::ApiDestination")
    if confirmed:
        says = f"{sent.said('email')} should have arrived" if sent else f"not tried: {_TRY}"
        yield Finding("email", None, f"{', '.join(confirmed)}: {says}")
    elif address and not waiting:
        # AWS drops a subscription that is not confirmed within two days.
        subscribe = (
            f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint {address} "
            f"--region {stack.region}"
        )
        yield Finding(
            "email", False, f"{address} is not subscribed: `{subscribe}` sends a new confirmation email"
        )
    elif not waiting and not called.keys() & {"Webhook"}:
        yield Finding("email", False, "nobody gets the alarms: set AlarmEmail in samconfig.toml and deploy")
    for name, physical in called.items():
        what = "heartbeat" if name == "Heartbeat" else "webhook"
        state = stack.client("events").describe_api_destination(Name=physical)["ApiDestinationState"]
        if state != "ACTIVE":
            yield Finding(what, False, f"{name} is {state}: deploy the stack again")
        elif name == "Heartbeat":
            yield Finding(what, None, "not tried: its service shows when the last finished tick called it")
        elif name == "Webhook":
            says = f"{sent.said('webhook')} should have arrived" if sent else f"not tried: {_TRY}"
            yield Finding(what, None, says)


def _alarms(stack: Stack, resources: Resources) -> Iterator[Finding]:
    if in_local_environment():
        yield Finding("alarms", None, "not tried: the local environment has no alarms")
        return
    alarms, found = _described(stack, resources)
    quiet, waiting = 0, 0
    for name, physical in alarms.items():
        alarm = found.get(name)
        if alarm is None:
            yield Finding("alarms", False, f"{name} does not exist any more: deploy the stack again")
        elif not alarm.get("ActionsEnabled", True):
            enable = f"aws cloudwatch enable-alarm-actions --alarm-names {physical} --region {stack.region}"
            yield Finding(
                "alarms",
                False,
                f"{name} sends no email, because its actions are disabled: enable them with `{enable}`",
            )
        elif alarm["StateValue"] == "ALARM":
            # The template's descriptions end with what to do first.
            steps = alarm.get("AlarmDescription", "").rpartition("First: ")[2]
            yield Finding("alarms", False, f"{name} is on: {' '.join(steps.split())}")
        else:
            quiet += 1
            waiting += alarm["StateValue"] == "INSUFFICIENT_DATA"
    if quiet:
        off = f"none of the {quiet} is on" if quiet == len(alarms) else f"{quiet} of {len(alarms)} are off"
        new = f"; {waiting} still without data, as in a new stack" if waiting else ""
        yield Finding("alarms", True, off + new)


def _described(stack: Stack, resources: Resources) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Return the alarms' physical names, and CloudWatch's description of those that exist, by logical id."""
    alarms = of_type(resources, "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    answer = stack.client("cloudwatch").describe_alarms(
        AlarmNames=list(alarms.values()), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    found = {a["AlarmName"]: a for kind in ("MetricAlarms", "CompositeAlarms") for a in answer.get(kind, ())}
    return alarms, {name: found[physical] for name, physical in alarms.items() if physical in found}


def _page(stack: Stack, resources: Resources, sent: Page | None) -> Iterator[Finding]:
    if sent and in_local_environment():
        yield Finding("test messages", None, "not tried: the local environment has no alarms")
    elif sent:
        yield from send_tests(stack, _described(stack, resources)[1], sent)
