"""The events of user data streams: order updates and listenKeyExpired. No sockets, no clock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Event = Mapping[str, object]
Hear = Callable[[str, Event], None]  # called with the product and the event; must not block

_SYMBOLS = {
    "usdm": "BTCUSDT",
    "coinm": "BTCUSD_PERP",
    "portfolio": "BTCUSDT",
    "options": "BTC-261225-100000-C",
}
# Fields that the orders of futures have and those of options do not.
_FUTURES_ONLY = {"sp": "0", "wt": "CONTRACT_PRICE", "ps": "BOTH", "cp": False, "pP": False, "si": 0, "ss": 0}


@dataclass(slots=True)
class Audience:
    """The listeners of one listenKey."""

    api_key: str
    product: str
    hears: list[Hear] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        """Pass an event to every listener, in the order in which they joined."""
        for hear in list(self.hears):
            hear(self.product, event)


def order_update(product: str, at: float, order_id: int, fields: Mapping[str, object]) -> Event:
    """Return the ORDER_TRADE_UPDATE of a new limit order at `at` (epoch seconds).

    `fields` replace those of `o`. Its shape is documented in "Event: Order Update" of each product's user
    data streams.
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
    """Return the ALGO_UPDATE of a new take-profit order of USDⓈ-M at `at` (epoch seconds).

    `fields` replace those of `o`. Its shape is documented in "Event: Algo Order Update". Stop and take-profit
    orders are numbered separately from other orders.
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
    """Return a listenKeyExpired at `at` (epoch seconds). Only USDⓈ-M's is known to contain the key."""
    event: dict[str, object] = {"e": "listenKeyExpired", "E": int(at * 1000)}
    return event | {"listenKey": listen_key} if product == "usdm" else event
