"""python-binance hears the orders of an account whose listenKey the keeper keeps.

Needs listenkey-keeper and python-binance, and the table's name in LISTEN_KEYS_TABLE.
"""

import asyncio
import logging
import os

from binance import AsyncClient, BinanceSocketManager

from listenkey_keeper import ListenKeys

ACCOUNT = "alice"
LOOK_SECONDS = 60  # between two looks at the table
EVENTS = "&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/listenKeyExpired"
KEYS = ListenKeys()


class KeptClient(AsyncClient):
    """Takes the listenKey from the table, and sends nothing that starts, extends or ends one."""

    async def futures_stream_get_listen_key(self):
        # python-binance puts it at the end of its URL, so the events can follow it.
        return (await asyncio.to_thread(KEYS.read, ACCOUNT)).key + EVENTS

    async def futures_stream_keepalive(self, listenKey):  # noqa: N803
        pass

    async def futures_stream_close(self, listenKey):  # noqa: N803
        pass


async def main():
    client = await KeptClient.create(os.environ.get("BINANCE_API_KEY"), os.environ.get("BINANCE_API_SECRET"))
    try:
        while True:
            # It asks for the listenKey every `user_timeout` seconds, and reconnects when it has changed.
            manager = BinanceSocketManager(client, user_timeout=LOOK_SECONDS)
            try:
                async with manager.futures_user_socket() as socket:
                    while True:
                        event = await socket.recv()
                        if event["e"] == "ORDER_TRADE_UPDATE":
                            order = event["o"]
                            print(order["i"], order["s"], order["X"], flush=True)
                        elif event["e"] == "error":
                            logging.warning("%s", event["type"])  # it reconnects: reconcile by REST
            except Exception as error:
                logging.warning("%s", type(error).__name__)  # its text may hold the URL
                await asyncio.sleep(5)
    finally:
        await client.close_connection()


if __name__ == "__main__":
    asyncio.run(main())
