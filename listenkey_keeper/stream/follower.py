"""Keeps a socket open on an account's current listenKey, and records when events may have been missed.

There are two tasks and some timers, all in one loop. One task reads the table, the other opens sockets.
Neither waits for the other, so that a read that hangs does not delay a socket.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from urllib.parse import urlsplit

from listenkeys.errors import ErrorCode

from .clock import Bell, Clock, Timer, sleep
from .connection import Connection, ConnectionFailed
from .gaps import Missing, Seen, State, Why, event_time
from .keys import ListenKey, ListenKeys, ListenKeyUnavailable
from .line import Line
from .outbox import HIGH, LOW, Event, Outbox
from .pacing import Urgency, gate_of
from .threads import THREADS

log = logging.getLogger("listenkey_keeper.stream")
LOOK_SECONDS = 60.0  # between two reads of the table while events arrive
RETRY_SECONDS = 5.0  # between two reads while no events arrive
SOON_SECONDS = 1.0  # between two reads for SOON seconds after the keeper was told that the key is dead
SOON = 10.0
OVERLOOKS_SECONDS = 31.0  # the keeper ignores a report within 30 s of its last attempt
ASK_AGAIN_SECONDS = 35.0  # report again, in case the message was lost; doubles each time
MOST_BETWEEN_QUESTIONS = 600.0
LINGER_SECONDS = 5.0  # a replaced socket stays open this long: an event may be on its way to it
PROVEN_SECONDS = 60.0  # a socket that stayed open this long resets the count of failures
MOST_BACKOFF = 60.0
PATIENCE_SECONDS = 5.0  # how long sockets are paused for a bot that reads too slowly
SAY_AGAIN_SECONDS = 600.0  # before the same warning is logged again


class Follower:
    """Keeps a socket open on the account's current key, and puts its events into the outbox.

    The stream accounts for all events from `since` on, by default from now on. `key` is the key as last read
    from the table, None before the first read. `line` is the current socket, None while there is none. Ring
    `look` to have the table read at once.
    """

    def __init__(
        self, account: str, keys: ListenKeys, clock: Clock, since: datetime | None, ask: bool
    ) -> None:
        self.key: ListenKey | None = None
        self.line: Line | None = None
        self.look = Bell(clock)
        self.outbox = Outbox(
            lambda: self._from_taker(self._caught_up), lambda: self._from_taker(self._resume)
        )
        self._open = Bell(clock)
        self._account, self._keys, self._clock = account, keys, clock
        self._start_is_ours = since is None
        self._last: Line | None = None  # `line`, or the last one that it was
        self._lines: set[Line] = set()
        self._missing = Missing(since or clock.now())
        self._seen = Seen()
        self._has_read = False
        self._dead: tuple[str, datetime] | None = None  # the URL whose key Binance called expired, and when
        self._hour: Timer | None = None
        self._failures = 0  # sockets in a row that could not be opened, or that closed within PROVEN_SECONDS
        self._open_at = float("-inf")
        self._ask = ask
        self._asked: tuple[str, bool] | None = None
        self._ask_at = self._soon_until = float("-inf")
        self._ask_every = ASK_AGAIN_SECONDS
        self._paused: Timer | None = None
        self._impatient = False
        self._said: dict[str, float] = {}
        self._record: tuple[str | None, str | None] = (None, None)
        self._events = self._opened = 0

    def now(self) -> datetime:
        """Return the time of this machine's clock, corrected by its offset from DynamoDB's. Aware UTC."""
        return self._clock.now() + self._keys.clock_offset

    @property
    def state(self) -> State:
        """The current state."""
        why, since = self._missing.why, self._missing.since
        if since is None and self.key and self.now() >= self.key.expires_at:
            why, since = self._not_renewed(self.key), self.key.expires_at  # the timer fires in a moment
        deaf = since is not None
        return State(
            listening=not deaf,
            why=why if deaf else None,
            since=since,
            expires_at=self.key.expires_at if self.key else None,
            outcome=self._record[0],
            error_code=self._record[1],
            events=self._events,
            reconnects=max(0, self._opened - 1),
        )

    async def run(self) -> None:
        """Read the table and keep a socket open until cancelled, then close all sockets.

        Raises, in an ExceptionGroup, ListenKeyUnavailable if the table has never been read and retrying does
        not help, and any other exception of a read before the first that succeeds.
        """
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._keep_looking())
                self._tasks.create_task(self._keep_open())
        finally:
            self.line = None
            self._missing.begin(self.now(), "closed")
            for timer in (self._hour, self._paused):
                if timer:
                    timer.cancel()
            if self._lines:
                await asyncio.wait([asyncio.ensure_future(line.close()) for line in self._lines])

    # The table

    async def _keep_looking(self) -> None:
        while True:
            self._ask_for_another()  # before the read, which may hang
            await self._look()
            self._judge()
            self._open.ring()
            self._ask_for_another()
            await self.look.wait(self._pause())

    def _pause(self) -> float:
        if self._missing.since is None and not self._is_in_doubt():
            return LOOK_SECONDS * _about(1, 0.1)
        if self._clock.monotonic() < self._soon_until:
            return SOON_SECONDS
        return RETRY_SECONDS * _about(1, 0.2)

    async def _look(self) -> None:
        try:
            key = await THREADS.call(lambda: self._keys.read(self._account), self._missing.since is not None)
        except ListenKeyUnavailable as error:
            if not self._has_read and not error.retryable:
                raise
            read = error.code in ("NO_KEY", "INVALID_RECORD")
            self._has_read = self._has_read or read
            if read:
                self._record = error.outcome, error.error_code
            self._warn(str(error))
            if self.key is None:
                self._begin(self._missing.start, "no key" if read else "table unreadable")
        except Exception as error:
            if not self._has_read:
                raise
            self._warn(f"{self._account}: the table could not be read ({type(error).__name__})")
        else:
            self._take(key)

    def _take(self, key: ListenKey) -> None:
        if self._start_is_ours:
            self._missing.start += self._keys.clock_offset
            if self._missing.since is not None:
                self._missing.since += self._keys.clock_offset
            self._start_is_ours = False
        self._has_read = True
        self.key = key
        self._record = key.outcome, key.error_code
        if not self._last:
            return
        if self._last.key.url == key.url:
            self._last.key = key
            self._last.proof.extended(key.renewed_at)
        elif not self._is_dead(self._last.key):
            # It is not known when the old key died: at some time after it was last known to be alive.
            self._begin(self._last.proof.complete_until, "key changed")

    def _is_dead(self, key: ListenKey) -> bool:
        """Return whether Binance has said that a key is dead, and the keeper has not renewed it since."""
        return self._dead is not None and self._dead[0] == key.url and key.renewed_at <= self._dead[1]

    def _is_gone(self, key: ListenKey) -> bool:
        """Return whether no more events can come for a key: it is dead, unknown to Binance or expired."""
        forgotten = key.error_code == ErrorCode.LISTEN_KEY_NOT_FOUND
        return self._is_dead(key) or forgotten or self.now() >= key.expires_at

    def _is_in_doubt(self) -> bool:
        """Return whether the key may have died before its socket was open to receive listenKeyExpired."""
        line = self.line
        if not self._ask or line is None or not line.in_doubt:
            return False
        return line.proof.key_alive < line.opened_at + self._keys.clock_error

    @staticmethod
    def _not_renewed(key: ListenKey) -> Why:
        return "account rejected" if key.outcome == "REJECTED" else "key not renewed"

    def _judge(self) -> None:
        """Decide whether events arrive. If that has changed, tell the bot."""
        key = self.key
        if key is None:
            return
        now = self.now()
        if self._hour:
            self._hour.cancel()
            self._hour = None
        if not self._is_gone(key):
            left = (key.expires_at - now).total_seconds()
            self._hour = self._clock.call_later(left, self._hour_is_over)
            self._end(now)
        elif not self._is_dead(key):
            proven = self._last.proof.complete_until if self._last else self._missing.start
            self._begin(key.expires_at if now >= key.expires_at else proven, self._not_renewed(key))

    def _hour_is_over(self) -> None:
        self._judge()
        self.look.ring()

    def _ask_for_another(self) -> None:
        """Report the key to the keeper if it is dead, or if it may be.

        The keeper does not know that it is dead, or it would have recorded another. If the key is alive, the
        keeper extends it, which proves that.
        """
        key, now = self.key, self._clock.monotonic()
        gone = key is not None and self._is_gone(key)
        if not self._ask or key is None or not (gone or self._is_in_doubt()):
            self._asked = None
            return
        if (key.url, gone) != self._asked:
            self._asked, self._ask_at, self._ask_every = (key.url, gone), now, ASK_AGAIN_SECONDS
            if not gone:
                self._ask_at += max(0.0, OVERLOOKS_SECONDS - (self.now() - key.renewed_at).total_seconds())
        elif key.outcome == "REJECTED":  # the keeper has tried: a person must fix the account
            return
        if now < self._ask_at:
            return
        if self._ask_every == ASK_AGAIN_SECONDS:
            self._soon_until = now + SOON
        self._ask_at, self._ask_every = (
            now + self._ask_every,
            min(2 * self._ask_every, MOST_BETWEEN_QUESTIONS),
        )
        dead = self._is_dead(key)
        telling = THREADS.call(
            lambda: self._keys.report_expired(self._account, key.key, dead=dead), urgent=gone
        )
        telling.add_done_callback(lambda told: told.cancelled() or told.exception())

    # The sockets

    async def _keep_open(self) -> None:
        while True:
            seconds = self._time_to_open()
            if seconds is None or seconds > 0:
                await self._open.wait(seconds)
                continue
            try:
                await self._connect()
            except Exception as error:  # noqa: BLE001 - a bug must not end the task
                self._failed(f"cannot connect ({type(error).__name__})")

    def _time_to_open(self) -> float | None:
        """Return in how many seconds to open a socket, or None if there is no key to open one with."""
        key, line = self.key, self.line
        if key is None or self._is_dead(key):
            return None
        wait = self._open_at - self._clock.monotonic()
        if line and key.url == line.key.url:
            wait = max(wait, (line.renew_at - self.now()).total_seconds())
        return wait

    async def _connect(self) -> None:
        """Open a socket with the current key, then close the one before it."""
        if self.key is None:
            return
        gate = gate_of(urlsplit(self.key.url).netloc)
        urgency = Urgency.REPLACING
        if self.line is None or self.line.key.url != self.key.url:
            urgency = Urgency.DEAF_AFTER_FAILURES if self._failures else Urgency.DEAF
        await gate.turn(self._clock, urgency)
        seconds, key = self._time_to_open(), self.key
        if key is None or seconds is None or seconds > 0:
            return
        try:
            connection = await Connection.open(key.url, self._clock)
        except ConnectionFailed as error:
            if error.retry_after:
                gate.hold(self._clock, error.retry_after)
            self._failed(f"cannot connect ({error})")
            return
        before, line = self.line, Line(connection, key, self._clock, self)
        if self._last and self._last.key.url == key.url:
            line.proof.extended(self._last.proof.key_alive)
        self._opened += 1
        self._lines.add(line)
        line.in_doubt = self._last is not None and (before is None or before.key.url != key.url)
        self.line = self._last = line
        if line.in_doubt:
            self.look.ring()
        self._open_at = float("-inf")
        # While the socket was opened, the table may have been read, and Binance may have said on the other
        # socket that this key is dead.
        if self._is_dead(key):
            self._drop(line)
        else:
            self._judge()
        line.listen()
        if before:
            self._tasks.create_task(self._leave(before, line))

    def _failed(self, why: str) -> None:
        self._failures += 1
        self._back_off()
        self._warn(f"{self._account}: {why}")
        if self._opened == 0:
            self._begin(self._missing.start, "cannot connect")

    def _back_off(self) -> None:
        # Full jitter: many streams lose their sockets at the same moment.
        most = min(MOST_BACKOFF, 2.0 ** min(self._failures - 1, 10))
        self._open_at = self._clock.monotonic() + random.uniform(0, most)  # nosec B311 # noqa: S311 - not for secrets

    async def _leave(self, old: Line, new: Line) -> None:
        """Close the old socket after LINGER_SECONDS.

        If both have the same key, and the old socket is not known to have worked until the new one was open,
        events may be missing: open a gap.
        """
        await sleep(self._clock, LINGER_SECONDS)
        if old in self._lines:
            await old.ping()
        if old.key.url == new.key.url and old.proof.delivered < new.opened_at:
            new.in_doubt = True
            self.look.ring()
            listening = self._missing.since is None
            self._begin(old.proof.delivered, "connection lost")
            if listening:
                self._end(new.opened_at)
        await old.close()

    # The events of the sockets

    def heard(self, line: Line, event: Event, message: bytes) -> None:
        """Put an event into the outbox, unless it is a duplicate."""
        now = self.now()
        if at := event_time(event, now):
            line.proof.heard(at)
        if not self._seen.is_new(message, self._clock.monotonic()):
            return
        self._events += 1
        if not self.outbox.put(event, len(message)):
            self._begin(at or now, "read too slowly")
        elif len(self.outbox) >= HIGH and not self._paused and not self._impatient:
            for each in self._lines:
                each.pause()
            self._paused = self._clock.call_later(PATIENCE_SECONDS, self._lose_patience)

    def expired(self, line: Line, event: Event) -> None:
        """Handle listenKeyExpired: no socket with this key receives events any more."""
        last = self._last
        if last is None or last.key.url != line.key.url or self._is_dead(last.key):
            return
        if event.get("listenKey", line.key.key) != line.key.key:
            return
        at, alive = event_time(event, self.now()), last.proof.key_alive
        # The event may arrive late. After `expires_at`, only another event proves that the key was alive.
        died_at = max(alive, min(at, last.key.expires_at)) if at else alive
        # A renewal proves that the key lives only if it came later whatever the error between the clocks.
        self._dead = line.key.url, (at or self.now()) + self._keys.clock_error
        if self.line:
            self._drop(self.line)
        self._begin(died_at, "key expired")
        self.look.ring()

    def lost(self, line: Line) -> None:
        """Handle the end of a line's connection: reconnect if it was the current one."""
        self._lines.discard(line)
        if line is not self.line:
            return
        self.line = None
        long = self._clock.monotonic() - line.opened >= PROVEN_SECONDS
        self._failures = 0 if long else self._failures + 1
        if self._failures:
            self._back_off()
        self._begin(line.proof.delivered, "connection lost", line.ending)
        self.look.ring()
        self._open.ring()

    def _drop(self, line: Line) -> None:
        self.line = None
        line.abort()

    # What goes to the bot besides events

    def _begin(self, since: datetime, why: Why, more: str = "") -> None:
        if interrupted := self._missing.begin(since, why):
            self.outbox.tell(interrupted)
            more = f": {more}" if more else ""
            self._warn(f"{self._account}: events may be missing ({why}{more})", PROVEN_SECONDS)

    def _end(self, at: datetime) -> None:
        """End the gap and tell the bot, if a socket is open on the current key and the outbox has room."""
        key, line = self.key, self.line
        if key is None or line is None or line.key.url != key.url or self.outbox.full:
            return
        if gap := self._missing.end(at):
            self.outbox.tell(gap)
            log.info("%s: listening (%s)", self._account, key.product)

    def _warn(self, text: str, seconds: float = SAY_AGAIN_SECONDS) -> None:
        """Log a warning, unless the same text was logged less than `seconds` ago."""
        now = self._clock.monotonic()
        if now >= self._said.get(text, float("-inf")):
            self._said = {said: until for said, until in self._said.items() if until > now}
            self._said[text] = now + seconds
            log.warning("%s", text)

    # The bot reads slowly

    def _from_taker(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(callback)

    def _caught_up(self) -> None:
        """Accept events again: the bot has read everything after the outbox was full."""
        self.outbox.full = False
        self._judge()

    def _lose_patience(self) -> None:
        self._impatient = True
        self._resume()

    def _resume(self) -> None:
        if len(self.outbox) <= LOW:
            self._impatient = False
        if self._paused:
            self._paused.cancel()
            self._paused = None
            for line in self._lines:
                line.resume()


def _about(middle: float, spread: float) -> float:
    return middle + random.uniform(-spread, spread)  # nosec B311 # noqa: S311 - not for secrets
