"""Prints an account's orders of a symbol. After each gap, asks Binance for those that it may have missed.

Needs listenkey-keeper with its extra `stream`. examples/bot/README.md lists the environment variables.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

from listenkey_keeper import Gap, Interrupted, ListenKeyChanges, UserDataStream

try:
    ACCOUNT, SYMBOL, _ = (os.environ[name] for name in ("ACCOUNT", "SYMBOL", "LISTEN_KEYS_TABLE"))
    API_KEY, API_SECRET = os.environ["BINANCE_API_KEY"], os.environ["BINANCE_API_SECRET"]
except KeyError as missing:
    raise SystemExit(f"{missing.args[0]} is not set: see examples/bot/README.md") from None
BINANCE = os.environ.get("BINANCE_BASE_URL") or "https://fapi.binance.com"
STATE = Path(f"bot-{ACCOUNT}-{SYMBOL}.state")
WEEK, QUARTER = 7 * 86_400_000, 90 * 86_400_000  # ms: the longest span, and the oldest trades, of userTrades
OPEN = {"NEW", "PARTIALLY_FILLED"}
WRONG_TIME = -1021
RECONCILE_SECONDS = 120  # the time limit for all requests of one try
BEAT_SECONDS = 60  # between two calls of HEARTBEAT_URL
# Errors that may pass, so that trying again helps: HTTP statuses, and Binance's codes in an answer of 400.
PASSING = {403, 408, 418, 429, -1000, -1001, -1003, -1006, -1007, -1008, -1016}


class Refused(Exception):
    """Binance has answered with an error."""

    def __init__(self, status, headers, body):
        try:
            answer = json.loads(body)
            self.code, message = answer["code"], answer["msg"]
        except (ValueError, KeyError, TypeError):  # a page of HTML
            self.code, message = 0, "no JSON"
        self.status = status
        super().__init__(f"HTTP {status}, Binance's code {self.code}: {message}")
        self.passing = status >= 500 or bool({status, self.code} & PASSING)
        after = headers.get("Retry-After", "")
        self.retry_after = int(after) if after.isdigit() else 0  # seconds


class State:
    """What the bot needs after a restart: the time until which all is printed, and the orders that are open.

    Times are milliseconds of Binance's clock. An order is identified by its number, a stop or take-profit
    order by `algo-` and its number.
    """

    def __init__(self):
        self.heard, self.gaps = 0, []  # everything until `heard` is printed, except in the gaps
        self.orders = {}  # by number: the time of its last change, and its status
        try:
            kept = json.loads(STATE.read_text())
            self.heard = int(kept["printedUntil"])
            self.orders = dict.fromkeys(kept["open"], (0, "NEW"))
        except FileNotFoundError:
            pass
        except (ValueError, LookupError, TypeError) as error:
            logging.warning("%s is broken (%s): starting an hour before it was written", STATE, error)
            self.heard = int((STATE.stat().st_mtime - 3600) * 1000)

    def tell(self, number, at, status):
        """Print the status of an order, unless a later one has been printed."""
        if at < self.orders.get(number, (0, ""))[0]:
            return
        print(number, SYMBOL, status, flush=True)
        self.orders[number] = at, status

    def open_orders(self):
        return [number for number, (_, status) in self.orders.items() if status in OPEN]

    def save(self):
        until = min([self.heard, *(milliseconds(gap.since) for gap in self.gaps)])
        # Write another file and rename it: if the bot is killed while it writes, the old file stays intact.
        new = STATE.with_suffix(".new")
        new.write_text(json.dumps({"printedUntil": until, "open": self.open_orders()}))
        new.replace(STATE)


def numbered(order):
    """Return an order of the REST API in the form of State.orders: its number, and its time and status."""
    number = str(order["orderId"]) if "orderId" in order else f"algo-{order['algoId']}"
    return number, (order["updateTime"], order.get("status") or order["algoStatus"])


def milliseconds(moment):
    return int(moment.timestamp() * 1000)


class NoRedirect(HTTPRedirectHandler):
    """Follow no redirect, so that the API key is sent only to Binance."""

    def redirect_request(self, *_):
        return None


OPENER = build_opener(NoRedirect)


def ask(path, headers=None, **parameters):
    """Return Binance's answer, parsed as JSON.

    Raises Refused if the answer is an error, and OSError, HTTPException or ValueError if the network or the
    answer is broken.
    """
    url = f"{BINANCE}/fapi/v1/{path}?{urlencode(parameters)}"
    try:
        with OPENER.open(Request(url, headers=headers or {}), timeout=10) as answer:
            return json.load(answer)
    except HTTPError as error:
        raise Refused(error.code, error.headers, error.read()) from None


class Account:
    """Sends the signed requests of one reconciliation. `now` is Binance's time in milliseconds."""

    def __init__(self):
        self.now = ask("time")["serverTime"]
        self._ahead = self.now - int(time.time() * 1000)

    def ask(self, path, **parameters):
        # The largest window that Binance allows. If it still answers -1021, trying again does not help.
        parameters |= {"symbol": SYMBOL, "recvWindow": 60_000}
        parameters |= {"timestamp": int(time.time() * 1000) + self._ahead}
        signature = hmac.new(API_SECRET.encode(), urlencode(parameters).encode(), hashlib.sha256).hexdigest()
        return ask(path, {"X-MBX-APIKEY": API_KEY}, **parameters, signature=signature)

    def trades(self, since):
        """Yield the trades since a time in milliseconds, but at most the last 90 days."""
        since = max(since, self.now - QUARTER)
        while since < self.now:
            until = min(since + WEEK, self.now)
            page = self.ask("userTrades", startTime=since, endTime=until, limit=1000)
            yield from page
            while len(page) == 1000:
                page = self.ask("userTrades", fromId=page[-1]["id"] + 1, limit=1000)
                yield from page
            since = until + 1

    def orders(self, since, known):
        """Return the orders that may have changed since a time in milliseconds, and the `known` open ones.

        The result has the form of State.orders. It does not use the startTime of allOrders: Binance does not
        say whether that finds an order that was placed before it and filled after it.
        """
        found = {}
        for path in ("allOrders", "openOrders", "allAlgoOrders", "openAlgoOrders"):
            found |= dict(numbered(order) for order in self.ask(path))
        for number in {*known, *(str(trade["orderId"]) for trade in self.trades(since))} - found.keys():
            algo = number.removeprefix("algo-")
            path, parameter = (
                ("order", {"orderId": number}) if algo == number else ("algoOrder", {"algoId": algo})
            )
            try:
                found |= dict([numbered(self.ask(path, **parameter))])
            except Refused as error:
                if error.status != 400 or error.passing or error.code == WRONG_TIME:
                    raise
                # -2013: three days after it was placed, Binance forgets an order that was never filled.
                found[number] = self.now, f"FORGOTTEN ({error.code})"
        return found


