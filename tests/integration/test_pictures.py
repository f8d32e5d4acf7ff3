"""The pictures in docs/ are those that the code makes now; `make pictures` makes them again."""

from collections.abc import Iterator

import pytest

from local import png
from local.aws.stack import LocalAws
from local.clock import VirtualClock
from local.pictures import IN_TURN, START, THEMES, Distant, Pictures, make
from local.world import World
from simulation.picture import svg
from tests.leaks import WatchedFunction, search
from tests.paths import ROOT

DOCS = ROOT / "docs"
OUT_OF_DATE = "out of date: run `make pictures`"


@pytest.fixture(scope="module")
def made(aws: LocalAws) -> Iterator[Pictures]:
    """The pictures, made now; none of the world's keys is in them."""
    aws.reset()
    clock = VirtualClock(START)
    with World(exchange=Distant(clock), aws=aws) as world:
        function = WatchedFunction(world, clock, **IN_TURN)
        pictures = make(world, clock, function)
        function.search_world()
        search(function.secrets, [*pictures.svg.values(), pictures.html])
        yield pictures


def test_the_outage_is_the_one_that_the_simulation_plays() -> None:
    assert (DOCS / "outage.svg").read_text() == svg(), OUT_OF_DATE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["status.svg", "history.svg"])
def test_a_picture_of_the_command_is_what_the_command_shows(made: Pictures, name: str) -> None:
    assert (DOCS / name).read_text() == made.svg[name], OUT_OF_DATE


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
def test_a_picture_of_the_page_was_taken_of_the_page_as_it_is(made: Pictures, theme: str) -> None:
    assert png.note((DOCS / f"page-{theme}.png").read_bytes()) == made.digest, OUT_OF_DATE


def test_a_note_in_a_png_is_read_again_and_another_picture_has_none() -> None:
    picture = (DOCS / "page-light.png").read_bytes()
    plain = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0IEND\xaeB`\x82"
    assert png.note(plain) is None
    assert png.note(png.with_note(plain, "what it shows")) == "what it shows"
    assert picture.endswith(plain[-12:])
