"""What may have been missed, and which events came before. No sockets and no clock of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Why = Literal[
    "started", "no key", "table unreadable", "cannot connect", "connection lost", "key expired",
    "key changed", "key not renewed", "account rejected", "read too slowly", "closed",
]  # fmt: skip

# Both bounds of a gap are moved outwards by this much. Binance orders a connection's events by their time
# within one type only ("Message Ordering Guarantee"), an event may be under way while a ping is answered, and
# this machine's clock is not Binance's.
MARGIN = timedelta(seconds=10)
REMEMBERED_SECONDS = 60.0
_REMEMBERED_MOST = 500_000
_TO_READ = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Events since `since` (aware UTC) may be missing.

    Yielded as soon as the stream cannot be sure to receive every event. Exactly one Gap follows, when it
    receives events again; it may begin earlier, if the stream has learned more by then. `why` is the reason:

    "no key"            the table has no listenKey of the account: it is new, or its name is wrong
    "table unreadable"  the table could not be read when the stream was opened
    "cannot connect"    no websocket could be opened when the stream was opened
    "connection lost"   the websocket was closed, or did not answer a ping
    "key expired"       Binance sent listenKeyExpired
    "key changed"       the table has another key, and the old one may have been dead for some time
    "key not renewed"   60 minutes have passed since the key's last renewal
    "account rejected"  the same, and a person must fix the account (`state.error_code`)
    "read too slowly"   events were dropped because the bot did not read them
    """

    since: datetime
    why: Why

    def __str__(self) -> str:
        return f"Interrupted(since={self.since:{_TO_READ}}, why={self.why!r})"


@dataclass(frozen=True, slots=True)
class Gap:
    """Events between two times (aware UTC) may be missing: ask Binance by REST what happened then.

    Yielded when the gap is over: the stream yields later events. Some events of the gap may have been yielded
    too. `why` is that of the Interrupted before it, or "started" for the first Gap of a stream.
    """

    since: datetime
    until: datetime
    why: Why

    def __str__(self) -> str:
        return f"Gap(since={self.since:{_TO_READ}}, until={self.until:{_TO_READ}}, why={self.why!r})"


@dataclass(frozen=True, slots=True)
class State:
    """The state of a stream.

    `listening`: a socket is open, and as far as is known its key is alive. If not, `why` is the reason
    ("closed" at the end) and `since` (aware UTC) when that began. `expires_at`, `outcome` and `error_code`
    are the account's record as last read from the table: when the key expires, how the keeper's last attempt
    ended (EXTENDED, REJECTED, ...) and with which error. `events` counts the events received, `reconnects`
    the sockets opened after the first.
    """

    listening: bool
    why: Why | None
    since: datetime | None
    expires_at: datetime | None
    outcome: str | None
    error_code: str | None
    events: int
    reconnects: int


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
        if at > self.delivered:
            self.delivered = at
        if at > self.key_alive:
            self.key_alive = at

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
        self.start = start
        self.since: datetime | None = start
        self.why: Why = "started"
        self._first: Why = "started"
        self._told = False

    def begin(self, since: datetime, why: Why) -> Interrupted | None:
        """Note that events may be missing since then; of several beginnings the earliest holds.

        Return what the bot is told of it: nothing where it knows already.
        """
        if self.since is None:
            self.since, self._first = since, why
        self.since, self.why = max(min(since, self.since), self.start), why
        told, self._told = self._told, True
        return None if told else Interrupted(self.since - MARGIN, why)

    def end(self, at: datetime) -> Gap | None:
        """Close the gap: the stream is heard since `at`. Return it, None when nothing was missing."""
        since, self.since, self._told = self.since, None, False
        # The keeper's clock, which says since when, may be ahead of this one.
        return Gap(min(since, at) - MARGIN, at + MARGIN, self._first) if since else None


class Seen:
    """The events of the last minute: a message that is the same, its time included, is the same event.

    Of each it keeps a number of 64 bits.
    """

    def __init__(self) -> None:
        self._now: set[int] = set()
        self._before: set[int] = set()
        self._since = float("-inf")

    def is_new(self, message: bytes, now: float) -> bool:
        """Remember the message; tell whether it was not seen in the last minute (`now` in seconds)."""
        if now - self._since >= REMEMBERED_SECONDS or len(self._now) >= _REMEMBERED_MOST:
            old = now - self._since >= 2 * REMEMBERED_SECONDS
            self._before, self._now, self._since = set() if old else self._now, set(), now
        number = hash(message)
        if number in self._now or number in self._before:
            return False
        self._now.add(number)
        return True


def event_time(event: Mapping[str, Any], now: datetime) -> datetime | None:
    """Return when an event happened: its `E` (epoch ms, for options as text), but no later than now."""
    try:
        return min(datetime.fromtimestamp(int(event["E"]) / 1000, UTC), now)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
