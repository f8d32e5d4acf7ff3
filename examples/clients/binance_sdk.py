"""Binance's SDK hears the orders of an account whose listenKey the keeper keeps.

Needs listenkey-keeper and binance-sdk-derivatives-trading-usds-futures, and the table's name in
LISTEN_KEYS_TABLE.
"""

import asyncio
import contextlib
import logging

from binance_common.configuration import ConfigurationWebSocketStreams
from binance_common.constants import DERIVATIVES_TRADING_USDS_FUTURES_WS_STREAMS_PROD_URL
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)
from binance_sdk_derivatives_trading_usds_futures.websocket_streams.models import OrderTradeUpdate

from listenkey_keeper import ListenKeys, ListenKeyUnavailable

ACCOUNT = "alice"
LOOK_SECONDS = 60  # between two looks at the table


def hear(event):
    if isinstance(event.actual_instance, OrderTradeUpdate):
        order = event.actual_instance.to_dict()["o"]
        print(order["i"], order["s"], order["X"], flush=True)


async def listen(key):
    """Open the sockets and subscribe; return them, and an event that says when one of them is closed."""
    configuration = ConfigurationWebSocketStreams(
        stream_url=DERIVATIVES_TRADING_USDS_FUTURES_WS_STREAMS_PROD_URL
    )
    client = DerivativesTradingUsdsFutures(config_ws_streams=configuration)
    streams = await client.websocket_streams.create_connection()
    closed = asyncio.Event()
    streams.on_connection("close", closed.set)
    stream = await streams.user_data(key)
    stream.on("message", hear)
    return streams, closed


async def main():
    keys = ListenKeys()
    known, streams, closed = None, None, asyncio.Event()
    while True:
        try:
            key = (await asyncio.to_thread(keys.read, ACCOUNT)).key
        except ListenKeyUnavailable as error:
            logging.warning("%s", error)
            key = known
        if key and (key != known or closed.is_set()):
            try:
                before = streams
                streams, closed = await listen(key)  # reconcile by REST from here on
                known = key
                if before:
                    await before.close_connection()
            except Exception as error:
                logging.warning("%s", type(error).__name__)
                await asyncio.sleep(5)
                continue
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), LOOK_SECONDS)


if __name__ == "__main__":
    asyncio.run(main())
