"""Runs a recipe, or your own program, with the stand-in of `make up` in Binance's place.

.local/with python examples/clients/stand_in.py ccxt_pro.py

It moves every URL of the clients below, and lets no socket of this process leave the machine.
"""

import asyncio
import errno
import ipaddress
import json
import os
import runpy
import sys
import types
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def moved(value):
    """Return a URL on the stand-in, and what holds URLs with these moved."""
    if isinstance(value, dict):
        return {name: moved(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(moved, value))
    if not isinstance(value, str) or "://" not in value:
        return value
    scheme, _, rest = value.strip().partition("://")
    _, slash, path = rest.partition("/")
    return f"{STREAM if scheme.startswith('ws') else BASE}{slash}{path}"


def move_constants(*holders):
    for holder in holders:
        for name, value in list(vars(holder).items()):
            if name.endswith("_URL"):
                setattr(holder, name, moved(value))


def ccxt():
    import ccxt.pro

    def moving(make):
        def made(self, *arguments, **named):
            make(self, *arguments, **named)
            self.urls = moved(self.urls)

        return made

    # Every other Binance class, ccxt.pro's too, derives from one of these.
    for base in (ccxt.binance, ccxt.async_support.binance):
        base.__init__ = moving(base.__init__)


def binance():
    from binance import BinanceSocketManager
    from binance.base_client import BaseClient

    move_constants(BaseClient, BinanceSocketManager)


def binance_common():  # of Binance's SDK, all products
    from binance_common import constants

    move_constants(constants)


def unicorn_binance_websocket_api():
    from unicorn_binance_websocket_api.connection_settings import CONNECTION_SETTINGS

    CONNECTION_SETTINGS.update(moved(CONNECTION_SETTINGS))


def is_here(host):
    host = host.decode() if isinstance(host, bytes) else host
    if not isinstance(host, str) or host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def wall(event, arguments):
    """Refuse every other machine: some program has a URL that is not moved."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # None: a Unix socket
    else:
        return
    if not is_here(host):
        refusal = f"stand_in.py lets a program connect only to this machine: {host}"
        raise PermissionError(errno.EACCES, refusal)


def build_wall():
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):  # one on this machine would lead out
            del os.environ[name]
    # These resolve and connect without Python's sockets.
    sys.modules["aiodns"] = None  # aiohttp then does without
    uvloop = sys.modules["uvloop"] = types.ModuleType("uvloop")
    uvloop.install, uvloop.run = lambda: None, asyncio.run
    uvloop.new_event_loop, uvloop.EventLoopPolicy = asyncio.new_event_loop, asyncio.DefaultEventLoopPolicy
    sys.addaudithook(wall)


def api_key():
    """Return the account's API key in the local environment, which sees its orders; or a spare one."""
    name = f"listenkeys/{os.environ.get('ACCOUNT', 'alice')}"
    try:
        secret = boto3.client("secretsmanager").get_secret_value(SecretId=name)
        return json.loads(secret["SecretString"])["apiKey"]
    except (BotoCoreError, ClientError, ValueError, KeyError):
        return "sparekey01"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print("usage: .local/with python stand_in.py PROGRAM [ARGUMENT...]", file=sys.stderr)
        sys.exit(2)
    try:
        BASE, STREAM = os.environ["BINANCE_BASE_URL"], os.environ["BINANCE_STREAM_URL"]
    except KeyError:
        sys.exit("type .local/with before this, while `make up` runs")
    if not all(is_here(urlsplit(url).hostname or "Binance") for url in (BASE, STREAM)):
        sys.exit("this environment uses the real Binance: start `make up` without ACCOUNT=real")
    build_wall()
    os.environ.update(BINANCE_API_KEY=api_key(), BINANCE_API_SECRET="any")
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
    try:
        runpy.run_path(str(program), run_name="__main__")
    except ModuleNotFoundError as error:
        sys.exit(f"{error}: install what {program.name} needs into this Python's environment")
