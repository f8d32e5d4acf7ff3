"""Many websockets as `connect` gives them, each with a task that waits for its next message."""

import asyncio
import os
from contextlib import AsyncExitStack

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.responders import account_id, api_key, listen_key
from benchmarks.subjects.idle import measure


async def _take(socket: ClientConnection) -> None:
    async for _ in socket:
        pass


async def main() -> None:
    host = os.environ["BINANCE_STREAM_URL"]
    async with AsyncExitStack() as stack:
        tasks = []

        async def open_all(count: int) -> None:
            for number in range(count):
                key = listen_key(api_key(account_id(number)))
                socket = await stack.enter_async_context(connect(f"{host}/private/ws?listenKey={key}"))
                tasks.append(asyncio.create_task(_take(socket)))

        await measure(open_all)


asyncio.run(main())
