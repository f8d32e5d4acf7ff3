"""Looks up the stack's resources for the parts of `listenkeys check`."""

from typing import Any

from .errors import CliError

Resources = dict[str, dict[str, Any]]  # as DescribeStackResources returns them, by logical id


def of_type(resources: Resources, *kinds: str) -> dict[str, str]:
    """Return the physical ids of the resources of these types, by logical id.

    Raises CliError if there are no resources, because they could not be read.
    """
    if not resources:
        raise CliError("not checked, because the stack's resources could not be read")
    return {
        name: resource["PhysicalResourceId"]
        for name, resource in resources.items()
        if resource["ResourceType"] in kinds and resource.get("PhysicalResourceId")
    }
