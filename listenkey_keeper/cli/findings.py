"""What `listenkeys check` found, for a person and for a program."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

_MARKS = {True: ("well", "green"), False: ("to do", "red"), None: ("unknown", "yellow")}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it is well (None: unknown here), and what was seen or is to do."""

    name: str
    well: bool | None
    says: str


def check_view(findings: Sequence[Finding]) -> Group:
    """Return the findings as a person reads them."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for wraps in (False, False, True):
        table.add_column(no_wrap=not wraps, overflow="fold")
    for finding in findings:
        word, style = _MARKS[finding.well]
        table.add_row(Text(finding.name), Text(word, style=style), Text(finding.says))
    to_do = sum(finding.well is False for finding in findings)
    unknown = any(finding.well is None for finding in findings)
    well = "the stack is well, as far as can be told here" if unknown else "the stack is well"
    return Group(table, "", Text(f"{to_do} to do" if to_do else well))


def to_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as JSON; a check's `well` is null where it is unknown."""
    return {
        "well": all(finding.well is not False for finding in findings),
        "checks": [{"check": each.name, "well": each.well, "says": each.says} for each in findings],
    }
