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

    async def hosts(self) -> list[str]:
        """Return the hosts in every URL of a client of another domain."""
        clients = [Client(tld="us", ping=False), AsyncClient(tld="us")]
        holders = [*clients, BinanceSocketManager(clients[1])]
        urls = [getattr(holder, name) for holder in holders for name in dir(holder) if name.endswith("_URL")]
        urls += [made._url for client in clients for made in (client.ws_api, client.ws_future)]
        await clients[1].close_connection()
        return sorted({url.split("/")[2] for url in urls})


session = Session()
talk(
    {
        name: getattr(session, name)
        for name in ("start", "keep_alive", "close", "listen", "hear", "exchange_info", "hosts")
    }
)
