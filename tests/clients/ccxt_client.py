"""ccxt as its users know it; only the URLs are the stand-in's."""

import sys
from typing import Any

import ccxt.pro
from talk import talk

BASE, STREAM, API_KEY = sys.argv[1:]


def moved(url: Any) -> Any:
    """Return ccxt's table of URLs with another scheme and host, and the same paths."""
    if isinstance(url, dict):
        return {name: moved(inner) for name, inner in url.items()}
    scheme, _, rest = url.partition("://")
    _, _, path = rest.partition("/")
    return f"{STREAM if scheme == 'wss' else BASE}/{path}"


class Session:
    """One ccxt exchange, as `ccxt.pro.binance` makes it; `forget` has the next call begin with another."""

    _made: Any = None
    _secret: str | None = None

    def exchange(self) -> Any:
        if self._made is None:
            self._made = ccxt.pro.binance({"apiKey": API_KEY, "secret": self._secret})
            self._made.urls["api"] = moved(self._made.urls["api"])
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


session = Session()
talk({name: getattr(session, name) for name in ("forget", "call", "time", "load_markets", "watch_orders")})
