"""Binance on this machine: the stand-in."""
