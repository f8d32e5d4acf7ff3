"""ccxt: `fapiPrivatePutListenKey` of its async client, one for each account, so many at once."""

import asyncio
import os
import sys
from collections.abc import Iterator

import ccxt.async_support as ccxt

from benchmarks.subjects.accounts import api_keys
from benchmarks.subjects.measure import measured


def client(key: str, **options: bool) -> ccxt.binance:
    made = ccxt.binance({"apiKey": key, "secret": "secret", "cafile": os.environ["SSL_CERT_FILE"], **options})
    made.urls["api"]["fapiPrivate"] = os.environ["BINANCE_BASE_URL"] + "/fapi/v1"
    return made


async def main(accounts: int, concurrency: int, shared: bool) -> None:
    keys = api_keys(accounts)
    # Shared: better than its users have it, the API key is the same for all; and without its rate limiter,
    # which would have each call wait 50 ms for the one before.
    shared_client = client(keys[0], enableRateLimit=False)
    clients = [shared_client] * accounts if shared else [client(key) for key in keys]

    async def work(todo: Iterator[ccxt.binance]) -> None:
        for each in todo:
            await each.fapiPrivatePutListenKey()

    async def call_all() -> None:
        todo = iter(clients)
        await asyncio.gather(*(work(todo) for _ in range(concurrency)))

    await call_all()  # a client's first call sets it up, and opens its connection
    with measured():
        await call_all()
    for each in set(clients):
        await each.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["--shared"]))
