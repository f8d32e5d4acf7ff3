"""docs/messages.md's table of troubles is what comes of each, and no trouble pages twice."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from local.aws.stack import LocalAws
from tests.integration.troubles import MARKS, PAGE, TROUBLES, Trouble, row

DOCUMENTED = PAGE.read_text().partition(MARKS[0])[2].partition(MARKS[1])[0].splitlines()[2:]


def apart(line: str) -> tuple[str, list[int]]:
    """Return a row's words, and its minutes."""
    return re.sub(r"\(\d+\)", "()", line), [int(number) for number in re.findall(r"\((\d+)\)", line)]


def test_the_page_has_each_trouble_once() -> None:
    assert [line.split(" | ")[0].lstrip("| ") for line in DOCUMENTED] == [each.name for each in TROUBLES]


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_a_trouble_pages_once_with_one_all_clear_as_the_page_says(trouble: Trouble, aws: LocalAws) -> None:
    made = row(trouble, aws)
    [said] = [line for line in DOCUMENTED if line.startswith(f"| {trouble.name} |")]
    (words, minutes), (wanted, about) = (apart(text) for text in (str(made), said))
    assert words == wanted, "python -m tests.integration.troubles writes the table"
    # Pauses between tries are random.
    assert all(abs(one - other) <= 4 for one, other in zip(minutes, about, strict=True)), (made, said)

    begun = Counter(name for name, _ in made.messages)
    ended = Counter(name.replace("RECOVERED", "FAILING") for name, _ in made.all_clear)
    begun.pop("REPLACED", 0)  # says what is over already
    dead_webhook = begun.pop("UndeliveredAlarm", 0)  # a trouble of its own; its end comes a day later
    assert dead_webhook == (not trouble.chat)
    assert begun == ended
    assert set(begun.values()) <= {1}
    assert sum("Alarm" in name for name in begun) <= 1
