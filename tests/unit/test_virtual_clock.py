"""The clock of the tests, where it could make them hang."""

import threading

from local.clock import VirtualClock


def test_a_wait_whose_notification_was_missed_lets_its_caller_look_again() -> None:
    condition = threading.Condition()
    with condition:
        VirtualClock().wait(condition, None, idle=False)
