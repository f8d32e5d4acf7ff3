"""The accounts of the benchmarks. Standard library only: peers import it too."""


def api_keys(accounts: int) -> list[str]:
    """Return their API keys, 64 characters as Binance's have."""
    return [f"account-{number:07}".ljust(64, "a") for number in range(accounts)]
