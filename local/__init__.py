"""The local environment: AWS made from template.yaml, a Binance stand-in, and the handler that uses both."""
