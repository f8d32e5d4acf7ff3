"""The policy statements of an expanded template's roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def statements_of(resources: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    """Return every statement that a role has: its own, its managed policies', and those attached to it."""
    properties = resources[role]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties["Policies"]]
    documents += [
        resources[managed["Ref"]]["Properties"]["PolicyDocument"]
        for managed in properties.get("ManagedPolicyArns", ())
    ]
    documents += [
        resource["Properties"]["PolicyDocument"]
        for resource in resources.values()
        if resource["Type"] == "AWS::IAM::Policy" and {"Ref": role} in resource["Properties"]["Roles"]
    ]
    return [statement for document in documents for statement in document["Statement"]]


def as_list(value: Any) -> list[Any]:
    """Return a policy's actions or resources as a list. A policy may have a single one without a list."""
    return value if isinstance(value, list) else [value]
