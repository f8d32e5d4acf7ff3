"""Binance's SDK receives the orders of an account whose listenKey the keeper keeps.

Needs listenkey-keeper and binance-sdk-derivatives-trading-usds-futures, and the table's name in
LISTEN_KEYS_TABLE.
"""

import asyncio
import contextlib
import functools
import logging
import os
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.request import urlopen

from binance_common.configuration import ConfigurationWebSocketStreams
from binance_common.constants import DERIVATIVES_TRADING_USDS_FUTURES_WS_STREAMS_PROD_URL
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)
from binance_sdk_derivatives_trading_usds_futures.websocket_streams.models import (
    AlgoUpdate,
    ListenKeyExpired,
    OrderTradeUpdate,
)

from listenkey_keeper import ListenKeys, ListenKeyUnavailable

ACCOUNT = os.environ.get("ACCOUNT", "alice")
LOOK_SECONDS = 60  # between two looks at the table
DEAD_SECONDS = 2  # the same while the key is dead
WARN_SECONDS = 60  # between two warnings that the keeper has not renewed the key
REPORT_SECONDS = 35  # between two reports: the keeper ignores one within 30 s of its last attempt
REPORTS = 2  # once a socket is open: the keeper ignores the first if it has just tried
CALL_SECONDS = 5  # for an answer of AWS, or of HEARTBEAT_URL
OPEN_SECONDS = 10  # for a socket to open, and for one to close
PING_SECONDS = 10  # between two pings: the SDK sends none. The answer has as long
LINGER_SECONDS = 2  # for so long a replaced socket is still heard: an order may be told twice
MOST_SECONDS = 60  # between two tries to connect
THREADS = ThreadPoolExecutor(2)  # of its own: a table that hangs holds up nothing else
quiet_until = 0.0
expires_at = datetime.max.replace(tzinfo=UTC)  # of the listenKey, as last read
beats = True  # the last call of HEARTBEAT_URL succeeded


@functools.cache
def keys():
    """Return the table's reader. Raises ValueError without LISTEN_KEYS_TABLE or AWS_REGION."""
    return ListenKeys()


def read_key():
    """Return the listenKey from the table. Warns, once a minute at most, if it has expired there."""
    global quiet_until, expires_at
    found = keys().read(ACCOUNT)
    expires_at = found.expires_at
    if is_past() and time.monotonic() > quiet_until:
        quiet_until = time.monotonic() + WARN_SECONDS
        logging.warning(
            "%s: the listenKey expired at %s UTC and the keeper has not renewed it%s: no orders arrive",
            ACCOUNT,
            f"{found.expires_at:%Y-%m-%d %H:%M}",
            f" ({found.error_code})" if found.error_code else "",
        )
    return found.key


def is_past():
    """Return whether the listenKey is past its expiry, as the table last said it."""
    return expires_at < datetime.now(UTC)


async def call(function, *arguments):
    """Call a function of AWS in a thread. Raises TimeoutError when no answer comes."""
    calling = asyncio.get_running_loop().run_in_executor(THREADS, function, *arguments)
    return await asyncio.wait_for(calling, CALL_SECONDS)


async def first_key():
    """Return the table's listenKey, or LISTEN_KEY if AWS does not answer. Without either end the program."""
    try:
        return await call(read_key)
    except (ValueError, ListenKeyUnavailable, TimeoutError) as error:
        if not (key := os.environ.get("LISTEN_KEY")):
            sys.exit(str(error) or "AWS does not answer")
        logging.warning("%s: LISTEN_KEY is used (%s)", ACCOUNT, text_of(error))
        return key


def text_of(error):
    """Return what an error says, in a line. Its text may hold a URL with a key or a signature: not these."""
    text = re.sub(r"\w{40,}", "...", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:300]


def beat():
    """Call HEARTBEAT_URL, which is secret, if it is set: orders arrive. Run in a thread: it may hang."""
    global beats
    try:
        if url := os.environ.get("HEARTBEAT_URL"):
            urlopen(url, timeout=CALL_SECONDS).close()
        beats = True
    except Exception as error:
        why = getattr(error, "code", None) or getattr(error, "reason", type(error).__name__)
        if beats:
            logging.warning("%s: the call of HEARTBEAT_URL failed (%s)", ACCOUNT, why)
        beats = False


