"""Reads a samconfig.toml in this directory: where the stack is, and which parameters `sam deploy` sends."""

import shlex
import tomllib
from pathlib import Path
from typing import Any

FILE = Path("samconfig.toml")


def file_of(stack: str, region: str) -> Path:
    """Return the samconfig*.toml of this stack; samconfig.toml if there is none."""
    files = (file for file in sorted(Path().glob("samconfig*.toml")) if parameter_overrides(file))
    places = ((file, location(file)) for file in files)
    return next((f for f, at in places if (at.get("stack_name"), at.get("region")) == (stack, region)), FILE)


def location(file: Path = FILE) -> dict[str, str]:
    """Return stack_name, region and profile; those that the file does not have are left out."""
    found: dict[str, str] = {}
    for command in ("global", "deploy"):  # the command's own parameters override the global ones
        for key in ("stack_name", "region", "profile"):
            if isinstance(value := _section(file, command).get(key), str):
                found[key] = value
    return found


def parameter_overrides(file: Path = FILE) -> dict[str, str]:
    """Return the parameters that the next `sam deploy` sends; empty if the file has none.

    SAM accepts a list of Key=value, one string of them (as `sam deploy --guided` saves it), or a table.
    """
    written = _section(file, "deploy").get("parameter_overrides", [])
    if isinstance(written, dict):
        return {name: str(value) for name, value in written.items()}
    try:
        parts = [
            part
            for line in ([written] if isinstance(written, str) else written)
            for part in shlex.split(line)
        ]
    except (AttributeError, TypeError, ValueError):
        return {}
    pairs = [part.partition("=") for part in parts]
    return {name: value for name, equals, value in pairs if equals}


def _section(file: Path, command: str) -> dict[str, Any]:
    """Return a command's parameters; empty if the file is missing or invalid."""
    try:
        section: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    for part in ("default", command, "parameters"):
        section = section.get(part) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}
