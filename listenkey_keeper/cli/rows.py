"""A row of AccountsTable as the command takes it in and gives it out."""

import re
from typing import Any

from listenkey_keeper.program.aws.accounts import ACCOUNT_ID, Account

from .errors import CliError

_LOOKS_LIKE_A_KEY = re.compile(r"[A-Za-z0-9]{64}")


def check_id(account_id: str) -> None:
    """Raise CliError for what cannot be an account's id, or is more likely a key given by mistake."""
    if _LOOKS_LIKE_A_KEY.fullmatch(account_id):
        raise CliError(
            "that looks like an API key, not an account: leave it out, the command prompts for it (the key "
            "may be in your shell's history now)"
        )
    if not ACCOUNT_ID.fullmatch(account_id):
        raise CliError("an account's id must be 1 to 64 of A-Z a-z 0-9 . _ -")


def as_dict(account: Account) -> dict[str, Any]:
    """Return an account as --json gives it."""
    return {
        "accountId": account.id,
        "product": account.product or None,
        "enabled": account.enabled,
        "createIfMissing": account.create_if_missing,
        "secretId": account.secret_id or None,
        "secretField": account.secret_field or None,
        "problem": account.problem.message if account.problem else None,
    }
