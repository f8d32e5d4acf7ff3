"""ccxt pro as its manual has it; only the URLs are the stand-in's."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ccxt.pro

from benchmarks.subjects.listen import REST, STREAMS, api_key, main


def moved(url: Any) -> Any:
    """Return ccxt's table of URLs with the stand-in's scheme and host."""
    if isinstance(url, dict):
        return {name: moved(inner) for name, inner in url.items()}
    scheme, _, rest = url.partition("://")
    return f"{STREAMS if scheme == 'wss' else REST}/{rest.partition('/')[2]}"


async def orders(number: int) -> AsyncIterator[int]:
    exchange = ccxt.pro.binance({"apiKey": api_key(number), "options": {"defaultType": "swap"}})
    exchange.urls["api"] = moved(exchange.urls["api"])
    while True:
        try:
            for order in await exchange.watch_orders():
                yield int(order["id"])
        except ccxt.NetworkError:
            await asyncio.sleep(1)


main(orders)
