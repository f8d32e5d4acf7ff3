"""ccxt pro receives the orders of an account whose listenKey the keeper keeps.

Needs listenkey-keeper and ccxt, and the table's name in LISTEN_KEYS_TABLE.
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

import ccxt.pro

from listenkey_keeper import ListenKeys, ListenKeyUnavailable

ACCOUNT = os.environ.get("ACCOUNT", "alice")
LOOK_SECONDS = 60  # between two looks at the table
DEAD_SECONDS = 2  # the same while the key is dead
WARN_SECONDS = 60  # between two warnings that the keeper has not renewed the key
REPORT_SECONDS = 35  # between two reports: the keeper ignores one within 30 s of its last attempt
REPORTS = 2  # once a socket is open: the keeper ignores the first if it has just tried
CALL_SECONDS = 5  # for an answer of AWS, or of HEARTBEAT_URL
PING_MS = 5000  # a network that is dead is noticed after 20 s; ccxt's own 180,000 would take 9 minutes
EVENTS = "&events=ORDER_TRADE_UPDATE/ALGO_UPDATE/ACCOUNT_UPDATE/listenKeyExpired"
NEVER = 10**15  # ccxt starts and extends a listenKey of its own once this time, in ms, is past
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


class KeptBinance(ccxt.pro.binance):
    """ccxt with a listenKey that it is handed, and none of its own."""

    reports_left, reporting = 0, None
    socket, hears = None, False  # the account's socket while it is open; whether orders arrive
    behind = False  # your own code sets it while it has not reconciled: HEARTBEAT_URL is not called then

    def describe(self):
        none = {"listenKey": None, "lastAuthenticatedTime": NEVER}
        return self.deep_extend(super().describe(), {"options": {"linear": none, "future": none}})

    def get_private_ws_url(self, urlType, listenKey):  # noqa: N803
        if not listenKey:
            raise ccxt.AuthenticationError("no listenKey: call use(key) first")
        return super().get_private_ws_url(urlType, listenKey)

    def use(self, key):
        self.key, self.expired = key, asyncio.Event()
        # ccxt puts the listenKey at the end of its URL, so the events can follow it.
        kept = {"listenKey": key + EVENTS, "lastAuthenticatedTime": NEVER}
        # USDⓈ-M futures are "linear" in ccxt 4.5.90 and "future" in 4.5.84.
        self.options.update(linear=kept, future=kept)
        for url, client in list(self.clients.items()):
            if "listenKey=" in url:
                client.on_error(ccxt.NetworkError("the listenKey has changed"))  # watch_orders raises it

    def on_connected(self, client, message=None):
        super().on_connected(client, message)
        if f"listenKey={self.key}&" in client.url:  # not one that was opening when the key changed
            self.doubt()
            self.socket = client
            self.judge(opened=True)

    def on_error(self, client, error):
        super().on_error(client, error)
        self.lost(client)

    def on_close(self, client, error):
        super().on_close(client, error)
        self.lost(client)

    def lost(self, client):
        if client is self.socket:
            self.socket = None
            self.judge()

    def judge(self, opened=False):
        """Call `listening` when orders arrive (for each socket that opens), `deaf` when they no longer do."""
        hears = bool(self.socket) and not self.expired.is_set() and not is_past()
        if hears == self.hears and not (hears and opened):
            return
        self.hears = hears
        try:
            self.listening() if hears else self.deaf()
        except Exception:  # it must not close the socket
            logging.exception("%s: the bot's own code failed", ACCOUNT)

    def listening(self):
        """Orders arrive. Your own code extends this, with a task that reconciles by REST."""
        print(f"{ACCOUNT}: listening", flush=True)

    def deaf(self):
        """No orders arrive until the next `listening`. Your own code extends this, and stops quoting."""
        print(f"{ACCOUNT}: deaf", flush=True)

    def handle_message(self, client, message):
        if message.get("e") != "listenKeyExpired":  # ccxt has no use for it
            super().handle_message(client, message)
        elif message.get("listenKey") == self.key and not self.expired.is_set():
            self.expired.set()
            logging.warning("%s: the listenKey has expired: no orders arrive", ACCOUNT)
            self.judge()
            self.doubt()

    def doubt(self):
        """The key is dead, or may have died while no socket was open: Binance does not say so later."""
        self.reports_left = REPORTS
        if not self.reporting or self.reporting.done():
            self.reporting = asyncio.create_task(self.report())

    async def report(self):
        """Tell the keeper that the key is dead, until the table has another; or twice that it may be."""
        while self.expired.is_set() or self.reports_left > 0:
            self.reports_left -= 1
            try:
                tell = functools.partial(keys().report_expired, ACCOUNT, self.key, dead=self.expired.is_set())
                await call(tell)  # logs what AWS refuses
            except Exception as error:
                logging.warning("%s: the keeper cannot be told (%s)", ACCOUNT, text_of(error))
            await asyncio.sleep(REPORT_SECONDS)
            if self.expired.is_set():
                logging.warning("%s: the listenKey has expired: no orders arrive", ACCOUNT)

    async def follow(self):
        """Use the key that is in the table, for as long as the program runs."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.expired.wait(), LOOK_SECONDS)
            try:
                found = await call(read_key)
                if found != self.key:
                    self.use(found)
            except Exception as error:
                logging.warning("%s: the table cannot be read (%s)", ACCOUNT, text_of(error))
            self.judge()
            if self.hears and not self.behind:
                threading.Thread(target=beat, daemon=True).start()
            if self.expired.is_set():
                await asyncio.sleep(DEAD_SECONDS)


async def run(exchange):
    """Print the account's orders until the program ends. `exchange` is a KeptBinance, or made from one."""
    exchange.use(await first_key())
    following = asyncio.create_task(exchange.follow())
    try:
        while True:
            try:
                for order in await exchange.watch_orders():
                    print(order["id"], order["symbol"], order["status"], flush=True)
            except ccxt.NetworkError as error:
                logging.warning("%s: %s", ACCOUNT, text_of(error))
                await asyncio.sleep(5)
    finally:
        following.cancel()
        await exchange.close()


async def main():
    # Without an API key ccxt cannot ask for the positions.
    options = {"defaultType": "swap", "watchPositions": {"fetchPositionsSnapshot": False}}
    await run(KeptBinance({"options": options, "streaming": {"keepAlive": PING_MS}}))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
