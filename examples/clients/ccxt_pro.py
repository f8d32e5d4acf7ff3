"""ccxt pro hears the orders of an account whose listenKey the keeper keeps.

Needs listenkey-keeper and ccxt, and the table's name in LISTEN_KEYS_TABLE.
"""

import asyncio
import logging
import os

import ccxt.pro

from listenkey_keeper import ListenKeys, ListenKeyUnavailable

ACCOUNT = "alice"
LOOK_SECONDS = 60  # between two looks at the table
EVENTS = "&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/listenKeyExpired"
NEVER = 10**15  # ccxt starts and extends a listenKey of its own once this time, in ms, is past


def use(exchange, key):
    # ccxt puts the listenKey at the end of its URL, so the events can follow it.
    kept = {"listenKey": key + EVENTS, "lastAuthenticatedTime": NEVER}
    # USDⓈ-M futures are "linear" in ccxt 4.5.90 and "future" in 4.5.84.
    exchange.options.update(linear=kept, future=kept)
    for url, client in list(exchange.clients.items()):
        if "listenKey=" in url:
            client.on_error(ccxt.NetworkError("the listenKey has changed"))  # watch_orders raises it


async def follow(exchange, keys, key):
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            found = await asyncio.to_thread(keys.read, ACCOUNT)
        except ListenKeyUnavailable as error:
            logging.warning("%s", error)
            continue
        if found.key != key:
            key = found.key
            use(exchange, key)


async def main():
    keys = ListenKeys()
    key = keys.read(ACCOUNT).key
    exchange = ccxt.pro.binance(
        {
            "apiKey": os.environ.get("BINANCE_API_KEY"),
            "secret": os.environ.get("BINANCE_API_SECRET"),
            "options": {"defaultType": "swap"},
        }
    )
    use(exchange, key)
    following = asyncio.create_task(follow(exchange, keys, key))
    try:
        while True:
            try:
                # Every call after an error opens a new socket: reconcile by REST then.
                for order in await exchange.watch_orders():
                    print(order["id"], order["symbol"], order["status"], flush=True)
            except ccxt.NetworkError as error:
                logging.warning("%s", type(error).__name__)  # its text may hold the URL
                await asyncio.sleep(5)
    finally:
        following.cancel()
        await exchange.close()


if __name__ == "__main__":
    asyncio.run(main())
