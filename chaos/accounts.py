"""The accounts of a day. Binance refuses one of them, and one is configured wrongly."""

from __future__ import annotations

from dataclasses import dataclass

from local.binance.exchange import PATHS
from local.binance.limits import group_of


def api_key_of(name: str) -> str:
    """Return the API key of an account."""
    return f"Canary{name}".ljust(64, "7")


@dataclass(frozen=True, slots=True)
class Account:
    """An account. `promised`: its key must stay alive. `creates`: the keeper may create a missing key."""

    name: str
    product: str = "usdm"
    promised: bool = True
    creates: bool = True

    @property
    def group(self) -> str:
        """The weight group of the account's product."""
        return group_of(PATHS[self.product].split("/")[1])


ACCOUNTS = [
    *(Account(f"own{n:02}") for n in range(10)),
    *(Account(f"shared{n}") for n in range(4)),
    *(Account(f"coin{n}", "coinm") for n in range(3)),
    *(Account(f"portfolio{n}", "portfolio") for n in range(2)),
    *(Account(f"options{n}", "options") for n in range(2)),
    Account("nocreate", creates=False),
    Account("refused", promised=False),
    Account("malformed", promised=False),
]
GROUPS = {account.name: account.group for account in ACCOUNTS}
BY_KEY = {api_key_of(account.name): account for account in ACCOUNTS}
