"""The accounts of a day, some of which Binance refuses or nobody could renew."""

from __future__ import annotations

from dataclasses import dataclass

from local.binance.exchange import PATHS
from local.binance.limits import group_of


def api_key_of(name: str) -> str:
    """Return the API key of an account."""
    return f"Canary{name}".ljust(64, "7")


@dataclass(frozen=True, slots=True)
class Account:
    """An account; `promised`: its key must live."""

    name: str
    product: str = "usdm"
    promised: bool = True
    creates: bool = True

    @property
    def group(self) -> str:
        """Its weight group."""
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
