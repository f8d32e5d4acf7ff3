"""`listenkeys accounts remove`: removes accounts, after asking, and says what happened to their API keys."""

import sys
from typing import Annotated, Any

import typer

from listenkeys.model import Account
from listenkeys.view.remedies import as_argument

from .api_keys import TakenOut
from .chosen import chosen
from .errors import CliError, explain
from .output import confirmed, plain, show, show_json, some_of
from .registry import Registry
from .rows import as_dict
from .stack import AccountIds, Connect, InSecret, on_stack

_MOST_NAMES = 20


@on_stack
def remove(
    accounts: AccountIds = None,
    secret: InSecret = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    with_secret: Annotated[
        bool,
        typer.Option(
            "--with-secret",
            help="Also remove their API keys. A secret without other fields can be restored for 30 days; a "
            "field of another only from an older version of the secret.",
        ),
    ] = False,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Remove accounts.

    Asks for confirmation. The accounts' history stays, and their API keys stay unless you pass --with-secret.
    """
    registry = Registry(connect())
    known = chosen(registry, accounts, secret)
    groups: dict[str, list[Account]] = {}
    for account in known:
        groups.setdefault(account.secret_id if with_secret else account.id, []).append(account)
    if with_secret:
        for first, *_ in groups.values():
            try:
                if first.secret_id:
                    registry.check_key(first)
            except CliError as error:  # checked now, because only the row names the secret
                raise CliError(f"{first.id} was not removed: {error}") from None
    if not yes:
        if not sys.stdin.isatty():
            raise CliError("remove asks for confirmation, but this is not a terminal: pass --yes")
        if not confirmed(_question(known, with_secret)):
            raise CliError("nothing was removed")
    removed: list[tuple[Account, TakenOut | None]] = []
    for group in groups.values():
        gone: list[Account] = []
        try:
            for account in group:
                registry.remove(account)
                gone.append(account)
        finally:  # an error at a later account must not hide what was removed before it
            taken = _taken(registry, gone) if with_secret else {}
            for account in gone:
                removed.append((account, taken.get(account.id)))
                if not as_json:
                    _report(account, taken.get(account.id), last=account is gone[-1])
    if as_json:
        show_json([_as_dict(account, key) for account, key in removed])
    elif len(removed) > 1:
        show("Their history stays: `listenkeys history NAME` shows it.")
    else:
        history = f"`listenkeys history {as_argument(removed[0][0].id)}` shows it"
        show(f"Its history stays: {history}.")


def _question(accounts: list[Account], with_secret: bool) -> str:
    if len(accounts) > 1:
        and_keys = " and their API keys" if with_secret else ""
        names = plain(some_of([account.id for account in accounts], _MOST_NAMES))
        return (
            f"Remove {len(accounts)} accounts{and_keys} ({names})? Their listenKeys expire within 60 minutes."
        )
    and_key = f" and its API key ({plain(_place(accounts[0]))})" if with_secret else ""
    ends = "Its listenKey, if it has one, expires within 60 minutes."
    return f"Remove {plain(accounts[0].id)}{and_key}? {ends}"


def _taken(registry: Registry, gone: list[Account]) -> dict[str, TakenOut]:
    """Remove the API keys of removed accounts, which share one secret, in one version of it."""
    if not (gone and gone[0].secret_id):
        return {}
    try:
        return registry.take_keys(gone)
    except Exception as error:  # noqa: BLE001 - the rows have been removed all the same
        # The rows are gone, so a second `remove` would not find the secret.
        names = ", ".join(account.id for account in gone)
        were, their = ("were", "their API keys are") if len(gone) > 1 else ("was", "its API key is")
        raise CliError(
            f"{names} {were} removed, but {their} still in secret {gone[0].secret_id}: {explain(error)}"
        ) from None


def _report(account: Account, taken: TakenOut | None, last: bool) -> None:
    of_key = f" {_of_key(account, taken)}" if last or not (taken and taken.what == "deleted") else ""
    show(f"{account.id} was removed.{of_key}")
    if last and taken and taken.unused:
        delete = f"`aws secretsmanager delete-secret --secret-id {account.secret_id}` deletes it"
        show(
            f"The secret {account.secret_id} stays: it has other fields, which no account uses. If nothing "
            f"else needs them, {delete}."
        )


def _as_dict(account: Account, taken: TakenOut | None) -> dict[str, Any]:
    until = taken.until.isoformat() if taken and taken.until else None
    return {**as_dict(account), "key": taken.what if taken else "kept", "restorableUntil": until}


def _of_key(account: Account, taken: TakenOut | None) -> str:
    place = _place(account)
    match taken.what if taken else "kept":
        case "field":
            return f"Its API key was removed from {place}."
        case "deleted":
            until = f"{taken.until:%Y-%m-%d}" if taken and taken.until else "then"
            back = f"`aws secretsmanager restore-secret --secret-id {account.secret_id}` restores it"
            return f"The secret {account.secret_id} was deleted; {back} until {until}."
        case "gone":
            return f"There was no secret {account.secret_id} to delete."
        case _ if taken:
            return f"Its API key stays in {place}, because another account uses it."
        case _:
            return f"Its API key stays {f'in {place}' if account.secret_id else 'where it is'}."


def _place(account: Account) -> str:
    return f"field {account.secret_field} of secret {account.secret_id}"
