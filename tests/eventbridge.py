"""EventBridge, as far as the template's webhook needs it: which events a rule takes, what its target is sent.

After the EventBridge User Guide, "Event patterns" and "Amazon EventBridge input transformation". What those
pages allow and the template does not use is refused, not guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_MISSING = object()


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Tell whether an event matches a pattern of exact values: a field is, or its list has, one of them."""
    for name, wanted in pattern.items():
        found = event.get(name, _MISSING)
        match wanted:
            case dict():
                if not isinstance(found, dict) or not matches(wanted, found):
                    return False
            case list():
                assert all(value is None or isinstance(value, str | int) for value in wanted), (
                    "not known here"
                )
                values = found if isinstance(found, list) else [found]
                if not any(value in wanted for value in values):
                    return False
            case _:
                raise AssertionError(f"{wanted!r} is no pattern")
    return True


def transformed(transformer: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    """Return what an input transformer makes of an event.

    In a JSON string a variable is put in as it is: EventBridge escapes nothing. Beside one it is JSON. A path
    that leads nowhere makes no variable; this template has none of those, so it is refused.
    """
    template: str = transformer["InputTemplate"]
    paths: Mapping[str, str] = transformer.get("InputPathsMap", {})
    used = set(re.findall(r"<([\w.-]+)>", template))
    assert used == paths.keys(), "every variable is used, and every one that is used is there"
    values = {name: _at(path, event) for name, path in paths.items()}

    def put(found: re.Match[str]) -> str:
        value = values[found[1]]
        in_string = len(re.findall(r'(?<!\\)"', template[: found.start()])) % 2 == 1
        return value if in_string and isinstance(value, str) else json.dumps(value)

    return re.sub(r"<([\w.-]+)>", put, template)


def _at(path: str, event: Mapping[str, Any]) -> Any:
    assert re.fullmatch(r"\$(\.[\w-]+)+", path), f"{path}: not known here"
    value: Any = event
    for name in path.split(".")[1:]:
        assert isinstance(value, dict), f"{path} leads nowhere"
        assert name in value, f"{path} leads nowhere"
        value = value[name]
    return value
