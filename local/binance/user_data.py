"""What a user data stream says: order updates, and the last words of a listenKey. No sockets, no clock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Event = Mapping[str, object]
Hear = Callable[[str, Event], None]  # the product, and what happened; must not block

_SYMBOLS = {
    "usdm": "BTCUSDT",
    "coinm": "BTCUSD_PERP",
    "portfolio": "BTCUSDT",
    "options": "BTC-261225-100000-C",
}
# What a futures order has and an option has not.
_FUTURES_ONLY = {"sp": "0", "wt": "CONTRACT_PRICE", "ps": "BOTH", "cp": False, "pP": False, "si": 0, "ss": 0}


@dataclass(slots=True)
class Audience:
    """Who listens to one listenKey."""

    api_key: str
    product: str
    hears: list[Hear] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        """Send it to every listener, in the order of the calls."""
        for hear in list(self.hears):
            hear(self.product, event)


def order_update(product: str, at: float, order_id: int, fields: Mapping[str, object]) -> Event:
    """Return an ORDER_TRADE_UPDATE of a new limit order at `at` (epoch s); `fields` replace those of `o`.

    Shape: "Event: Order Update" of each product's user data streams.
    """
    ms = int(at * 1000)
    order: dict[str, object] = {
        "s": _SYMBOLS[product], "c": f"order-{order_id}", "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "0.001",
        "p": "9000", "ap": "0", "x": "NEW", "X": "NEW", "i": order_id, "l": "0", "z": "0", "L": "0",
        "N": "USDT", "n": "0", "T": ms, "t": 0, "b": "9", "a": "0", "m": False, "R": False, "ot": "LIMIT",
        "rp": "0", "V": "NONE", "pm": "NONE", "gtd": 0, "er": "0",
    }  # fmt: skip
    if product != "options":
        order |= _FUTURES_ONLY
    if product == "coinm":
        order |= {"N": "BTC", "ma": "BTC"}
    event: dict[str, object] = {"e": "ORDER_TRADE_UPDATE", "E": ms, "T": ms, "o": order | dict(fields)}
    return event | {"fs": "UM"} if product == "portfolio" else event


def algo_update(at: float, algo_id: int, fields: Mapping[str, object]) -> Event:
    """Return an ALGO_UPDATE of a new take-profit order of USDⓈ-M; `fields` replace those of `o`.

    Shape: "Event: Algo Order Update". Stop and take-profit orders have numbers of their own.
    """
    ms = int(at * 1000)
    order: dict[str, object] = {
        "caid": f"algo-{algo_id}", "aid": algo_id, "at": "CONDITIONAL", "o": "TAKE_PROFIT",
        "s": _SYMBOLS["usdm"], "S": "SELL", "ps": "BOTH", "f": "GTC", "q": "0.001", "X": "NEW", "ai": "",
        "ap": "0", "aq": "0", "act": "0", "tp": "9500", "p": "9500", "V": "NONE", "wt": "CONTRACT_PRICE",
        "pm": "NONE", "cp": False, "pP": False, "R": False, "tt": 0, "gtd": 0, "rm": "",
    }  # fmt: skip
    return {"e": "ALGO_UPDATE", "E": ms, "T": ms, "o": order | dict(fields)}


def listen_key_expired(product: str, at: float, listen_key: str) -> Event:
    """Return the last event of a listenKey, at `at` (epoch s). Only USDⓈ-M's is known to name the key."""
    event: dict[str, object] = {"e": "listenKeyExpired", "E": int(at * 1000)}
    return event | {"listenKey": listen_key} if product == "usdm" else event
