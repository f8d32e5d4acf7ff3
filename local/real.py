"""ACCOUNT=real: your own account at Binance instead of the stand-in.

Prints the host, then prompts for the API key, and sends nothing before that. It does not read
BINANCE_API_KEY or similar variables: traders have them exported, and would send a request unintentionally.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from dataclasses import dataclass

import requests

from listenkeys.aws.credentials import API_KEY
from listenkeys.products import ENDPOINTS, ENVIRONMENTS, LIVE, PRODUCTS, endpoint_name
from local.world import World


@dataclass(frozen=True, slots=True)
class RealAccount:
    """An account at Binance. `host` is "" for the usual host of its product and environment."""

    product: str
    environment: str
    host: str

    def world(self) -> World:
        """Prompt for the API key, and make a world with this account. Raises SystemExit with one line."""
        name = endpoint_name(self.product, self.environment)
        if not name:
            raise SystemExit(f"Binance has no {self.product} in the {self.environment} environment")
        host = self.host or ENDPOINTS[name].host
        print(f"This uses your own account at Binance ({self.product}), at {host}. It extends")
        print("the account's listenKey, or creates one, and does nothing else. Press Ctrl-C to send nothing.")
        try:
            asked = getpass.getpass("API key (not shown): ") if sys.stdin.isatty() else sys.stdin.readline()
        except EOFError:
            raise SystemExit("\nno API key was given: nothing was sent") from None
        key = asked.strip()
        if not key:
            raise SystemExit("no API key was given: nothing was sent")
        if not API_KEY.fullmatch(key):
            raise SystemExit("that is not an API key: one has only letters, digits, - and _")
        _reach(host)
        world = World(binance_url=self.host)
        world.add_account("mine", key, known=False, product=self.product, environment=self.environment)
        return world


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that make sets from ACCOUNT, PRODUCT, ENVIRONMENT and HOST."""
    parser.add_argument("--account", default="demo", help="real: your own account at Binance")
    parser.add_argument("--product", default="", help="of the real account")
    parser.add_argument("--environment", default="", help="of the real account")
    parser.add_argument("--host", default="", help="another host than Binance's own: https://...")


def chosen(options: argparse.Namespace) -> RealAccount | None:
    """Return the real account that the options describe, or None for the stand-in.

    Raises SystemExit with one line.
    """
    product, environment, host = options.product, options.environment, options.host.rstrip("/")
    if options.account not in ("demo", "real"):
        raise SystemExit(
            f"ACCOUNT can only be real, not {options.account} (ENVIRONMENT=demo: Binance's demo)"
        )
    for name, value, allowed in (
        ("PRODUCT", product or "usdm", PRODUCTS),
        ("ENVIRONMENT", environment or LIVE, ENVIRONMENTS),
    ):
        if value not in allowed:
            raise SystemExit(f"{name} must be one of {', '.join(allowed)}, not {value}")
    if options.account != "real":
        if product or environment or host:
            raise SystemExit("PRODUCT, ENVIRONMENT and HOST need ACCOUNT=real")
        return None
    if host and not host.startswith(("https://", "http://")):
        raise SystemExit(f"HOST must begin with https:// or http://, not {host}")
    return RealAccount(product or "usdm", environment or LIVE, host)


def _reach(url: str) -> None:
    """Raise SystemExit if the host does not answer at all: the function would retry for minutes."""
    try:
        requests.get(url, timeout=(3, 5), allow_redirects=False).close()
    except requests.RequestException as error:
        why = type(error).__name__
        raise SystemExit(f"{url} does not answer ({why}): check the network and the proxy") from None
