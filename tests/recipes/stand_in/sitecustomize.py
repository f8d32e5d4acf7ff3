"""Puts the stand-in in Binance's place for a recipe in Python: no client is told another URL.

Python imports this by itself before the recipe: binance.com then leads to the stand-in, whose certificate is
trusted, and every other name leads nowhere. What the recipe waits for takes a hundredth of the time: a pause
no less than 0.2 s, what has to happen in time a second, and an answer of AWS 3 s, because the machine may be
busy.
"""

import asyncio
import os
import socket
import ssl
import sys
import threading
import time

REST, STREAMS = int(os.environ["STAND_IN_REST"]), int(os.environ["STAND_IN_STREAMS"])
CERTIFICATE = os.environ["STAND_IN_CERTIFICATE"]
# python-binance waits by itself: for its next look at the listenKey, and until its socket notices a change.
# The websockets library waits between its pings, and for their answers.
HURRIED = (
    os.environ["STAND_IN_RECIPE"],
    "keepalive_websocket.py",
    "reconnecting_websocket.py",
    "websockets/asyncio/connection.py",
)
SPEED = 100
CALL_SECONDS = 5  # how long the recipes wait for AWS

_look_up = socket.getaddrinfo


def getaddrinfo(host, port, *arguments, **named):
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name.endswith(".binance.com"):
        streams = name.startswith(("fstream.", "dstream."))
        return _look_up("127.0.0.1", STREAMS if streams else REST, *arguments, **named)
    if name in ("127.0.0.1", "localhost"):  # AWS
        return _look_up(host, port, *arguments, **named)
    raise socket.gaierror(socket.EAI_NONAME, f"{name} is not in this world")


socket.getaddrinfo = getaddrinfo


def trusting(load):
    """Have a context that loads what it is to trust load the stand-in's certificate, too."""

    def loading(context, *arguments, **named):
        load(context, *arguments, **named)
        _load(context, CERTIFICATE)

    return loading


_load = ssl.SSLContext.load_verify_locations
ssl.SSLContext.load_verify_locations = trusting(_load)
ssl.SSLContext.load_default_certs = trusting(ssl.SSLContext.load_default_certs)


def hurry(function, position, name, least):
    """Divide an argument, seconds, by SPEED in the calls that the recipe makes, down to `least`."""

    def shorter(seconds):
        if seconds is None:
            return None
        return min(seconds, max(seconds / SPEED, least if seconds != CALL_SECONDS else 3))

    def hurried(*arguments, **named):
        if sys._getframe(1).f_code.co_filename.endswith(HURRIED):
            arguments = list(arguments)
            if name in named:
                named[name] = shorter(named[name])
            elif len(arguments) > position:
                arguments[position] = shorter(arguments[position])
        return function(*arguments, **named)

    return hurried


asyncio.sleep = hurry(asyncio.sleep, 0, "delay", 0.2)
asyncio.wait_for = hurry(asyncio.wait_for, 1, "timeout", 1)
asyncio.timeout = hurry(asyncio.timeout, 0, "delay", 1)
asyncio.BaseEventLoop.call_later = hurry(asyncio.BaseEventLoop.call_later, 1, "delay", 0.2)
threading.Event.wait = hurry(threading.Event.wait, 1, "timeout", 0.2)
time.sleep = hurry(time.sleep, 0, "seconds", 0.2)


def monotonic():
    recipe = sys._getframe(1).f_code.co_filename == os.environ["STAND_IN_RECIPE"]
    return _monotonic() * SPEED if recipe else _monotonic()


_monotonic, time.monotonic = time.monotonic, monotonic
