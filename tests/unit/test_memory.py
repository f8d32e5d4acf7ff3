"""MemorySize's default: what the benchmark chooses, and that the template, the page and the picture agree."""

import re
from xml.etree import ElementTree

from benchmarks import memory
from benchmarks.__main__ import README
from local.aws.stack import expand


def measured(**ticks: float) -> memory.Measured:
    """Return what was measured, with these seconds for a typical tick and the same sweep for every size."""
    found = {(size, accounts): (9.0, 9.0) for size in memory.SIZES for accounts in (0, *memory.ACCOUNTS)}
    for size in memory.SIZES:
        found[size, 0] = (1.0, 0.0)
        found[size, memory.TYPICAL] = (ticks[f"mb{size}"], 1.0)
    return found


def test_the_default_is_the_cheapest_size_within_a_tenth_of_the_fastest() -> None:
    assert memory.default(measured(mb128=8, mb256=4, mb512=1.2, mb1024=1.09, mb1769=1.0)) == 1024
    assert memory.default(measured(mb128=8, mb256=4, mb512=1.2, mb1024=1.11, mb1769=1.0)) == 1769
    assert memory.default(measured(mb128=1, mb256=1, mb512=1, mb1024=1, mb1769=1)) == 128


def test_the_template_has_the_default_that_was_measured() -> None:
    [section] = re.findall(f"{memory.MARKS[0]}(.*?){memory.MARKS[1]}", README.read_text(), re.DOTALL)
    [measured_default] = re.findall(r"within a tenth of the fastest is (\d+) MB", section)

    assert measured_default == expand()["Parameters"]["MemorySize"]["Default"]


def test_the_picture_shows_every_size_and_has_no_background() -> None:
    drawn = ElementTree.fromstring(memory.picture(measured(mb128=8, mb256=4, mb512=2, mb1024=1, mb1769=1)))
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]

    assert [f"{size} MB" for size in memory.SIZES if f"{size} MB" not in texts] == []
    assert not list(drawn.iter("{http://www.w3.org/2000/svg}rect"))
