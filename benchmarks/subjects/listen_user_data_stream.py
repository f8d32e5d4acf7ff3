"""UserDataStream, with one ListenKeys for all."""

from collections.abc import AsyncIterator

from benchmarks.subjects.listen import main
from listenkey_keeper import ListenKeys, UserDataStream

KEYS = ListenKeys()


async def orders(number: int) -> AsyncIterator[int]:
    async with UserDataStream(f"bench{number}", KEYS) as stream:
        async for item in stream:
            if isinstance(item, dict) and item["e"] == "ORDER_TRADE_UPDATE":
                yield item["o"]["i"]


main(orders)
