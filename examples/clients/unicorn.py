"""unicorn-binance-websocket-api receives the orders of an account whose listenKey the keeper keeps.

Needs listenkey-keeper and unicorn-binance-websocket-api, and the table's name in LISTEN_KEYS_TABLE.
"""

import contextlib
import functools
import json
import logging
import os
import re
import sys
import threading
import time
from datetime import UTC, datetime
from urllib.request import urlopen

from unicorn_binance_websocket_api import BinanceWebSocketApiManager

from listenkey_keeper import ListenKeys, ListenKeyUnavailable

ACCOUNT = os.environ.get("ACCOUNT", "alice")
LOOK_SECONDS = 60  # between two looks at the table
DEAD_SECONDS = 2  # the same while the key is dead
WARN_SECONDS = 60  # between two warnings that the keeper has not renewed the key
REPORT_SECONDS = 35  # between two reports: the keeper ignores one within 30 s of its last attempt
REPORTS = 2  # once a socket is open: the keeper ignores the first if it has just tried
CALL_SECONDS = 5  # for an answer of HEARTBEAT_URL
SILENT_SECONDS = 30  # a stream's thread shows once a second that it lives
MOST_SECONDS = 60  # between two streams, when one after the other fails
# The client's own list has ALGO_ORDER_UPDATE where Binance documents ALGO_UPDATE.
EVENTS = ("ORDER_TRADE_UPDATE", "ALGO_UPDATE", "ACCOUNT_UPDATE", "listenKeyExpired")
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


def text_of(error):
    """Return what an error says, in a line. Its text may hold a URL with a key or a signature: not these."""
    text = re.sub(r"\w{40,}", "...", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:300]


def first_key():
    """Return the table's listenKey, or LISTEN_KEY if AWS does not answer. Without either end the program."""
    try:
        return read_key()
    except (ValueError, ListenKeyUnavailable) as error:
        if not (key := os.environ.get("LISTEN_KEY")):
            sys.exit(str(error))
        logging.warning("%s: LISTEN_KEY is used (%s)", ACCOUNT, text_of(error))
        return key


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


class Kept(threading.Thread):
    """The listenKey as it was last read from the table, in a thread: a table that hangs holds up nothing."""

    def __init__(self, key):
        super().__init__(daemon=True)
        self.key, self.dead = key, threading.Event()  # Binance has said that the key has expired
        # It has, or it may have died while no socket was open: Binance does not say so later.
        self.doubted = threading.Event()
        self.manager = self.label = None  # the label of the newest stream
        self.is_open = self.hears = False  # this stream; orders arrive
        self.lock = threading.Lock()
        threading.Thread(target=self.report, daemon=True).start()

    def run(self):
        while True:
            self.dead.wait(LOOK_SECONDS)
            try:
                found = read_key()
                if found != self.key:
                    if self.hears:
                        logging.warning("%s: the listenKey has changed", ACCOUNT)
                    self.label, self.is_open = None, False  # it has the key before it
                    self.key = found
                    self.dead.clear()
            except Exception as error:
                logging.warning("%s: the table cannot be read (%s)", ACCOUNT, text_of(error))
            self.judge()
            if self.hears:
                threading.Thread(target=beat, daemon=True).start()
            if self.dead.is_set():
                time.sleep(DEAD_SECONDS)

    def report(self):
        """Tell the keeper that the key is dead, until the table has another; or twice that it may be."""
        while True:
            self.doubted.wait()
            self.doubted.clear()
            reports_left = REPORTS
            while self.dead.is_set() or reports_left > 0:
                reports_left -= 1
                try:
                    keys().report_expired(ACCOUNT, self.key, dead=self.dead.is_set())  # logs what AWS refuses
                except Exception as error:
                    logging.warning("%s: the keeper cannot be told (%s)", ACCOUNT, text_of(error))
                time.sleep(REPORT_SECONDS)
                if self.dead.is_set():
                    logging.warning("%s: the listenKey has expired: no orders arrive", ACCOUNT)

    def hear(self, message):
        event = json.loads(message)
        if event.get("e") in ("ORDER_TRADE_UPDATE", "ALGO_UPDATE"):
            order = event["o"]
            print(order.get("i") or order["aid"], order["s"], order["X"], flush=True)
        elif event.get("e") == "listenKeyExpired":
            self.expire(event["listenKey"])

    def notice(self, signal_type, stream_id, **_):
        """The manager calls it from a stream's thread."""
        if self.manager.get_stream_label(stream_id) != self.label:
            return  # it was replaced
        if signal_type == "CONNECT":
            self.is_open = True
            self.judge(opened=True)
            self.doubted.set()
        elif signal_type != "FIRST_RECEIVED_DATA":  # DISCONNECT, STOP, STREAM_UNREPAIRABLE
            self.lost()

    def lost(self):
        if self.hears:
            logging.warning("%s: the socket is lost", ACCOUNT)
        self.is_open = False
        self.judge()

    def judge(self, opened=False):
        """Say when orders arrive, for each socket that opens, and when they no longer do."""
        with self.lock:
            hears = self.is_open and not self.dead.is_set() and not is_past()
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

    def expire(self, key):
        """Binance has said that this key has expired."""
        if key == self.key and not self.dead.is_set():
            self.dead.set()
            logging.warning("%s: the listenKey has expired: no orders arrive", ACCOUNT)
            self.judge()
            self.doubted.set()


def main():
    kept = Kept(first_key())
    # It pings every 5 seconds, with 10 for the answer, and opens a lost socket again by itself.
    manager = BinanceWebSocketApiManager(exchange="binance.com-futures", process_stream_signals=kept.notice)
    kept.manager = manager
    kept.start()
    known, stream, streams, failures = None, None, 0, 0
    try:
        while True:
            info = manager.get_stream_info(stream) if stream else {"status": "none yet"}
            status = info["status"].partition(" ")[0]
            # One handshake that is answered with 429, and it gives a stream up: "crashed".
            over = status in ("crashed", "stopped")
            over = over or (info.get("seconds_to_last_heartbeat") or 0) > SILENT_SECONDS
            if over:
                logging.warning("%s: the stream is over: %s", ACCOUNT, status)
                kept.lost()
                failures = min(failures + 1, 6)
                time.sleep(min(2**failures, MOST_SECONDS))
            elif status == "running":
                failures = 0
            if (over or kept.key != known) and not kept.dead.is_set():
                before, known, streams = stream, kept.key, streams + 1
                kept.label = str(streams)
                stream = manager.create_stream(
                    "arr", "!userData", listen_key=known, keep_listen_key_alive=False, events=EVENTS,
                    process_stream_data=kept.hear, stream_label=kept.label,
                )  # fmt: skip
                if before:
                    manager.stop_stream(before, delete_listen_key=False)
            time.sleep(1)
    finally:
        manager.stop_manager(delete_listen_key=False)  # True, its default, sends DELETE


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
