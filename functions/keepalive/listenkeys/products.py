"""Binance's products: where each one's listenKey endpoint is, and which weight limit it counts against.

https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """A product's endpoint, and the group of hosts that shares its weight limit.

    `weight` is what a renewal takes: 2 where PUT does not name the key, so that a POST follows.
    """

    host: str
    path: str
    group: str
    weight: int = 1


PRODUCTS: Mapping[str, Product] = {
    "usdm": Product("https://fapi.binance.com", "/fapi/v1/listenKey", "futures"),
    "coinm": Product("https://dapi.binance.com", "/dapi/v1/listenKey", "futures"),
    "portfolio": Product("https://papi.binance.com", "/papi/v1/listenKey", "portfolio", 2),
    "options": Product("https://eapi.binance.com", "/eapi/v1/listenKey", "options", 2),
}

# Request weight a minute that Binance allows one IP address, all API keys together. USDⓈ-M and COIN-M share
# theirs since 2026-06-30 ("Important CM-UM Integration Notice"); the other two as ccxt paces them.
GROUP_WEIGHT: Mapping[str, int] = {"futures": 2400, "portfolio": 6000, "options": 400}
