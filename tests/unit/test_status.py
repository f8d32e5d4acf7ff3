"""How long ago something was, as the page and `listenkeys status` say it."""

import pytest

from listenkeys.view.status import ago


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        (0.9, "just now"),
        (1, "1 min ago"),
        (119, "119 min ago"),
        (120, "2 h ago"),
        (47 * 60, "47 h ago"),
        (48 * 60, "2 days ago"),
        (240 * 60, "10 days ago"),
    ],
)
def test_how_long_ago_is_said_in_the_unit_that_fits(minutes: float, said: str) -> None:
    assert ago(minutes) == said
