"""Prints an account's orders, and after each gap asks Binance for what may have been missed in it.

Needs listenkey-keeper with its extra `stream`. README.md says what has to be in the environment.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from listenkey_keeper import Gap, ListenKeyChanges, UserDataStream

ACCOUNT, SYMBOL = os.environ["ACCOUNT"], os.environ["SYMBOL"]
API_KEY, API_SECRET = os.environ["BINANCE_API_KEY"], os.environ["BINANCE_API_SECRET"]
BINANCE = os.environ.get("BINANCE_BASE_URL") or "https://fapi.binance.com"
HANDLED = Path("bot.state")  # until when (epoch s) all is printed: where a restart goes on


def latest_orders():
    # Not by startTime: that is when an order was placed, and it may have been filled in the gap.
    query = urlencode({"symbol": SYMBOL, "limit": 1000, "timestamp": int(time.time() * 1000)})
    signature = hmac.new(API_SECRET.encode(), query.encode(), hashlib.sha256).hexdigest()
    url = f"{BINANCE}/fapi/v1/allOrders?{query}&signature={signature}"
    with urlopen(Request(url, headers={"X-MBX-APIKEY": API_KEY}), timeout=10) as answer:
        return json.load(answer)


async def reconcile(gap):
    while True:
        asked = time.time()
        try:
            orders = await asyncio.to_thread(latest_orders)
            break
        except OSError as error:  # Binance may still be away
            logging.warning("cannot reconcile yet: %s", error)
            await asyncio.sleep(5)
    for order in orders:
        if order["updateTime"] >= gap.since.timestamp() * 1000:
            print(order["orderId"], order["symbol"], order["status"], flush=True)
    HANDLED.write_text(str(asked))


async def main():
    since = datetime.fromtimestamp(float(HANDLED.read_text()), UTC) if HANDLED.exists() else None
    queue = os.environ.get("QUEUE_URL")  # without one a new key is noticed within a minute
    changes = ListenKeyChanges(queue) if queue else None
    async with UserDataStream(ACCOUNT, since=since, changes=changes) as stream:
        async for item in stream:
            if isinstance(item, Gap):
                await reconcile(item)
            elif item["e"] == "ORDER_TRADE_UPDATE":
                order = item["o"]
                print(order["i"], order["s"], order["X"], flush=True)
                HANDLED.write_text(str(item["E"] / 1000))


if __name__ == "__main__":
    asyncio.run(main())
