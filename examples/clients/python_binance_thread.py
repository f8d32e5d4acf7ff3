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
MOST, WEEK = 1000, 7 * 86_400_000  # trades in an answer, the oldest first, and the ms that one may cover
PAUSE, LONGEST_PAUSE = 5, 300  # seconds between two tries to reconcile: each is twice as long
PASS = (BinanceAPIException, BinanceRequestException, RequestException)  # errors that are no mistakes
notes = queue.Queue()  # from the recipe's thread
noting = threading.Lock()  # a note and `behind` change together


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
    """Pass on what happened. It is called in the recipe's thread, so it must not wait."""
    with noting:
        python_binance.behind = True
        print(f"{python_binance.ACCOUNT}: {word}", flush=True)
        notes.put(word)


def trades_since(client, since):
    trades = []
    while True:
        page = client.futures_account_trades(symbol=SYMBOL, startTime=since, limit=MOST)
        trades += page
        if len(page) == MOST:
            since = page[-1]["time"]
        elif since and since + WEEK < time.time() * 1000:
            since += WEEK
        else:
            return trades


def reconcile():
    client = Client(os.environ["BINANCE_API_KEY"], os.environ["BINANCE_API_SECRET"], ping=False)
    since = None  # ms: everything before is known. Until it is set, Binance returns its latest trades
    word, pause = notes.get(), PAUSE
    while True:
        asked = ""
        try:
            if word == "deaf":
                stop_quoting()
            else:
                began = int(time.time() * 1000) - 10_000  # clocks differ
                orders = client.futures_get_open_orders(symbol=SYMBOL)
                stops = client.futures_get_open_algo_orders(symbol=SYMBOL)
                trades = trades_since(client, since)
                if notes.empty():  # it is not deaf again
                    catch_up(orders, stops, trades)
                    since = began
                    with noting:
                        python_binance.behind = not notes.empty()
            word, pause = notes.get(), PAUSE
        except Exception as error:
            mistake = not isinstance(error, PASS)  # of your own: with its traceback
            logging.warning("cannot reconcile: %s", python_binance.text_of(error), exc_info=mistake)
            if isinstance(error, BinanceAPIException):  # 429 and 418 say how long to wait
                asked = error.response.headers.get("Retry-After", "")
            wait = max(pause, int(asked) if asked.isdigit() else 0)
            pause = min(2 * pause, LONGEST_PAUSE)
            with contextlib.suppress(queue.Empty):  # then it tries again
                word = notes.get(timeout=wait)


if __name__ == "__main__":
    # Set python_binance.heard too, to the callback that you gave to start_futures_user_socket.
    python_binance.behind = True  # it knows nothing yet
    python_binance.listening = lambda: note("listening")
    python_binance.deaf = lambda: note("deaf")
    threading.Thread(target=reconcile, daemon=True).start()
    threading.Thread(target=python_binance.receive, daemon=True).start()
    manager = ThreadedWebsocketManager()
    manager.start()
    manager.join()  # the main thread must not end
