"""Bugs to plant, which show that a day sees them: `make chaos PLANT=1`, or `PLANT=all`.

Each is an edit of a copy of the program, which the day's processes then run.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path("functions/keepalive")


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug: `old` becomes `new` in a file; `rules` are those that it breaks."""

    what: str
    path: str
    old: str
    new: str
    rules: tuple[str, ...]


PLANTS = {
    "1": Plant(
        "the counter grants what is asked, whatever has been used",
        "listenkeys/aws/counter.py",
        "return max(0, min(weight, cap - used + weight))",
        "return weight",
        ("weight",),
    ),
    "2": Plant(
        "expiresAt is two seconds too late",
        "listenkeys/aws/items.py",
        '":expires": {"S": iso(result.at + LEASE)}',
        '":expires": {"S": iso(result.at + LEASE + timedelta(seconds=2))}',
        ("expiresAt",),
    ),
    "3": Plant(
        "a result is written whatever is recorded by then",
        "listenkeys/aws/items.py",
        '"ConditionExpression": same,',
        '"ConditionExpression": f"attribute_exists(accountId) OR ({same})",',
        ("older record", "expiresAt", "announcements"),
    ),
    "4": Plant(
        "sweeps renew no key that is overdue",
        "listenkeys/selection.py",
        "return overdue, said",
        "return False, said",
        ("lost",),
    ),
    "5": Plant(
        "the recorded key stays when Binance names another",
        "listenkeys/aws/items.py",
        'return result.listen_key or result.before.listen_key or ""',
        'return result.before.listen_key or result.listen_key or ""',
        ("another key",),
    ),
    "6": Plant(
        "a new listenKey is in the log",
        "app.py",
        "**result.as_problem())",
        "**result.as_problem(), key=result.listen_key)",
        ("secret",),
    ),
    "7": Plant(
        "no Recovered after a single failure",
        "listenkeys/aws/announcements.py",
        "if before.consecutive_failures and not result.late:",
        "if before.consecutive_failures > 1 and not result.late:",
        ("announcements",),
    ),
    "8": Plant(
        "a failed attempt is not in the ledger",
        "listenkeys/aws/records.py",
        "if self._all_entries or not repeats(result):",
        'if (self._all_entries or not repeats(result)) and result.outcome != "FAILED":',
        ("ledger",),
    ),
}


def planted(plant: Plant, folder: Path) -> Path:
    """Return a copy of the program with the bug in it."""
    program = folder / "program"
    shutil.copytree(PROGRAM, program, ignore=shutil.ignore_patterns("__pycache__"))
    file = program / plant.path
    source = file.read_text()
    if source.count(plant.old) != 1:
        raise LookupError(f"{plant.path} does not have once: {plant.old}")
    file.write_text(source.replace(plant.old, plant.new))
    return program
