"""A websocket as `websockets.connect` gives it, which opens a lost one again; nothing for the listenKey."""

import asyncio
import json
from collections.abc import AsyncIterator

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from benchmarks.subjects.listen import STREAMS, main, start_listen_key


async def orders(number: int) -> AsyncIterator[int]:
    key = await asyncio.to_thread(start_listen_key, number)
    async for socket in connect(f"{STREAMS}/private/ws?listenKey={key}&events=ORDER_TRADE_UPDATE"):
        try:
            async for message in socket:
                yield json.loads(message)["o"]["i"]
        except ConnectionClosed:
            continue


main(orders)
