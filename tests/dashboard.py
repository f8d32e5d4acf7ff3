"""Reads the dashboard of a template."""

import json
import re
from typing import Any


def body_of(template: dict[str, Any]) -> str:
    """Return DashboardBody with its own variables filled in. The template's conditions must be resolved."""
    text, variables = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for name, value in variables.items():
        text = text.replace(f"${{{name}}}", value["Fn::Sub"] if isinstance(value, dict) else value)
    return str(text)


def widgets_of(template: dict[str, Any], **values: str) -> list[dict[str, Any]]:
    """Return the dashboard's widgets. A reference is replaced by its value in `values`, by default "1"."""

    def filled(reference: re.Match[str]) -> str:
        return values.get(reference[1].replace("::", "").replace(".", ""), "1")

    widgets: list[dict[str, Any]] = json.loads(re.sub(r"\$\{([^}]*)\}", filled, body_of(template)))["widgets"]
    return widgets
