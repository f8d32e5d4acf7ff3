"""Runs MiniStack, corrected where it differs from AWS, in an environment of its own: .venv-ministack.

Each function below corrects one difference, and says what AWS does and where that is documented.
"""

# mypy: ignore-errors
import json
import os

from ministack.app import main
from ministack.core import iam_actions
from ministack.services import eventbridge, lambda_svc
from ministack.services.cloudformation import engine, provisioners


def alarms_may_compute():
    """AWS accepts an alarm on metric math (AWS::CloudWatch::Alarm, Metrics). Here, it never has data."""
    record = provisioners._cw_metric_alarm_record

    def with_metrics(name, props):
        if props.get("Metrics"):
            props = {key: value for key, value in props.items() if key != "Metrics"}
            props |= {"Namespace": "MetricMath", "MetricName": name}
        return record(name, props)

    provisioners._cw_metric_alarm_record = with_metrics


def conditions_may_join():
    """AWS accepts Fn::Join in a condition (CloudFormation User Guide, "Condition functions")."""
    evaluate = engine._evaluate_conditions

    def joined(node):
        match node:
            # The value of a list parameter is its text here. It is only compared with the empty string.
            case {"Fn::Join": [_, {"Ref": name}]}:
                return {"Ref": name}
            case dict():
                return {key: joined(value) for key, value in node.items()}
            case list():
                return [joined(item) for item in node]
        return node

    def with_join(template, params):
        return evaluate({**template, "Conditions": joined(template.get("Conditions", {}))}, params)

    for module in (engine, *_modules_with("_evaluate_conditions")):
        module._evaluate_conditions = with_join


def stacks_may_have_api_destinations():
    """CloudFormation creates AWS::Events::Connection and ::ApiDestination, as EventBridge does here."""

    def made(answer):
        status, _, body = answer
        if status >= 400:
            raise ValueError(body)
        return json.loads(body)

    def connection(logical_id, props, stack_name):
        answer = made(eventbridge._create_connection(props))
        return props["Name"], {"Arn": answer["ConnectionArn"]}

    def destination(logical_id, props, stack_name):
        answer = made(eventbridge._create_api_destination(props))
        return props["Name"], {"Arn": answer["ApiDestinationArn"]}

    provisioners._RESOURCE_HANDLERS |= {
        "AWS::Events::Connection": {
            "create": connection,
            "delete": lambda name, _: eventbridge._delete_connection({"Name": name}),
        },
        "AWS::Events::ApiDestination": {
            "create": destination,
            "delete": lambda name, _: eventbridge._delete_api_destination({"Name": name}),
        },
    }


def events_have_sources():
    """For PutEvents, AWS sets the condition key events:source, a value per entry (EventBridge User Guide)."""
    context = iam_actions.request_tag_context

    def with_source(service, iam_action, body, params):
        found = context(service, iam_action, body, params)
        if iam_action == "events:PutEvents":
            entries = json.loads(body)["Entries"]
            found = {**found, "events:source": [entry.get("Source", "") for entry in entries]}
        return found

    iam_actions.request_tag_context = with_source


def batches_need_the_permission_of_one():
    """AWS requires sqs:SendMessage for SendMessageBatch (SQS Developer Guide, "API permissions")."""
    extract = iam_actions.extract_iam_action

    def of_one(*arguments):
        action = extract(*arguments)
        return action.removesuffix("Batch") if action and action.startswith("sqs:") else action

    iam_actions.extract_iam_action = of_one


def numbers_may_be_text():
    """CloudFormation converts a text if a property is a number. A parameter's value is always a text."""
    validate, concurrency = lambda_svc._validate_scaling_config, lambda_svc._sqs_esm_concurrency

    def as_number(mapping):
        scaling = mapping.get("ScalingConfig") or {}
        if isinstance(most := scaling.get("MaximumConcurrency"), str):
            scaling["MaximumConcurrency"] = int(most)
        return mapping

    lambda_svc._validate_scaling_config = lambda data, *rest: validate(as_number(data), *rest)
    lambda_svc._sqs_esm_concurrency = lambda esm, *rest: concurrency(as_number(esm), *rest)


def _modules_with(name):
    import sys

    return [
        module
        for key, module in sys.modules.items()
        if key.startswith("ministack.") and hasattr(module, name)
    ]


if __name__ == "__main__":
    os.environ |= {"BIND_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0"}
    alarms_may_compute()
    conditions_may_join()
    stacks_may_have_api_destinations()
    events_have_sources()
    batches_need_the_permission_of_one()
    numbers_may_be_text()
    main()
