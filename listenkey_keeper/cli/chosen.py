"""Selects the accounts that a command is for: those that are named, or all with their keys in one secret."""

from collections.abc import Sequence

from listenkeys.model import Account

from .api_keys import same_secret
from .errors import CliError
from .output import note
from .registry import Registry


class Unused(CliError):
    """No account uses the secret."""


def chosen(registry: Registry, ids: Sequence[str] | None, secret: str | None) -> list[Account]:
    """Return the accounts with these ids, or all whose API keys are in this secret; at least one.

    Raises CliError unless exactly one of `ids` and `secret` is given, or if there is no such account; it is
    Unused if no valid account uses the secret.
    """
    if ids and secret is not None:
        raise CliError("name accounts, or pass --secret, not both")
    if ids:
        return registry.get_all(ids)
    if secret is None:
        raise CliError("name accounts, or pass --secret SECRET")
    accounts = registry.all()
    found = [account for account in accounts if same_secret(account.secret_id, secret)]
    if not secret or not found:
        used = {each.secret_id.rpartition("/")[2]: each.secret_id for each in accounts if each.secret_id}
        # Not one with a similar name: it may be another owner's.
        near = used.get(secret.rpartition("/")[2])
        hint = f" did you mean {near}?" if near else ""
        raise Unused(f"no account uses this secret:{hint} `listenkeys accounts list` shows each account's")
    if broken := [account.id for account in accounts if account.problem]:
        note(f"note: left out, as an invalid row's secret is not read: {', '.join(broken)}")
    return found
