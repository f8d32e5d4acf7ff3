"""The logic of gaps: what proves that nothing was missed, which beginning holds, and which event is new."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from listenkey_keeper.stream.gaps import MARGIN, Gap, Interrupted, Missing, Proof, Seen, event_time

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("heard", "answered", "extended", "complete_until"),
    [
        (None, None, None, 0),
        (None, 5, None, 0),  # the network is well; the key may be dead
        (None, None, 5, 0),  # the key lives; the network may be gone
        (None, 4, 5, 4),
        (None, 5, 4, 4),
        (5, None, None, 5),
        (5, 7, None, 5),
        (5, 7, 6, 6),
        (5, 3, 2, 5),  # older news takes nothing back
    ],
)
def test_only_both_network_and_key_prove_that_nothing_was_missed(
    heard: float | None, answered: float | None, extended: float | None, complete_until: float
) -> None:
    proof = Proof(START, START)
    if heard is not None:
        proof.heard(at(heard))
    if answered is not None:
        proof.answered(at(answered))
    if extended is not None:
        proof.extended(at(extended))
    assert proof.complete_until == at(complete_until)


def test_of_several_beginnings_the_earliest_and_the_first_reason_hold() -> None:
    missing = Missing(START)
    assert missing.end(at(1)) == Gap(at(0) - MARGIN, at(1) + MARGIN, "started")
    assert missing.end(at(2)) is None
    assert missing.begin(at(5), "connection lost") == Interrupted(at(5) - MARGIN, "connection lost")
    assert missing.begin(at(3), "key changed") is None
    assert missing.begin(at(4), "key expired") is None
    assert missing.end(at(6)) == Gap(at(3) - MARGIN, at(6) + MARGIN, "connection lost")


def test_no_gap_begins_before_the_stream() -> None:
    missing = Missing(START)
    missing.end(START)
    missing.begin(at(-30), "key changed")
    assert missing.end(at(1)) == Gap(at(0) - MARGIN, at(1) + MARGIN, "key changed")


def test_a_message_is_new_once_a_minute_however_many_there_are() -> None:
    seen = Seen()
    messages = [b'{"E": %d}' % number for number in range(5000)]
    assert all(seen.is_new(message, 1000 + number / 100) for number, message in enumerate(messages))
    assert not any(seen.is_new(message, 1059) for message in messages)
    assert seen.is_new(messages[0], 1200)
    assert len(seen._now) + len(seen._before) < 5001


@pytest.mark.parametrize(
    ("event", "time"),
    [
        ({"E": 1767225600123}, START + timedelta(milliseconds=123)),
        ({"E": 1767225661000}, at(1)),  # Binance's clock is ahead: no later than now
        ({"E": "1767225600123"}, START + timedelta(milliseconds=123)),  # options
        ({}, None),
        ({"E": "soon"}, None),
        ({"E": None}, None),
        ({"E": 1e300}, None),
        ({"E": float("nan")}, None),
    ],
)
def test_the_time_of_an_event_is_its_own_but_not_in_the_future(event: Any, time: datetime | None) -> None:
    assert event_time(event, at(1)) == time
