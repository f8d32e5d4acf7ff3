"""Runs a recipe, or your own program, with the stand-in of `make up` in Binance's place.

.local/with python examples/clients/stand_in.py ccxt_pro.py
"""

import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path


def ccxt():
    import ccxt.pro

    def moved(url):
        if isinstance(url, dict):
            return {name: moved(inner) for name, inner in url.items()}
        scheme, _, rest = url.partition("://")
        return f"{STREAM if scheme == 'wss' else BASE}/{rest.partition('/')[2]}"

    def described(self):
        description = describe(self)
        description["urls"]["api"] = moved(description["urls"]["api"])
        return description

    describe = ccxt.pro.binance.describe
    ccxt.pro.binance.describe = described


def binance():
    from binance import BinanceSocketManager
    from binance.base_client import BaseClient

    BaseClient.API_URL, BaseClient.PAPI_URL = f"{BASE}/api", f"{BASE}/papi"
    BaseClient.FUTURES_URL, BaseClient.FUTURES_COIN_URL = f"{BASE}/fapi", f"{BASE}/dapi"
    BinanceSocketManager.FSTREAM_URL = BinanceSocketManager.DSTREAM_URL = f"{STREAM}/"


def binance_common():  # of Binance's SDK
    from binance_common import constants

    constants.DERIVATIVES_TRADING_USDS_FUTURES_REST_API_PROD_URL = BASE
    constants.DERIVATIVES_TRADING_USDS_FUTURES_WS_STREAMS_PROD_URL = STREAM


def unicorn_binance_websocket_api():
    from unicorn_binance_websocket_api.connection_settings import CONNECTION_SETTINGS as SETTINGS

    most, _, _ = SETTINGS["binance.com-futures"]
    SETTINGS["binance.com-futures"] = (most, f"{STREAM}/", STREAM)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print("usage: .local/with python stand_in.py PROGRAM [ARGUMENT...]", file=sys.stderr)
        sys.exit(2)
    try:
        BASE, STREAM = os.environ["BINANCE_BASE_URL"], os.environ["BINANCE_STREAM_URL"]
    except KeyError:
        sys.exit("type .local/with before this, while `make up` runs")
    # An API key that the stand-in knows, in place of yours: ccxt asks for positions with it.
    os.environ.update(BINANCE_API_KEY="sparekey01", BINANCE_API_SECRET="any")
    for move in (ccxt, binance, binance_common, unicorn_binance_websocket_api):
        if find_spec(move.__name__):
            move()
    program = Path(sys.argv[1])
    if not program.exists():
        program = Path(__file__).parent / program  # a recipe
    if not program.exists():
        sys.exit(f"there is no {sys.argv[1]} here and in {program.parent}")
    sys.argv[:] = [str(program), *sys.argv[2:]]
    sys.path[0] = str(program.parent)
    runpy.run_path(str(program), run_name="__main__")
