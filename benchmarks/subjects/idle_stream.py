"""Many UserDataStreams that share a ListenKeys, each with a task that waits for its next item."""

import asyncio
from contextlib import AsyncExitStack

from benchmarks.responders import account_id
from benchmarks.subjects.idle import measure
from listenkey_keeper import ListenKeys, UserDataStream


async def _take(stream: UserDataStream) -> None:
    async for _ in stream:
        pass


async def main() -> None:
    keys = ListenKeys()
    async with AsyncExitStack() as stack:
        tasks = []

        async def open_all(count: int) -> None:
            streams = [UserDataStream(account_id(number), keys) for number in range(count)]
            for stream in streams:
                await stack.enter_async_context(stream)
                tasks.append(asyncio.create_task(_take(stream)))
            while not all(stream.alive for stream in streams):
                await asyncio.sleep(0.1)

        await measure(open_all)


asyncio.run(main())
