"""python-binance as its users know it; examples/clients/stand_in.py runs this, and moves its URLs."""

import sys
from typing import Any

from binance import AsyncClient, BinanceSocketManager, Client
from talk import talk

[API_KEY] = sys.argv[1:]


class Session:
    """The client, and the sockets that were opened with it."""

    def __init__(self) -> None:
        self.client = Client(API_KEY)  # pings when it is made
        self.sockets: dict[str, Any] = {}

    def start(self, product: str) -> str:
        return {
            "usdm": self.client.futures_stream_get_listen_key,
            "coinm": self.client.futures_coin_stream_get_listen_key,
            "portfolio": self.client.papi_stream_get_listen_key,
        }[product]()

    def keep_alive(self, product: str, listen_key: str) -> Any:
        return {
            "usdm": self.client.futures_stream_keepalive,
            "coinm": self.client.futures_coin_stream_keepalive,
            "portfolio": self.client.papi_stream_keepalive,
        }[product](listen_key)

    def close(self, product: str, listen_key: str) -> Any:
        return {
            "usdm": self.client.futures_stream_close,
            "coinm": self.client.futures_coin_stream_close,
            "portfolio": self.client.papi_stream_close,
        }[product](listen_key)

    async def listen(self, product: str) -> str:
        """Open the user socket, which starts a listenKey of its own; return that."""
        self.async_client = await AsyncClient.create(API_KEY)  # pings, and asks for the time
        sockets = BinanceSocketManager(self.async_client)
        socket = {
            "usdm": sockets.futures_user_socket,
            "coinm": sockets.coin_futures_user_socket,
            "portfolio": sockets.portfolio_margin_socket,
        }[product]()
        self.sockets[product] = await socket.__aenter__()
        return socket._listen_key

    async def hear(self, product: str) -> Any:
        return await self.sockets[product].recv()

    def exchange_info(self) -> Any:
        return self.client.futures_exchange_info()


session = Session()
talk(
    {
        name: getattr(session, name)
        for name in ("start", "keep_alive", "close", "listen", "hear", "exchange_info")
    }
)
