"""The findings of `listenkeys check`, as text and as JSON."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from .output import plain

_MARKS = {True: ("ok", "green"), False: ("action needed", "red"), None: ("unknown", "yellow")}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: its name, whether it is ok (None: unknown), and what was found or what to do."""

    name: str
    ok: bool | None
    says: str


def check_view(findings: Sequence[Finding]) -> Group:
    """Return the findings as text."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for wraps in (False, False, True):
        table.add_column(no_wrap=not wraps, overflow="fold")
    for finding in findings:
        word, style = _MARKS[finding.ok]
        table.add_row(Text(finding.name), Text(word, style=style), Text(plain(finding.says)))
    to_do = sum(finding.ok is False for finding in findings)
    unknown = any(finding.ok is None for finding in findings)
    ok = "the stack is ok, except for what could not be checked (unknown)" if unknown else "the stack is ok"
    return Group(table, "", Text(f"action needed: {to_do}, as said above" if to_do else ok))


def commands(findings: Sequence[Finding]) -> list[str]:
    """Return the commands in the findings, to be copied: the table breaks their lines."""
    found = [command for finding in findings for command in re.findall("`(aws [^`]+)`", finding.says)]
    return ["", "The commands of above, to copy:", *(f"  {command}" for command in found)] if found else []


def to_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as `check --json` prints them. The stack's status is the worst of its checks."""
    words = [_MARKS[each.ok][0] for each in findings]
    return {
        "status": next((word for word in ("action needed", "unknown") if word in words), "ok"),
        "checks": [
            {"check": each.name, "status": word, "says": each.says}
            for each, word in zip(findings, words, strict=True)
        ],
    }
