"""An event is new once, however many there are."""

from listenkey_keeper.stream.gaps import Seen


def test_a_message_is_new_once_a_minute_however_many_there_are() -> None:
    seen = Seen()
    messages = [b'{"E": %d}' % number for number in range(5000)]
    assert all(seen.is_new(message, 1000 + number / 100) for number, message in enumerate(messages))
    assert not any(seen.is_new(message, 1059) for message in messages)
    assert seen.is_new(messages[0], 1200)
    assert seen.is_new(messages[0], 1320)
    assert len(seen._now) + len(seen._before) < 5001
