"""Binance's products: where each one's listenKeys and streams are, and which weight limit they count against.

https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams
"""

from collections.abc import Mapping
from dataclasses import dataclass

LIVE = "live"
# The request weight that Binance allows an IP address in a minute, for all API keys together. USDⓈ-M and
# COIN-M share one limit since 2026-06-30 ("Important CM-UM Integration Notice"); ccxt uses the other two.
_WEIGHTS = {"futures": 2400, "portfolio": 6000, "options": 400}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an environment has a product's listenKeys (`host`, `path`) and streams. Hosts include the scheme.

    Endpoints with the same `group` share a weight limit. `weight` is that of a renewal: 2 if PUT does not
    return the key, so that a POST follows.
    """

    host: str
    stream: str
    path: str
    group: str
    weight: int = 1


# Path, weight group and weight of each product. A Portfolio Margin Pro account has USDⓈ-M's listenKey.
_PRODUCTS = {
    "usdm": ("/fapi/v1/listenKey", "futures", 1),
    "coinm": ("/dapi/v1/listenKey", "futures", 1),
    "portfolio": ("/papi/v1/listenKey", "portfolio", 2),
    "portfolio-pro": ("/fapi/v1/listenKey", "futures", 1),
    "options": ("/eapi/v1/listenKey", "options", 2),
}
# Why other products are refused. The two that have a listenKey would need special code: stocks have no PUT.
NOT_KEPT = {
    "spot": "Binance removed its listenKeys on 2026-02-20",
    "margin": "Binance removed its listenKeys on 2026-02-20, all but the cross-margin risk stream's, "
    "which is not supported",
    "stocks": "Binance has listenKeys for it, which are not supported",
}
# The hosts of the REST API and of the streams. Binance has Portfolio Margin in the live environment only.
_HOSTS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    LIVE: {
        "usdm": ("fapi.binance.com", "fstream.binance.com"),
        "coinm": ("dapi.binance.com", "dstream.binance.com"),
        "portfolio": ("papi.binance.com", "fstream.binance.com"),
        "portfolio-pro": ("fapi.binance.com", "fstream.binance.com"),
        "options": ("eapi.binance.com", "fstream.binance.com"),
    },
    # "General Info" of each product, "Testnet API Information": options are on the host of USDⓈ-M.
    "demo": {
        "usdm": ("demo-fapi.binance.com", "demo-fstream.binance.com"),
        "coinm": ("demo-dapi.binance.com", "demo-dstream.binance.com"),
        "options": ("demo-fapi.binance.com", "demo-fstream.binance.com"),
    },
    # What the documentation had before, and Binance's SDKs still have.
    "testnet": {
        "usdm": ("testnet.binancefuture.com", "fstream.binancefuture.com"),
        "coinm": ("testnet.binancefuture.com", "dstream.binancefuture.com"),
        "options": ("testnet.binancefuture.com", "fstream.binancefuture.com"),
    },
}
PRODUCTS = tuple(_PRODUCTS)
ENVIRONMENTS = tuple(_HOSTS)


def _in(environment: str, name: str) -> str:
    return name if environment == LIVE else f"{environment}-{name}"


def endpoint_name(product: str, environment: str) -> str | None:
    """Return a product's name in ENDPOINTS for an environment, or None if Binance does not have it there."""
    return _in(environment, product) if product in _HOSTS[environment] else None


# By name: that of the product if live, such as "usdm", else with the environment before it: "demo-usdm".
ENDPOINTS: Mapping[str, Endpoint] = {
    _in(environment, product): Endpoint(
        f"https://{host}", f"wss://{stream}", _PRODUCTS[product][0],
        _in(environment, _PRODUCTS[product][1]), _PRODUCTS[product][2],
    )
    for environment, hosts in _HOSTS.items()
    for product, (host, stream) in hosts.items()
}  # fmt: skip
GROUP_WEIGHT: Mapping[str, int] = {
    _in(environment, group): weight for environment in ENVIRONMENTS for group, weight in _WEIGHTS.items()
}
