"""Binance's SDK: `rest_api.keepalive_user_data_stream`, a client for each account, from a pool of threads."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from binance_common.configuration import ConfigurationRestAPI
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)

from benchmarks.subjects.accounts import api_keys
from benchmarks.subjects.measure import measured


def client(key: str) -> DerivativesTradingUsdsFutures:
    return DerivativesTradingUsdsFutures(
        config_rest_api=ConfigurationRestAPI(
            api_key=key, api_secret="secret", base_path=os.environ["BINANCE_BASE_URL"]
        )
    )


def main(accounts: int, concurrency: int, shared: bool) -> None:
    keys = api_keys(accounts)
    # Shared: better than its users have it, the API key is the same for all.
    clients = [client(keys[0])] * accounts if shared else [client(key) for key in keys]
    with ThreadPoolExecutor(concurrency) as pool:

        def call_all() -> None:
            list(pool.map(lambda each: each.rest_api.keepalive_user_data_stream().data().listen_key, clients))

        call_all()  # a client's first call sets it up, and opens its connection
        with measured():
            call_all()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["--shared"])
