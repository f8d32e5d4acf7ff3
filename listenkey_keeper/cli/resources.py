"""The stack's resources, as the parts of `listenkeys check` look them up."""

from typing import Any

from .errors import CliError

Resources = dict[str, dict[str, Any]]  # of the stack, by logical id


def of_type(resources: Resources, *kinds: str) -> dict[str, str]:
    """Return the physical ids of these types' resources by their logical ids."""
    if not resources:
        raise CliError("not checked, because the stack's resources could not be read")
    return {
        name: resource["PhysicalResourceId"]
        for name, resource in resources.items()
        if resource["ResourceType"] in kinds and resource.get("PhysicalResourceId")
    }
