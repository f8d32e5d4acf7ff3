"""A whole world on one machine: AWS made from template.yaml, a Binance stand-in, the handler run on both."""
