"""A bot without asyncio: the recipe in a thread, a thread that reconciles, and ThreadedWebsocketManager.

Needs python_binance.py beside it, and what that needs; BINANCE_API_KEY and BINANCE_API_SECRET.
"""

import contextlib
import logging
import os
import queue
import threading
import time

import python_binance
from binance import Client, ThreadedWebsocketManager
from binance.exceptions import BinanceAPIException, BinanceRequestException
from requests.exceptions import RequestException

SYMBOL = "BTCUSDT"
notes = queue.Queue()  # from the recipe's thread


def stop_quoting():
    """Cancel the quotes, and place none until `catch_up`. Your own code takes the place of this."""
    print("stops quoting", flush=True)


def catch_up(orders, stops, trades):
    """Take in what was missed, and quote again. Your own code takes the place of this.

    It gets what is open now, and the trades since the last time: also some that the bot knows already. It
    must ask `futures_get_order` for each order that the bot knew to be open and that is not in `orders`.
    """
    print("knows", len(orders), len(stops), len(trades), flush=True)


def note(word):
    print(f"{python_binance.ACCOUNT}: {word}", flush=True)
    notes.put(word)


def reconcile():
    client = Client(os.environ["BINANCE_API_KEY"], os.environ["BINANCE_API_SECRET"])
    since, word = None, notes.get()  # since: ms; everything before is known
    while True:
        try:
            if word == "deaf":
                stop_quoting()
            else:
                began = int(time.time() * 1000) - 10_000  # clocks differ
                orders = client.futures_get_open_orders(symbol=SYMBOL)
                stops = client.futures_get_open_algo_orders(symbol=SYMBOL)
                trades = page = client.futures_account_trades(symbol=SYMBOL, startTime=since, limit=1000)
                while len(page) == 1000:  # the most that it returns, the oldest first
                    page = client.futures_account_trades(
                        symbol=SYMBOL, startTime=page[-1]["time"], limit=1000
                    )
                    trades = trades + page
                if notes.empty():  # it is not deaf again
                    catch_up(orders, stops, trades)
                    since = began
            word = notes.get()
        except Exception as error:
            passes = isinstance(error, (BinanceAPIException, BinanceRequestException, RequestException))
            logging.warning("cannot reconcile: %s", python_binance.text_of(error), exc_info=not passes)
            with contextlib.suppress(queue.Empty):  # then it tries again
                word = notes.get(timeout=5)


if __name__ == "__main__":
    # Set python_binance.heard too, to the callback that you gave to start_futures_user_socket.
    python_binance.listening = lambda: note("listening")
    python_binance.deaf = lambda: note("deaf")
    threading.Thread(target=reconcile, daemon=True).start()
    threading.Thread(target=python_binance.receive, daemon=True).start()
    manager = ThreadedWebsocketManager()
    manager.start()
    manager.join()  # the main thread must not end
