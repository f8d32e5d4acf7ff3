"""Tests with a made-up API key whether Binance serves this function, and which IP address it sees."""

import re
from typing import Any
from urllib.parse import urlsplit

from ..binance.client import BinanceClient
from ..clock import Clock
from ..errors import AccountError, ErrorCode
from ..products import ENDPOINTS
from .weight import Budget

ENDPOINT = "usdm"
MADE_UP = "listenKeyKeeperProbe".ljust(64, "0")  # has the form of an API key and belongs to nobody
_ADDRESS = re.compile(r"request ip: ([0-9A-Fa-f:.]{2,45})")


def probe(binance: BinanceClient, budget: Budget, clock: Clock) -> dict[str, Any]:
    """Return the report's `probe`. If Binance refuses the API key (-2014, -2015), it serves the function."""
    group = ENDPOINTS[ENDPOINT].group
    clock.sleep(max(0.0, budget.opens_at(group) - clock.monotonic()))
    minute = budget.now(group)
    budget.taken(group, minute.number, 1, budget.take(group, minute.number, 1, own=False))
    if minute.free:
        minute.free -= 1
        error = AccountError(ErrorCode.BAD_RESPONSE, "a made-up API key was accepted: this is not Binance")
        try:
            binance.keepalive(ENDPOINT, MADE_UP)
        except AccountError as refused:
            error = refused
    else:
        used_up = "not sent: this minute's weight is used up, try again in a minute"
        error = AccountError(ErrorCode.RATE_LIMITED, used_up)
    served = error.code == ErrorCode.INVALID_API_KEY
    match = _ADDRESS.search(error.message) if served else None
    return {
        "host": urlsplit(binance.host_of(ENDPOINT)).hostname,
        "served": served,
        "address": match and match[1],
        "errorCode": None if served else error.code,
        "errorMessage": None if served else error.message,
    }
