"""ccxt as its users know it; examples/clients/stand_in.py runs this, and moves its URLs."""

import asyncio
import re
import sys
from typing import Any

import ccxt.async_support
import ccxt.pro
from ccxt_pro import KeptBinance
from talk import talk

[API_KEY] = sys.argv[1:]
SYMBOL = "BTC/USDT:USDT"


class Session:
    """One ccxt exchange, as `ccxt.pro.binance` makes it; `forget` has the next call begin with another."""

    _made: Any = None
    _secret: str | None = None

    def exchange(self) -> Any:
        if self._made is None:
            self._made = ccxt.pro.binance({"apiKey": API_KEY, "secret": self._secret})
        return self._made

    async def forget(self, secret: str | None = None) -> None:
        if self._made:
            await self._made.close()
        self._made, self._secret = None, secret

    async def call(self, method: str) -> Any:
        return await getattr(self.exchange(), method)()

    async def time(self) -> Any:
        return await self.exchange().fetch_time()

    async def load_markets(self) -> Any:
        return sorted(await self.exchange().load_markets())

    async def watch_orders(self, params: dict[str, Any]) -> Any:
        """Return the next orders that ccxt hears of, as unified orders."""
        orders = await self.exchange().watch_orders(params=params)
        return [{name: order[name] for name in ("id", "symbol", "status")} for order in orders]

    async def change_the_key(self, before: str, after: str) -> dict[str, str]:
        """Change the key of the recipe's class while a bot watches; return how the watches of before ended.

        Returns once an order has come with the new key.
        """
        exchange = KeptBinance({"apiKey": API_KEY, "secret": "any", "options": {"defaultType": "swap"}})
        exchange.use(before)
        await exchange.watch_positions()  # at first it returns what REST said
        watches = {
            "orders": exchange.watch_orders(),
            "balance": exchange.watch_balance(),
            "positions": exchange.watch_positions(),
            "trades": exchange.watch_trades(SYMBOL),
            "order book": exchange.watch_order_book(SYMBOL),
        }
        tasks = {name: asyncio.create_task(watch) for name, watch in watches.items()}
        while sum(len(each.futures) for each in exchange.clients.values() if each.isConnected) < len(tasks):
            await asyncio.sleep(0.01)
        sockets = exchange.clients.copy()
        exchange.use(after)
        await exchange.watch_orders()
        ends = {name: type(task.exception()).__name__ for name, task in tasks.items() if task.done()}
        for url, socket in sockets.items():
            assert ("listenKey=" in url) == socket.closed()
        for task in tasks.values():
            task.cancel()
        await exchange.close()
        return ends

    def hosts(self) -> list[str]:
        """Return the hosts in the URLs of every Binance class of ccxt, whatever it is made with."""
        made = [
            getattr(kind, name)(config)
            for kind in (ccxt, ccxt.async_support, ccxt.pro)
            for name in kind.exchanges
            if name.startswith("binance")
            for config in ({}, {"sandbox": True}, {"urls": {"api": {"public": "https://api1.binance.com"}}})
        ]
        return sorted({host for each in made for host in re.findall(r"://([^/']*)", str(each.urls))})


session = Session()
names = ("hosts", "forget", "call", "time", "load_markets", "watch_orders", "change_the_key")
talk({name: getattr(session, name) for name in names})
