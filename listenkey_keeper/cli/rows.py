"""A row of AccountsTable: the options that set it, the checks of their values, and its form in the output."""

import re
from typing import Annotated, Any

import typer

from listenkeys.aws.accounts import ACCOUNT_ID, MAX_RENEW_AFTER
from listenkeys.model import Account
from listenkeys.products import ENVIRONMENTS, NOT_KEPT, PRODUCTS, endpoint_name

from .errors import CliError

STACKS_OWN = "default"  # a value of --renew-after: the stack's parameter applies, the row has no value
_LONGEST_QUOTED = 20
_LOOKS_LIKE_A_KEY = re.compile(r"[A-Za-z0-9]{64}")

RenewAfter = Annotated[
    str | None,
    typer.Option(
        metavar="MINUTES",
        help=f"Renew the listenKey once it is this old: from 1 to {MAX_RENEW_AFTER} minutes, or "
        f"`{STACKS_OWN}` for the stack's RenewAfterMinutes.",
    ),
]
Environment = Annotated[
    str | None, typer.Option(metavar="ENVIRONMENT", help="Binance's live (the default), demo or testnet.")
]
Product = Annotated[
    str | None,
    typer.Option(metavar="PRODUCT", help="usdm (the default), coinm, portfolio, portfolio-pro or options."),
]
CreateIfMissing = Annotated[
    bool | None,
    typer.Option(help="Create a listenKey when Binance has none (the default), or raise an alarm instead."),
]


def looks_like_a_key(account_id: str) -> bool:
    """Return whether this has the form of Binance's API keys. An account's id may have it, too."""
    return bool(_LOOKS_LIKE_A_KEY.fullmatch(account_id))


def check_id(account_id: str) -> None:
    """Raise CliError if this cannot be an account's id, or is more likely an API key given by mistake."""
    if looks_like_a_key(account_id):
        raise CliError(
            "that looks like an API key, not an account: leave it out, the command prompts for it (it may be "
            "in your shell's history now)"
        )
    if not ACCOUNT_ID.fullmatch(account_id):
        raise CliError("an account's id must be 1 to 64 of A-Z a-z 0-9 . _ -")


def check_product(product: str) -> None:
    """Raise CliError unless this is one of PRODUCTS. A long value is not quoted: it may be an API key."""
    if product not in PRODUCTS:
        quoted = f", not {product!a}" if len(product) <= _LONGEST_QUOTED else ""
        why = f" ({NOT_KEPT[product]})" if product in NOT_KEPT else ""
        raise CliError(f"the product must be one of {', '.join(PRODUCTS)}{quoted}{why}")


def check_place(product: str, environment: str) -> None:
    """Raise CliError if Binance has no such product in this environment."""
    if product in PRODUCTS and not endpoint_name(product, environment):
        raise CliError(f"Binance has no {product} in the {environment} environment")


def attributes(
    create_if_missing: bool | None,
    renew_after: str | None,
    environment: str | None = None,
    product: str | None = None,
) -> dict[str, Any]:
    """Return the attributes that these options set; the value is None if an option removes the attribute.

    Raises CliError if an option's value is invalid.
    """
    row: dict[str, Any] = {}
    if environment is not None:
        if environment not in ENVIRONMENTS:
            raise CliError(f"--environment must be one of {', '.join(ENVIRONMENTS)}")
        row["environment"] = {"S": environment}
    if create_if_missing is not None:
        row["createIfMissing"] = {"BOOL": create_if_missing}
    if renew_after == STACKS_OWN:
        row["renewAfterMinutes"] = None
    elif renew_after is not None:
        if not re.fullmatch(r"[0-9]{1,2}", renew_after) or not 1 <= int(renew_after) <= MAX_RENEW_AFTER:
            raise CliError(
                f"--renew-after must be a whole number of minutes from 1 to {MAX_RENEW_AFTER}, or "
                f"{STACKS_OWN}: the stack's RenewAfterMinutes"
            )
        row["renewAfterMinutes"] = {"N": str(int(renew_after))}
    if product is not None:
        check_product(product)
        row["product"] = {"S": product}
    return row


def as_dict(account: Account) -> dict[str, Any]:
    """Return an account as --json prints it."""
    return {
        "accountId": account.id,
        "product": account.product or None,
        "environment": account.environment,
        "enabled": account.enabled,
        "createIfMissing": account.create_if_missing,
        "renewAfterMinutes": account.renew_after,
        "secretId": account.secret_id or None,
        "secretField": account.secret_field or None,
        "problem": account.problem.message if account.problem else None,
    }
