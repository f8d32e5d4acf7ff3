"""python-binance receives the orders of an account whose listenKey the keeper keeps.

Needs listenkey-keeper and python-binance, and the table's name in LISTEN_KEYS_TABLE.
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

from binance import AsyncClient, BinanceSocketManager
from binance.ws.keepalive_websocket import KeepAliveWebsocket

from listenkey_keeper import ListenKeys, ListenKeyUnavailable

ACCOUNT = os.environ.get("ACCOUNT", "alice")
LOOK_SECONDS = 60  # between two looks at the table
DEAD_SECONDS = 2  # the same while the key is dead
WARN_SECONDS = 60  # between two warnings that the keeper has not renewed the key
REPORT_SECONDS = 35  # between two reports: the keeper ignores one within 30 s of its last attempt
REPORTS = 2  # once a socket is open: the keeper ignores the first if it has just tried
CALL_SECONDS = 5  # for an answer of AWS, or of HEARTBEAT_URL
PING = {"ping_interval": 10, "ping_timeout": 10}  # a network that is dead is noticed after 20 s
MOST_SECONDS = 60  # between two tries to connect
EVENTS = "&events=ORDER_TRADE_UPDATE/ALGO_UPDATE/ACCOUNT_UPDATE/listenKeyExpired"
THREADS = ThreadPoolExecutor(2)  # of its own: a table that hangs holds up nothing else

KeepAliveWebsocket.TIMEOUT = 1  # so soon it acts on another key; 10 s by default
quiet_until = 0.0
expires_at = datetime.max.replace(tzinfo=UTC)  # of the listenKey, as last read
beats = True  # the last call of HEARTBEAT_URL succeeded
behind = False  # your own code sets it while it has not reconciled: HEARTBEAT_URL is not called then


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


class KeptClient(AsyncClient):
    """Takes the listenKey from the table, and sends nothing that starts, extends or ends one."""

    known = dead = socket = reporting = None
    reports_left = 0
    is_open = hears = False  # a socket with the known key is open; orders arrive

    async def look(self):
        """Return the listenKey; the one that is known when the table does not answer."""
        try:
            found = await call(read_key)
            if found != self.known:  # it reconnects
                if self.is_open:
                    logging.warning("%s: the listenKey has changed", ACCOUNT)
                self.known, self.is_open = found, False
        except Exception as error:
            if not self.known:
                raise
            logging.warning("%s: the table cannot be read (%s)", ACCOUNT, text_of(error))
        self.judge()
        if self.hears and not behind:
            threading.Thread(target=beat, daemon=True).start()
        return self.known

    def judge(self, opened=False):
        """Call `listening` when orders arrive (for each socket that opens), `deaf` when they no longer do."""
        hears = self.is_open and not is_past()
        if hears != self.hears or (hears and opened):
            self.hears = hears
            hand(listening if hears else deaf)

    def opened(self):
        self.is_open = self.known in self.socket.ws.request.path
        self.judge(opened=True)
        self.doubt()

    def lost(self):
        self.is_open = False
        self.judge()

    def doubt(self):
        """The key is dead, or may have died while no socket was open: Binance does not say so later."""
        self.reports_left = REPORTS
        if not self.reporting or self.reporting.done():
            self.reporting = asyncio.create_task(self.report())

    async def report(self):
        """Tell the keeper that the key is dead, until the table has another; or twice that it may be."""
        while self.known == self.dead or self.reports_left > 0:
            self.reports_left -= 1
            try:
                tell = functools.partial(
                    keys().report_expired, ACCOUNT, self.known, dead=self.known == self.dead
                )
                await call(tell)  # logs what AWS refuses
            except Exception as error:
                logging.warning("%s: the keeper cannot be told (%s)", ACCOUNT, text_of(error))
            await asyncio.sleep(REPORT_SECONDS)
            if self.known == self.dead:
                logging.warning("%s: the listenKey has expired: no orders arrive", ACCOUNT)

    async def futures_stream_get_listen_key(self):
        # python-binance puts it at the end of its URL, so the events can follow it.
        return await self.look() + EVENTS

    async def futures_stream_keepalive(self, listenKey):  # noqa: N803
        # A key that changes while a socket opens: python-binance keeps the socket with the old one.
        if self.socket.ws and listenKey not in self.socket.ws.request.path:
            await self.socket.ws.close()

    async def futures_stream_close(self, listenKey):  # noqa: N803
        pass


def heard(event):
    """Handle an event. Your own code takes the place of this."""
    if event["e"] in ("ORDER_TRADE_UPDATE", "ALGO_UPDATE"):
        order = event["o"]
        print(order.get("i") or order["aid"], order["s"], order["X"], flush=True)


def listening():
    """Orders arrive. Your own code takes the place of this, prints the line and starts to reconcile."""
    print(f"{ACCOUNT}: listening", flush=True)


def deaf():
    """No orders arrive until the next `listening`. Your own code takes the place of this: stop quoting."""
    print(f"{ACCOUNT}: deaf", flush=True)


def hand(to, *event):
    """Call the bot's own code: a mistake in it must not close the socket."""
    try:
        to(*event)
    except Exception:
        logging.exception("%s: the bot's own code failed", ACCOUNT)


async def listen(client):
    """Hear events until the listenKey has expired."""
    # It asks for the listenKey every `user_timeout` seconds, and reconnects when it has changed.
    manager = BinanceSocketManager(client, user_timeout=LOOK_SECONDS)
    manager.ws_kwargs = PING
    client.socket = manager.futures_user_socket()
    after_connect, before_reconnect = client.socket._after_connect, client.socket.before_reconnect

    async def connected():
        await after_connect()
        client.opened()

    async def reconnecting():
        client.lost()
        await before_reconnect()

    client.socket._after_connect, client.socket.before_reconnect = connected, reconnecting
    async with client.socket as socket:
        try:
            while True:
                event = await socket.recv()
                if event["e"] == "error":
                    logging.warning("%s: %s", ACCOUNT, event["type"])  # it reconnects
                elif event["e"] != "listenKeyExpired":
                    hand(heard, event)
                elif event["listenKey"] == client.known:
                    logging.warning("%s: the listenKey has expired: no orders arrive", ACCOUNT)
                    return
        finally:
            client.lost()


async def main():
    KeptClient.known = KeptClient.known or await first_key()
    try:  # `create` pings
        client = await KeptClient.create()
    except Exception as error:
        sys.exit(f"api.binance.com does not answer: {text_of(error)}")
    failures = 0
    try:
        while True:
            try:
                await listen(client)
                failures, client.dead = 0, client.known
                client.doubt()
                while await client.look() == client.dead:
                    await asyncio.sleep(DEAD_SECONDS)
            except Exception as error:
                logging.warning("%s: %s", ACCOUNT, text_of(error))
                failures = min(failures + 1, 6)
                refused = getattr(error, "response", None)  # of a handshake
                after = refused.headers.get("Retry-After", "") if refused else ""
                wait = int(after) if after.isdigit() else 0
                await asyncio.sleep(max(wait, min(2**failures, MOST_SECONDS)))
    finally:
        await client.close_connection()


def receive():
    """Run `main`, in a thread of a bot without asyncio. It ends the bot: systemd starts that again."""
    try:
        asyncio.run(main())
    except SystemExit as error:
        logging.error("%s: no more orders: %s", ACCOUNT, error)
    except BaseException:
        logging.exception("%s: no more orders", ACCOUNT)
    os._exit(1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
