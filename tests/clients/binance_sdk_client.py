"""Binance's own SDK as its users know it; examples/clients/stand_in.py runs this, and moves its URLs."""

import asyncio
import sys
from typing import Any

from binance_common import constants
from binance_common.configuration import ConfigurationRestAPI, ConfigurationWebSocketStreams
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)
from talk import talk

[API_KEY] = sys.argv[1:]


class Session:
    """The client, and the stream that was opened with it."""

    def __init__(self) -> None:
        self.client = DerivativesTradingUsdsFutures(
            config_rest_api=ConfigurationRestAPI(api_key=API_KEY),
            config_ws_streams=ConfigurationWebSocketStreams(),
        )

    def start(self) -> Any:
        answer = self.client.rest_api.start_user_data_stream()
        return {"listen_key": answer.data().listen_key, "weights": [r.count for r in answer.rate_limits]}

    def keep_alive(self) -> Any:
        return self.client.rest_api.keepalive_user_data_stream().data().listen_key

    def close(self) -> Any:
        return self.client.rest_api.close_user_data_stream().data()

    def exchange_info(self) -> Any:
        return [symbol.symbol for symbol in self.client.rest_api.exchange_information().data().symbols]

    def time(self) -> Any:
        return self.client.rest_api.check_server_time().data().server_time

    async def listen(self, listen_key: str) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        streams = await self.client.websocket_streams.create_connection()
        stream = await streams.user_data(listen_key)
        stream.on("message", self.events.put_nowait)

    async def hear(self) -> Any:
        """Return the next event: the SDK's model of it, by name, and what it was parsed to."""
        event = await asyncio.wait_for(self.events.get(), 60)
        return [type(event.actual_instance).__name__, event.actual_instance.to_dict()]

    def hosts(self) -> list[str]:
        """Return the hosts in every URL of every product."""
        return sorted({url.split("/")[2] for name, url in vars(constants).items() if name.endswith("_URL")})


session = Session()
names = ("hosts", "start", "keep_alive", "close", "exchange_info", "time", "listen", "hear")
talk({name: getattr(session, name) for name in names})
