"""Binance: the wire, what its answers mean, and who may send when."""
