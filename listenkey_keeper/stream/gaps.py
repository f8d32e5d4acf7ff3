"""What may have been missed, and which events were heard before. No sockets and no clock of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Why = Literal["started", "connection lost", "key expired", "key changed", "read too slowly"]

# Both bounds of a gap are moved outwards by this much. Binance orders a connection's events by their time
# within one type only ("Message Ordering Guarantee"), an event may be under way while a ping is answered, and
# this machine's clock is not Binance's.
MARGIN = timedelta(seconds=10)
_REMEMBERED = 2000


@dataclass(frozen=True, slots=True)
class Interrupted:
    """From `since` on (aware UTC) events may be missing, and nothing says yet that they come again.

    Comes at the moment in which the stream stops being sure to hear. One Gap follows, once it hears again.
    """

    since: datetime
    why: Why


@dataclass(frozen=True, slots=True)
class Gap:
    """Events between two moments (aware UTC) may have been missed: ask Binance by REST what happened then.

    Comes when the gap is over: what happens from now on comes by the stream. Some of the events in it may
    have been yielded all the same. `why` says what began it: the stream was opened ("started"), the
    websocket was closed or did not answer ("connection lost"), Binance said that the key has expired ("key
    expired"), the table has another key, and the old one may have been dead for some time ("key changed"),
    or events were thrown away because nobody took them ("read too slowly").
    """

    since: datetime
    until: datetime
    why: Why


@dataclass(slots=True)
class Proof:
    """Until when one connection, and the key it was opened with, are known to have worked.

    `delivered`: the network worked, and what was under way until then has arrived. `key_alive`: the key lived
    then. An open socket proves neither: a dead key is silent, and so is a broken network.
    """

    delivered: datetime
    key_alive: datetime

    def heard(self, at: datetime) -> None:
        """An event of this time has arrived, and so has everything before it."""
        self.answered(at)
        self.extended(at)

    def answered(self, ping_sent_at: datetime) -> None:
        """A ping sent at this time was answered: what was sent before the answer came before it."""
        self.delivered = max(self.delivered, ping_sent_at)

    def extended(self, at: datetime) -> None:
        """The keeper has extended this very key at this time."""
        self.key_alive = max(self.key_alive, at)

    @property
    def complete_until(self) -> datetime:
        """Until when nothing was missed: the network worked, and the key lived."""
        return min(self.delivered, self.key_alive)


class Missing:
    """The gap that is open, if any, in a stream that answers for what happens from `start` on."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._since: datetime | None = start
        self._why: Why = "started"

    def begin(self, since: datetime, why: Why) -> None:
        """Note that events may be missing since then; of several beginnings the earliest holds."""
        if self._since is None:
            self._why = why
        self._since = since if self._since is None else min(since, self._since)

    def end(self, at: datetime) -> Gap | None:
        """Close the gap: the stream is heard since `at`. Return it, None when nothing was missing."""
        since, self._since = self._since, None
        # The keeper's clock, which says since when, may be ahead of this one.
        return around(min(max(since, self._start), at), at, self._why) if since else None


class Seen:
    """The latest events. One that is equal in every field, its time in ms included, is the same event."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def is_new(self, event: Mapping[str, Any]) -> bool:
        """Remember the event; tell whether it has not been seen before."""
        text = json.dumps(event, sort_keys=True)
        if text in self._texts:
            return False
        self._texts[text] = None
        if len(self._texts) > _REMEMBERED:
            del self._texts[next(iter(self._texts))]
        return True


def around(since: datetime, until: datetime, why: Why) -> Gap:
    """Return a gap with its margins."""
    return Gap(since - MARGIN, until + MARGIN, why)


def event_time(event: Mapping[str, Any], now: datetime) -> datetime | None:
    """Return when an event happened: its `E` (epoch ms), but no later than now; None without one."""
    try:
        return min(datetime.fromtimestamp(event["E"] / 1000, UTC), now)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
