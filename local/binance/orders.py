"""Binance's answers about an account's USDⓈ-M orders, computed from the events that were sent."""

from collections.abc import Iterable, Mapping
from typing import Any

Orders = Iterable[Mapping[str, Any]]
_NAMES = {
    "orderId": "i", "symbol": "s", "clientOrderId": "c", "status": "X", "side": "S", "positionSide": "ps",
    "type": "o", "origType": "ot", "timeInForce": "f", "origQty": "q", "executedQty": "z", "price": "p",
    "avgPrice": "ap", "stopPrice": "sp", "workingType": "wt", "reduceOnly": "R", "closePosition": "cp",
    "priceProtect": "pP", "priceMatch": "pm", "selfTradePreventionMode": "V", "goodTillDate": "gtd",
}  # fmt: skip
_ALGO_NAMES = {
    "algoId": "aid", "clientAlgoId": "caid", "algoType": "at", "orderType": "o", "symbol": "s", "side": "S",
    "positionSide": "ps", "timeInForce": "f", "quantity": "q", "algoStatus": "X", "actualOrderId": "ai",
    "triggerPrice": "tp", "price": "p", "workingType": "wt", "reduceOnly": "R", "closePosition": "cp",
}  # fmt: skip
_WEEK = 7 * 86_400_000  # ms: an answer covers no more
_OPEN = {"NEW", "PARTIALLY_FILLED"}
PREFIX = "/fapi/v1/"
PATHS = {
    PREFIX + name
    for name in (
        "allOrders",
        "openOrders",
        "order",
        "userTrades",
        "allAlgoOrders",
        "openAlgoOrders",
        "algoOrder",
    )
}


def answer(path: str, query: Mapping[str, str], events: Orders, recent: int) -> object:
    """Return the answer to a query for orders, computed from an account's events. None for an unknown order.

    allOrders returns the latest `recent` orders, whatever the query says, because the meaning of its
    startTime is not documented.
    """
    last: dict[tuple[bool, int], Mapping[str, Any]] = {}
    trades = []
    for number, event in enumerate(events, 1):
        order, algo = event["o"], "aid" in event["o"]
        last[algo, order["aid" if algo else "i"]] = event
        if order.get("x") == "TRADE":
            trade = {"id": number, "orderId": order["i"], "symbol": order["s"], "time": event["T"]}
            trades.append(trade | {"price": order["L"], "qty": order["l"], "side": order["S"]})
    found = [_order(event) for (algo, _), event in last.items() if not algo]
    algos = [_algo_order(event) for (algo, _), event in last.items() if algo]
    match path.removeprefix(PREFIX):
        case "allOrders":
            return found[-recent:]
        case "openOrders":
            return [order for order in found if order["status"] in _OPEN]
        case "order":
            return next((order for order in found if str(order["orderId"]) == query.get("orderId")), None)
        case "allAlgoOrders":
            return algos
        case "openAlgoOrders":
            return [order for order in algos if order["algoStatus"] in _OPEN]
        case "algoOrder":
            return next((order for order in algos if str(order["algoId"]) == query.get("algoId")), None)
    since = int(query.get("startTime", 0))
    until = int(query.get("endTime", since + _WEEK if since else 2**63))
    first, limit = int(query.get("fromId", 0)), int(query.get("limit", 500))
    return [t for t in trades if since <= t["time"] <= until and t["id"] >= first][:limit]


def _order(event: Mapping[str, Any]) -> dict[str, object]:
    order = event["o"]
    found = {name: order[letters] for name, letters in _NAMES.items()}
    return found | {"cumQuote": "0", "time": order["T"], "updateTime": event["T"]}


def _algo_order(event: Mapping[str, Any]) -> dict[str, object]:
    order = event["o"]
    found = {name: order[letters] for name, letters in _ALGO_NAMES.items()}
    return found | {"createTime": event["T"], "updateTime": event["T"]}