def look_up(since, known):
    """Return the result of `Account.orders`, and Binance's time before it."""
    account = Account()
    return account.orders(since, known), account.now


async def patiently(since, known):
    """Return the result of `look_up`, and try again until Binance answers.

    Raises Refused if trying again does not help.
    """
    pause = 1
    while True:
        try:
            return await asyncio.wait_for(asyncio.to_thread(look_up, since, known), RECONCILE_SECONDS)
        except Refused as error:
            if not error.passing:
                raise
            why, wait = str(error), max(error.retry_after, pause)
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            # The network is down, or the answer was cut off.
            why, wait = f"{type(error).__name__}: {error}", pause
        logging.warning("cannot reconcile yet, next try in %d s: %s", wait, why)
        await asyncio.sleep(wait)
        pause = min(2 * pause, 60)


async def reconcile(state, arrived):
    """Print what happened in the gaps, in a task beside the stream. Raises Refused if a person must act."""
    while True:
        await arrived.wait()
        arrived.clear()
        gaps = list(state.gaps)
        since = min(milliseconds(gap.since) for gap in gaps)
        orders, now = await patiently(since, state.open_orders())
        for number, (at, status) in sorted(orders.items(), key=lambda order: order[1]):
            if at >= since or status != state.orders.get(number, (at, status))[1]:
                state.tell(number, at, status)
        state.gaps = state.gaps[len(gaps) :]
        state.heard = max(state.heard, now)
        state.orders = {number: state.orders[number] for number in state.open_orders()}
        state.save()


async def beat(stream):
    """Call HEARTBEAT_URL, which is secret, once a minute while events arrive, in a task beside the stream."""
    why = None  # the last call failed
    while url := os.environ.get("HEARTBEAT_URL"):
        await asyncio.sleep(BEAT_SECONDS)
        if not stream.state.listening:
            continue
        before, why = why, None
        try:
            await asyncio.to_thread(lambda url: OPENER.open(url, timeout=10).close(), url)
        except Exception as error:
            why = getattr(error, "code", None) or getattr(error, "reason", type(error).__name__)
            if not before:
                logging.warning("the call of HEARTBEAT_URL failed (%s)", why)


async def main():
    state, arrived = State(), asyncio.Event()
    since = datetime.fromtimestamp(state.heard / 1000, UTC) if state.heard else None
    queue = os.environ.get("QUEUE_URL")  # without one, the stream notices a new key within a minute
    changes = ListenKeyChanges(queue) if queue else None
    async with UserDataStream(ACCOUNT, since=since, changes=changes) as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(reconcile(state, arrived))
        tasks.create_task(beat(stream))
        async for item in stream:
            if isinstance(item, Interrupted):
                pass  # the stream has logged why. A trading bot would stop, or hedge by REST, until the Gap.
            elif isinstance(item, Gap):
                print(f"{ACCOUNT}: listening", flush=True)
                state.gaps.append(item)
                arrived.set()
            elif item["e"] in ("ORDER_TRADE_UPDATE", "ALGO_UPDATE") and item["o"]["s"] == SYMBOL:
                order = item["o"]
                number = str(order["i"]) if "i" in order else f"algo-{order['aid']}"
                state.tell(number, item["T"], order["X"])
                state.heard = item["E"]
                state.save()


if __name__ == "__main__":
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(main())
    except* Refused as refused:
        # The bot does not know its orders until a person has fixed this. The state file still has the gap.
        ended = f"cannot reconcile: {refused.exceptions[0]}"
    else:
        ended = None
    raise SystemExit(ended)
