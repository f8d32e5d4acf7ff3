"""The answers of exchangeInfo: for each host the one symbol of the stand-in's orders, and the limits."""

_FILTERS = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.1", "maxPrice": "1000000", "tickSize": "0.1"},
    {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
]
_PERPETUAL = {
    "contractType": "PERPETUAL", "deliveryDate": 4133404800000, "onboardDate": 1569398400000,
    "baseAsset": "BTC", "pricePrecision": 1, "quantityPrecision": 3, "baseAssetPrecision": 8,
    "quotePrecision": 8, "underlyingType": "COIN", "underlyingSubType": ["PoW"], "triggerProtect": "0.0500",
    "liquidationFee": "0.012500", "marketTakeBound": "0.05", "filters": _FILTERS,
    "orderTypes": ["LIMIT", "MARKET"], "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
}  # fmt: skip
_OPTION = {
    "symbol": "BTC-261225-100000-C", "underlying": "BTCUSDT", "quoteAsset": "USDT", "side": "CALL",
    "strikePrice": "100000", "expiryDate": 1798185600000, "unit": 1, "minQty": "0.01", "maxQty": "100",
    "priceScale": 0, "quantityScale": 2, "status": "TRADING", "filters": _FILTERS,
}  # fmt: skip
_SYMBOLS: dict[str, dict[str, object]] = {
    "fapi": {
        "symbols": [
            _PERPETUAL
            | {"symbol": "BTCUSDT", "pair": "BTCUSDT", "status": "TRADING"}
            | {"quoteAsset": "USDT", "marginAsset": "USDT"}
        ]
    },
    "dapi": {
        "symbols": [
            _PERPETUAL
            | {"symbol": "BTCUSD_PERP", "pair": "BTCUSD", "contractStatus": "TRADING"}
            | {"quoteAsset": "USD", "marginAsset": "BTC", "contractSize": 100}
        ]
    },
    "eapi": {"optionContracts": [], "optionSymbols": [_OPTION]},
}


def exchange_info(host: str, now_ms: int, weight_limit: int) -> dict[str, object]:
    """Return the answer of a host (fapi, dapi, ...) to GET exchangeInfo."""
    limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_limit}
    common = {"timezone": "UTC", "serverTime": now_ms, "rateLimits": [limit], "exchangeFilters": []}
    return common | _SYMBOLS.get(host, {"symbols": []})
