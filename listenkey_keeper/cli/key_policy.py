"""Checks that the policies of your own KMS keys allow what the stack needs.

If the policy of KmsKeyArn does not, AWS drops alarms silently.
"""

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from .errors import explain
from .findings import Finding
from .resources import Resources, of_type
from .stack import Stack

_OPEN, _FILL = "kms:Decrypt", "kms:GenerateDataKey"


def key_policies(stack: Stack, resources: Resources) -> Iterator[Finding]:
    """Yield a finding for each key of yours that the stack uses."""
    account = stack.outputs["AlarmTopicArn"].split(":")[4]
    roles = of_type(resources, "AWS::IAM::Role")
    functions = [roles[name] for name in ("KeepaliveRole", "ShardRole") if name in roles]
    for parameter, services, actions in (
        ("KmsKeyArn", ("cloudwatch.amazonaws.com", "events.amazonaws.com"), (_OPEN, _FILL)),
        ("SecretsKmsKeyArn", (), (_OPEN,)),
    ):
        key = stack.parameters.get(parameter)
        if not key:
            continue
        try:
            answer = stack.client("kms").get_key_policy(KeyId=key, PolicyName="default")
            policy = json.loads(answer["Policy"])["Statement"]
        except Exception as error:  # noqa: BLE001 - nothing else depends on it
            yield Finding("KMS key", None, f"the policy of {parameter} could not be read: {explain(error)}")
            continue
        statements = policy if isinstance(policy, list) else [policy]
        whom = {service: {"Service": service} for service in services}
        whom |= {role: {"AWS": f"{account}|.*:{account}:(root|role/{role})|[*]"} for role in functions}
        yield _judge(parameter, statements, whom, actions, account)


def _judge(
    parameter: str,
    statements: list[dict[str, Any]],
    whom: Mapping[str, Mapping[str, str]],
    actions: tuple[str, ...],
    account: str,
) -> Finding:
    found = {
        f"{who}: {action}": _allowed(statements, principal, action, account)
        for who, principal in whom.items()
        for action in actions
    }
    if missing := [each for each, allowed in found.items() if allowed is False]:
        lost = (
            "alarms or dead letters are dropped silently"
            if parameter == "KmsKeyArn"
            else "no listenKey is renewed"
        )
        free = " (for events.amazonaws.com without a condition)" if "events" in " ".join(missing) else ""
        says = f"the policy of {parameter} does not allow {', '.join(missing)}{free}: {lost}"
        return Finding("KMS key", False, f"{says}; allow it in the key's policy")
    if unknown := [each for each, allowed in found.items() if allowed is None]:
        says = f"the policy of {parameter} allows or denies {', '.join(unknown)} under a condition"
        return Finding("KMS key", None, f"{says}, which is not checked")
    return Finding("KMS key", True, f"the policy of {parameter} allows what {', '.join(whom)} need")


def _allowed(
    statements: list[dict[str, Any]], principal: Mapping[str, str], action: str, account: str
) -> bool | None:
    """Return whether a policy allows an action; None if that depends on something not evaluated here."""
    # By effect, whether each statement applies; None: perhaps.
    certain: dict[str, list[bool | None]] = {"Allow": [], "Deny": []}
    for statement in statements:
        concerned, conditions = _concerns(statement, principal, action), statement.get("Condition")
        if conditions and statement["Effect"] == "Allow" and "events.amazonaws.com" in principal.values():
            continue  # EventBridge fulfils no condition when it publishes to a topic
        if conditions and conditions != {"StringEquals": {"aws:SourceAccount": account}}:
            concerned = concerned is not False and None
        certain[statement["Effect"]].append(concerned)
    if True in certain["Deny"] or not any(each is not False for each in certain["Allow"]):
        return False
    return True if True in certain["Allow"] and None not in certain["Deny"] else None


def _concerns(statement: dict[str, Any], principal: Mapping[str, str], action: str) -> bool | None:
    if "NotPrincipal" in statement or "NotAction" in statement:
        return None
    if not any(fnmatchcase(action.lower(), pattern.lower()) for pattern in _list(statement["Action"])):
        return False
    given = statement["Principal"]
    if given == "*":
        return True
    return any(
        re.fullmatch(name, named) is not None
        for kind, name in principal.items()
        for named in _list(given.get(kind, []))
    )


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
