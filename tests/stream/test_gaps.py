"""What a bot is told, and which events are new."""

from datetime import UTC, datetime, timedelta

from listenkey_keeper.stream.gaps import Gap, Interrupted, Seen
from listenkey_keeper.stream.outbox import Outbox


def test_a_message_is_new_once_a_minute_however_many_there_are() -> None:
    seen = Seen()
    messages = [b'{"E": %d}' % number for number in range(5000)]
    assert all(seen.is_new(message, 1000 + number / 100) for number, message in enumerate(messages))
    assert not any(seen.is_new(message, 1059) for message in messages)
    assert seen.is_new(messages[0], 1200)
    assert seen.is_new(messages[0], 1320)
    assert len(seen._now) + len(seen._before) < 5001


def test_what_may_be_missing_prints_short() -> None:
    since = datetime(2026, 11, 28, 23, 48, 54, 182_696, tzinfo=UTC)
    gap = Gap(since, since + timedelta(seconds=23), "connection lost")
    assert str(gap) == "Gap(since=2026-11-28 23:48:54, until=2026-11-28 23:49:17, why='connection lost')"
    assert str(Interrupted(since, "no key")) == "Interrupted(since=2026-11-28 23:48:54, why='no key')"


def test_10000_events_or_16_mb_wait_and_then_none_until_all_are_taken() -> None:
    called: list[tuple[str, int]] = []
    box = Outbox(lambda: called.append(("emptied", len(box))), lambda: called.append(("low", len(box))))
    assert [box.put({}, 1) for _ in range(10_001)] == [True] * 10_000 + [False]
    for _ in range(10_000):
        assert box.take() == {}
        assert not box.put({}, 1)
    assert called == [("low", 500), ("emptied", 0)]
    box.full = False
    assert [box.put({}, size) for size in (15_999_999, 1, 1)] == [True, True, False]
