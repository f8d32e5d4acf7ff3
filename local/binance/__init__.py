"""The Binance stand-in."""
