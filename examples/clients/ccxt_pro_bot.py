"""A bot that reconciles each time that it listens again, and quotes only then.

Needs ccxt_pro.py beside it, and what that needs; BINANCE_API_KEY and BINANCE_API_SECRET.
"""

import asyncio
import contextlib
import logging
import os

import ccxt.pro
from ccxt_pro import PING_MS, KeptBinance, run, text_of

SYMBOL = "BTC/USDT:USDT"
MOST, WEEK = 1000, 7 * 86_400_000  # trades in an answer, the oldest first, and the ms that one may cover
PAUSE, LONGEST_PAUSE = 5, 300  # seconds between two tries to reconcile: each is twice as long


class Bot(KeptBinance):
    behind, reconciling = True, None  # it knows nothing yet
    since = None  # ms: everything before is known. Until it is set, Binance returns its latest trades

    def listening(self):
        super().listening()  # prints the line
        self.stop()
        self.reconciling = asyncio.create_task(self.reconcile())

    def deaf(self):
        super().deaf()
        self.stop()  # your own code also starts a task that cancels the quotes

    def stop(self):
        self.behind = True  # place no orders now
        if self.reconciling:
            self.reconciling.cancel()

    async def reconcile(self):
        pause = PAUSE
        while True:
            try:
                began = self.milliseconds() - 10_000  # clocks differ
                orders = await self.fetch_open_orders(SYMBOL)
                orders += await self.fetch_open_orders(SYMBOL, params={"trigger": True})  # stop orders
                await self.catch_up(orders, await self.trades_since(self.since))
                self.since, self.behind = began, False
                return
            except Exception as error:
                mistake = not isinstance(error, ccxt.BaseError)  # of your own: with its traceback
                logging.warning("cannot reconcile: %s", text_of(error), exc_info=mistake)
            asked = str((self.last_response_headers or {}).get("Retry-After"))  # of 429 and 418
            await asyncio.sleep(max(pause, int(asked) if asked.isdigit() else 0))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def trades_since(self, since):
        trades = []
        while True:
            page = await self.fetch_my_trades(SYMBOL, since, MOST)
            trades += page
            if len(page) == MOST:
                since = page[-1]["timestamp"]
            elif since and since + WEEK < self.milliseconds():
                since += WEEK
            else:
                return trades

    async def catch_up(self, orders, trades):
        """Take in what was missed. Your own code takes the place of this.

        It gets what is open now, and the trades since the last time: also some that the bot knows already. It
        must ask `fetch_order` for each order that the bot knew to be open and that is not in `orders`.
        """
        print("knows", len(orders), len(trades), flush=True)


async def main():
    settings = {"apiKey": os.environ["BINANCE_API_KEY"], "secret": os.environ["BINANCE_API_SECRET"]}
    settings |= {"options": {"defaultType": "swap"}, "streaming": {"keepAlive": PING_MS}}
    await run(Bot(settings))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
