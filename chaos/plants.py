"""Bugs to plant, to show that a day finds them: `make chaos PLANT=1`, or `PLANT=all`.

Each bug is an edit in a copy of the program, which the processes of the day then run.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path("functions/keepalive")


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug that breaks `rules`: the text `old`, which must occur once in the program, becomes `new`."""

    what: str
    old: str
    new: str
    rules: tuple[str, ...]


PLANTS = {
    "1": Plant(
        "the counter says that no other run has used any weight",
        'return int(answer["Attributes"]["used"]["N"])',
        "return weight",
        ("weight",),
    ),
    "2": Plant(
        "expiresAt is two seconds too late",
        '"expiresAt": {"S": iso(result.at + LEASE)}',
        '"expiresAt": {"S": iso(result.at + LEASE + timedelta(seconds=2))}',
        ("expiresAt",),
    ),
    "3": Plant(
        "a result is written whatever is recorded by then",
        '"ConditionExpression": same,',
        '"ConditionExpression": f"attribute_exists(accountId) OR ({same})",',
        ("older record", "expiresAt", "announcements"),
    ),
    "4": Plant(
        "sweeps renew no key that is overdue",
        "return overdue, said",
        "return False, said",
        ("lost",),
    ),
    "5": Plant(
        "the recorded key stays when Binance names another",
        'return result.listen_key or result.before.listen_key or ""',
        'return result.before.listen_key or result.listen_key or ""',
        ("another key",),
    ),
    "6": Plant(
        "a new listenKey is in the log",
        "**result.as_problem())",
        "**result.as_problem(), key=result.listen_key)",
        ("secret",),
    ),
    "7": Plant(
        "no Recovered after a single failure",
        "if before.consecutive_failures and not result.late:",
        "if before.consecutive_failures > 1 and not result.late:",
        ("announcements",),
    ),
    "8": Plant(
        "a failed attempt is not in the ledger",
        'if self.ledger_mode == "all" or not repeats(result):',
        'if (self.ledger_mode == "all" or not repeats(result)) and result.outcome != "FAILED":',
        ("ledger",),
    ),
}


def planted(plant: Plant, folder: Path) -> Path:
    """Return a copy of the program with the bug. Raises LookupError if `old` does not occur exactly once."""
    program = folder / "program"
    shutil.copytree(PROGRAM, program, ignore=shutil.ignore_patterns("__pycache__"))
    places = [file for file in program.rglob("*.py") if plant.old in file.read_text()]
    if len(places) != 1 or places[0].read_text().count(plant.old) != 1:
        raise LookupError(f"not once in the program: {plant.old}")
    places[0].write_text(places[0].read_text().replace(plant.old, plant.new))
    return program
