"""The states of an account, and how long ago something was, as the page and `listenkeys status` say it."""

import pytest

from listenkeys.model import NOTHING, Account
from listenkeys.view.status import AccountStatus, ago


@pytest.mark.parametrize(
    ("left", "host_error", "state"),
    [
        (14.99, None, "risk"), (15.0, None, "failing"), (19.99, None, "failing"), (20.0, None, "ok"),
        (14.99, "TIMEOUT", "risk"), (23.99, "TIMEOUT", "failing"),
        (24.0, "TIMEOUT", "ok"), (0.01, None, "risk"), (0.0, None, "dead"),
    ],
)  # fmt: skip
def test_a_state_is_by_the_minutes_left_and_what_became_of_the_host(
    left: float, host_error: str | None, state: str
) -> None:
    assert AccountStatus(Account("alice"), NOTHING, left, 3, host_error).state == state


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
