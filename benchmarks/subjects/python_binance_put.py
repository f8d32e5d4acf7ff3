"""python-binance: `Client.futures_stream_keepalive`, a client for each account, from a pool of threads."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from binance import Client

from benchmarks.subjects.accounts import api_keys
from benchmarks.subjects.measure import measured


class Urls:
    """The client with another host: its own are class attributes."""

    FUTURES_URL = os.environ["BINANCE_BASE_URL"] + "/fapi"


class LocalClient(Urls, Client):
    pass


def main(accounts: int, concurrency: int, shared: bool) -> None:
    keys = api_keys(accounts)
    if shared:
        # Better than its users have it: connections are kept, and the API key is the same for all.
        clients = [LocalClient(keys[0], "secret", ping=False)] * accounts
    else:
        clients = [LocalClient(key, "secret", ping=False) for key in keys]
    with ThreadPoolExecutor(concurrency) as pool:

        def call_all() -> None:
            list(pool.map(lambda each: each.futures_stream_keepalive("none"), clients))

        call_all()  # a client's first call sets it up, and opens its connection
        with measured():
            call_all()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["--shared"])
