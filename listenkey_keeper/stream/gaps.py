"""Tracks which events may have been missed, and recognises duplicates. No sockets and no clock of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Why = Literal[
    "started", "no key", "table unreadable", "cannot connect", "connection lost", "key expired",
    "key changed", "key not renewed", "account rejected", "read too slowly", "closed",
]  # fmt: skip

# A gap is widened by this much at both ends. Binance orders a connection's events by time only within one
# type ("Message Ordering Guarantee"), an event may be on its way while a ping is answered, and this machine's
# clock differs from Binance's.
MARGIN = timedelta(seconds=10)
REMEMBERED_SECONDS = 60.0
_REMEMBERED_MOST = 500_000
_TO_READ = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Events after `since` (aware UTC) may be missing.

    Yielded as soon as the stream cannot be sure to receive every event. Exactly one Gap follows, when the
    stream receives events again. The Gap may begin earlier than `since`, if the stream has learned by then
    that more may be missing. `since` includes a margin of 10 s. `why` is the reason:

    "no key"            the table has no listenKey of the account: it is new, its name is wrong, or the keeper
                        cannot create one (`state.error_code`)
    "table unreadable"  the table could not be read when the stream was opened
    "cannot connect"    no websocket could be opened when the stream was opened
    "connection lost"   the websocket was closed, or did not answer a ping
    "key expired"       Binance sent listenKeyExpired
    "key changed"       the table has another key, and the old one may have been dead for some time
    "key not renewed"   the table says that the key has expired
    "account rejected"  the same, or that Binance does not know the key, and a person must fix the account
                        (`state.error_code`)
    "read too slowly"   events were dropped because the bot did not read them
    """

    since: datetime
    why: Why

    def __str__(self) -> str:
        return f"Interrupted(since={self.since:{_TO_READ}}, why={self.why!r})"


@dataclass(frozen=True, slots=True)
class Gap:
    """Events between `since` and `until` (aware UTC) may be missing: ask Binance by REST what happened then.

    Yielded when the gap is over and the stream receives events again. Some events of the gap may have been
    yielded too. Both times include a margin of 10 s, so `until` may be up to 10 s in the future. `why` is the
    reason of the Interrupted before it, or "started" for the first Gap of a stream.
    """

    since: datetime
    until: datetime
    why: Why

    def __str__(self) -> str:
        return f"Gap(since={self.since:{_TO_READ}}, until={self.until:{_TO_READ}}, why={self.why!r})"


@dataclass(frozen=True, slots=True)
class State:
    """The state of a stream.

    listening    whether a socket is open whose key is alive, as far as the stream knows
    why          None while listening; else the reason: one of Interrupted's, "started" or "closed"
    since        None while listening; else the time (aware UTC) after which events may be missing
    expires_at   when the key expires (aware UTC), None before the first read
    outcome      how the keeper's last attempt ended: EXTENDED, REJECTED, ...; None if unknown
    error_code   the error of that attempt, None if there was none
    events       how many events were received, without duplicates
    reconnects   how many sockets were opened after the first

    `expires_at`, `outcome` and `error_code` come from the account's record as last read from the table.
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
    """The last time at which a connection and its key are known to have worked.

    Everything that was sent before `delivered` has arrived. At `key_alive` the key was alive. An open socket
    proves neither: no data arrives with a dead key or over a broken network, and nothing says so.
    """

    delivered: datetime
    key_alive: datetime

    def heard(self, at: datetime) -> None:
        """Note that an event with this time has arrived, and so has everything before it."""
        if at > self.delivered:
            self.delivered = at
        if at > self.key_alive:
            self.key_alive = at

    def answered(self, ping_sent_at: datetime) -> None:
        """Note that a ping sent at this time was answered: what was sent before the answer has arrived."""
        self.delivered = max(self.delivered, ping_sent_at)

    def extended(self, at: datetime) -> None:
        """Note that the keeper extended this same key at this time."""
        self.key_alive = max(self.key_alive, at)

    @property
    def complete_until(self) -> datetime:
        """The time until which nothing was missed: the network worked and the key was alive."""
        return min(self.delivered, self.key_alive)


class Missing:
    """The open gap, if there is one, of a stream that accounts for all events from `start` on.

    `since` is when the gap began, None if none is open. `why` is its most recent reason.
    """

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.since: datetime | None = start
        self.why: Why = "started"
        self._first: Why = "started"
        self._told = False

    def begin(self, since: datetime, why: Why) -> Interrupted | None:
        """Open a gap at `since`. If one is open already, it begins at the earlier of the two times.

        Return the Interrupted for the bot, or None if it has had one for this gap.
        """
        if self.since is None:
            self.since, self._first = since, why
        self.since, self.why = max(min(since, self.since), self.start), why
        told, self._told = self._told, True
        return None if told else Interrupted(self.since - MARGIN, why)

    def end(self, at: datetime) -> Gap | None:
        """Close the open gap, if any, and return it. The stream receives events again since `at`."""
        since, self.since, self._told = self.since, None, False
        # `since` may come from the keeper's clock, which may be ahead of this one.
        return Gap(min(since, at) - MARGIN, at + MARGIN, self._first) if since else None


class Seen:
    """Recognises events that were received in the last minute.

    Two messages with the same bytes are the same event: they contain its time. Only a 64-bit hash of each
    message is kept.
    """

    def __init__(self) -> None:
        self._now: set[int] = set()
        self._before: set[int] = set()
        self._since = float("-inf")

    def is_new(self, message: bytes, now: float) -> bool:
        """Remember a message, and return whether it was not seen in the last minute. `now` is in seconds."""
        if now - self._since >= REMEMBERED_SECONDS or len(self._now) >= _REMEMBERED_MOST:
            old = now - self._since >= 2 * REMEMBERED_SECONDS
            self._before, self._now, self._since = set() if old else self._now, set(), now
        number = hash(message)
        if number in self._now or number in self._before:
            return False
        self._now.add(number)
        return True


def event_time(event: Mapping[str, Any], now: datetime) -> datetime | None:
    """Return when an event happened, aware UTC and no later than `now`. None if it does not say.

    The time is the event's `E`: milliseconds since the epoch, as a number or (options) as text.
    """
    try:
        return min(datetime.fromtimestamp(int(event["E"]) / 1000, UTC), now)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
