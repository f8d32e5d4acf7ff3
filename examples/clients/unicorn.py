"""unicorn-binance-websocket-api hears the orders of an account whose listenKey the keeper keeps.

Needs listenkey-keeper and unicorn-binance-websocket-api, and the table's name in LISTEN_KEYS_TABLE.
"""

import json
import logging
import time

from unicorn_binance_websocket_api import BinanceWebSocketApiManager

from listenkey_keeper import ListenKeys, ListenKeyUnavailable

ACCOUNT = "alice"
LOOK_SECONDS = 60  # between two looks at the table


def hear(message):
    event = json.loads(message)
    if event.get("e") == "ORDER_TRADE_UPDATE":
        print(event["o"]["i"], event["o"]["s"], event["o"]["X"], flush=True)


def main():
    keys = ListenKeys()
    manager = BinanceWebSocketApiManager(exchange="binance.com-futures")
    known, stream = None, None
    try:
        while True:
            try:
                key = keys.read(ACCOUNT).key
            except ListenKeyUnavailable as error:
                logging.warning("%s", error)
                key = known
            if key != known:
                before, known = stream, key
                # It names the events in its URL. After each opening, reconcile by REST.
                stream = manager.create_stream(
                    "arr", "!userData", listen_key=key, keep_listen_key_alive=False, process_stream_data=hear
                )
                if before:
                    manager.stop_stream(before, delete_listen_key=False)
            time.sleep(LOOK_SECONDS)
    finally:
        manager.stop_manager(delete_listen_key=False)  # True, its default, sends DELETE


if __name__ == "__main__":
    main()