class Kept:
    """The listenKey as it was last read from the table. `dead`: Binance has said that it has expired."""

    def __init__(self, key):
        self.key, self.dead = key, asyncio.Event()
        self.reports_left, self.reporting = 0, None
        self.line, self.hears = None, False  # the newest socket; whether orders arrive

    async def follow(self):
        """Read the table, for as long as the program runs."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.dead.wait(), LOOK_SECONDS)
            try:
                found = await call(read_key)
                if found != self.key:
                    if self.hears:
                        logging.warning("%s: the listenKey has changed", ACCOUNT)
                    self.key = found
                    self.dead.clear()
            except Exception as error:
                logging.warning("%s: the table cannot be read (%s)", ACCOUNT, text_of(error))
            self.judge()
            if self.hears:
                threading.Thread(target=beat, daemon=True).start()
            if self.dead.is_set():
                await asyncio.sleep(DEAD_SECONDS)

    def expire(self, key):
        """Binance has said that this key has expired."""
        if key == self.key and not self.dead.is_set():
            self.dead.set()
            logging.warning("%s: the listenKey has expired: no orders arrive", ACCOUNT)
            self.judge()
            self.doubt()

    def opened(self, line):
        self.line = line
        self.judge(opened=True)
        self.doubt()

    def judge(self, opened=False):
        """Say when orders arrive, for each socket that opens, and when they no longer do."""
        line = self.line
        hears = bool(line) and not line.over and line.key == self.key
        hears = hears and not self.dead.is_set() and not is_past()
        if hears == self.hears and not (hears and opened):
            return
        self.hears = hears
        try:
            if hears:
                print(f"{ACCOUNT}: listening", flush=True)  # start to reconcile by REST here
            else:
                print(f"{ACCOUNT}: deaf", flush=True)  # stop quoting here
        except Exception:
            logging.exception("%s: your own code failed", ACCOUNT)

    def doubt(self):
        """The key is dead, or may have died while no socket was open: Binance does not say so later."""
        self.reports_left = REPORTS
        if not self.reporting or self.reporting.done():
            self.reporting = asyncio.create_task(self.report())

    async def report(self):
        """Tell the keeper that the key is dead, until the table has another; or twice that it may be."""
        while self.dead.is_set() or self.reports_left > 0:
            self.reports_left -= 1
            try:
                tell = functools.partial(keys().report_expired, ACCOUNT, self.key, dead=self.dead.is_set())
                await call(tell)  # logs what AWS refuses
            except Exception as error:
                logging.warning("%s: the keeper cannot be told (%s)", ACCOUNT, text_of(error))
            await asyncio.sleep(REPORT_SECONDS)
            if self.dead.is_set():
                logging.warning("%s: the listenKey has expired: no orders arrive", ACCOUNT)


class Line:
    """The SDK's private socket with one listenKey. `over`: nothing is heard on it any more."""

    def __init__(self, kept):
        self.key, self.over = kept.key, False
        self._kept, self._answered, self._pinging = kept, True, None
        configuration = ConfigurationWebSocketStreams(
            stream_url=DERIVATIVES_TRADING_USDS_FUTURES_WS_STREAMS_PROD_URL
        )
        self._streams = DerivativesTradingUsdsFutures(config_ws_streams=configuration).websocket_streams
        self._streams.url_paths = ["private"]  # the SDK would open two sockets for market data, too

    async def open(self):
        if not await self._streams.create_connection():
            raise ConnectionError  # the SDK raises nothing: it has logged why
        self._streams.on_connection("close", self._end)
        self._streams.on_connection("pong", self._answer)
        stream = await self._streams.user_data(self.key)
        stream.on("message", self._hear)
        self._pinging = asyncio.create_task(self._ping())

    async def close(self):
        if self._pinging:
            self._pinging.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._streams.close_connection(), OPEN_SECONDS)

    def _hear(self, event):
        if isinstance(event.actual_instance, OrderTradeUpdate | AlgoUpdate):
            order = event.actual_instance.to_dict()["o"]
            print(order.get("i") or order["aid"], order["s"], order["X"], flush=True)
        elif isinstance(event.actual_instance, ListenKeyExpired):
            self._kept.expire(self.key)

    def _end(self):
        if self is self._kept.line and self._kept.hears:
            logging.warning("%s: the socket is lost", ACCOUNT)
        self.over = True
        self._kept.judge()

    def _answer(self):
        self._answered = True

    async def _ping(self):
        while self._answered:
            self._answered = False
            for connection in self._streams.connections:
                await self._streams.ping_server(connection)
            await asyncio.sleep(PING_SECONDS)
        logging.warning("%s: no answer to a ping", ACCOUNT)
        self._end()


async def main():
    kept = Kept(await first_key())
    following = asyncio.create_task(kept.follow())  # asyncio forgets a task that nobody holds
    failures = 0
    while not following.done():
        await asyncio.sleep(min(2**failures, MOST_SECONDS))
        line = kept.line
        if kept.dead.is_set() or (line and not line.over and line.key == kept.key):
            continue
        opening = Line(kept)
        try:
            await asyncio.wait_for(opening.open(), OPEN_SECONDS)
            kept.opened(opening)
            failures = 0
        except Exception as error:
            logging.warning("%s: %s", ACCOUNT, text_of(error))
            line, failures = opening, min(failures + 1, 6)
        if line:
            await asyncio.sleep(LINGER_SECONDS)
            await line.close()
    following.result()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
