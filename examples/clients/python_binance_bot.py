"""A bot with asyncio that reconciles each time that it listens again, and quotes only then.

Needs python_binance.py beside it, and what that needs; BINANCE_API_KEY and BINANCE_API_SECRET.
"""

import asyncio
import contextlib
import logging
import os
import time

import python_binance
from aiohttp import ClientError
from binance import AsyncClient
from binance.exceptions import BinanceAPIException, BinanceRequestException

SYMBOL = "BTCUSDT"
MOST, WEEK = 1000, 7 * 86_400_000  # trades in an answer, the oldest first, and the ms that one may cover
PAUSE, LONGEST_PAUSE = 5, 300  # seconds between two tries to reconcile: each is twice as long
PASS = (BinanceAPIException, BinanceRequestException, ClientError, OSError)  # errors that are no mistakes


class Bot:
    reconciling = None
    since = None  # ms: everything before is known. Until it is set, Binance returns its latest trades

    def __init__(self, client):
        self.client = client  # orders and market data can use it too

    def listening(self):
        print(f"{python_binance.ACCOUNT}: listening", flush=True)
        self.stop()
        self.reconciling = asyncio.create_task(self.reconcile())

    def deaf(self):
        print(f"{python_binance.ACCOUNT}: deaf", flush=True)
        self.stop()  # your own code also starts a task that cancels the quotes

    def stop(self):
        python_binance.behind = True  # place no orders now
        if self.reconciling:
            self.reconciling.cancel()

    async def reconcile(self):
        pause = PAUSE
        while True:
            asked = ""
            try:
                began = int(time.time() * 1000) - 10_000  # clocks differ
                orders = await self.client.futures_get_open_orders(symbol=SYMBOL)
                stops = await self.client.futures_get_open_algo_orders(symbol=SYMBOL)
                await self.catch_up(orders, stops, await self.trades_since(self.since))
                self.since, python_binance.behind = began, False
                return
            except Exception as error:
                mistake = not isinstance(error, PASS)  # of your own: with its traceback
                logging.warning("cannot reconcile: %s", python_binance.text_of(error), exc_info=mistake)
                if isinstance(error, BinanceAPIException):  # 429 and 418 say how long to wait
                    asked = error.response.headers.get("Retry-After", "")
            await asyncio.sleep(max(pause, int(asked) if asked.isdigit() else 0))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def trades_since(self, since):
        trades = []
        while True:
            page = await self.client.futures_account_trades(symbol=SYMBOL, startTime=since, limit=MOST)
            trades += page
            if len(page) == MOST:
                since = page[-1]["time"]
            elif since and since + WEEK < time.time() * 1000:
                since += WEEK
            else:
                return trades

    async def catch_up(self, orders, stops, trades):
        """Take in what was missed. Your own code takes the place of this.

        It gets what is open now, and the trades since the last time: also some that the bot knows already. It
        must ask `futures_get_order` for each order that the bot knew to be open and that is not in `orders`.
        """
        print("knows", len(orders), len(stops), len(trades), flush=True)


async def main():
    client = AsyncClient(os.environ["BINANCE_API_KEY"], os.environ["BINANCE_API_SECRET"])
    bot = Bot(client)
    # Set python_binance.heard too, to your own callback for events.
    python_binance.behind = True  # it knows nothing yet
    python_binance.listening, python_binance.deaf = bot.listening, bot.deaf
    try:
        await python_binance.main()
    finally:
        await client.close_connection()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
