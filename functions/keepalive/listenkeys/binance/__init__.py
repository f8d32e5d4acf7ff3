"""Binance: the HTTP requests, and what the answers mean."""
