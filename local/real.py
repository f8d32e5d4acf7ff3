"""ACCOUNT=real: a person's own account at Binance instead of the stand-in's, only when asked for by name.

Says which host it will send to, then asks for the API key, and sends nothing before that. BINANCE_API_KEY and
the like in the environment are not read: people who trade have them exported.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from dataclasses import dataclass

import requests

from listenkeys.aws.credentials import API_KEY
from listenkeys.products import ENDPOINTS, ENVIRONMENTS, PRODUCTS, endpoint_name
from local.world import World


@dataclass(frozen=True, slots=True)
class RealAccount:
    """An account at Binance; `host` is empty for the one of its product and environment."""

    product: str
    environment: str
    host: str

    def world(self) -> World:
        """Ask for the API key and make a world with this account. Raises SystemExit with one line."""
        name = endpoint_name(self.product, self.environment)
        if not name:
            raise SystemExit(f"Binance has no {self.product} in the {self.environment} environment")
        host = self.host or ENDPOINTS[name].host
        print(f"This uses an account of yours at Binance ({self.product}), at {host}. It extends")
        print("the account's listenKey, or starts one, and does nothing else. Ctrl-C: nothing is sent.")
        key = getpass.getpass("API key (not shown): ") if sys.stdin.isatty() else sys.stdin.readline().strip()
        if not API_KEY.fullmatch(key):
            raise SystemExit("that is not an API key: one has only letters, digits, - and _")
        _reach(host)
        world = World(binance_url=self.host)
        world.add_account("mine", key, known=False, product=self.product, environment=self.environment)
        return world


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what make passes on of ACCOUNT, PRODUCT, ENVIRONMENT and HOST."""
    parser.add_argument("--account", choices=["demo", "real"], default="demo", help="real: yours, at Binance")
    parser.add_argument("--product", choices=PRODUCTS, default="usdm", help="the real account's")
    parser.add_argument("--environment", choices=ENVIRONMENTS, default="live", help="the real account's")
    parser.add_argument("--host", default="", help="another than its environment's: https://...")


def chosen(options: argparse.Namespace) -> RealAccount | None:
    """Return the real account, None for the stand-in's."""
    if options.account != "real":
        return None
    return RealAccount(options.product, options.environment, options.host.rstrip("/"))


def _reach(url: str) -> None:
    """Raise SystemExit where no answer of any kind comes from there: the function would try for minutes."""
    try:
        requests.get(url, timeout=(3, 5), allow_redirects=False).close()
    except requests.RequestException as error:
        why = type(error).__name__
        raise SystemExit(f"{url} does not answer ({why}): check the network and the proxy") from None
