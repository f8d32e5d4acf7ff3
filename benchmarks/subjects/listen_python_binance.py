"""python-binance as its README has it; only the URLs are the stand-in's."""

from collections.abc import AsyncIterator

from binance import AsyncClient, BinanceSocketManager

from benchmarks.subjects.listen import REST, STREAMS, api_key, main


class Client(AsyncClient):
    API_URL = f"{REST}/api"
    FUTURES_URL = f"{REST}/fapi"


class Sockets(BinanceSocketManager):
    FSTREAM_URL = f"{STREAMS}/"


async def orders(number: int) -> AsyncIterator[int]:
    client = await Client.create(api_key(number))
    async with Sockets(client).futures_user_socket() as socket:
        while True:
            event = await socket.recv()
            if event["e"] == "ORDER_TRADE_UPDATE":
                yield event["o"]["i"]


main(orders)
