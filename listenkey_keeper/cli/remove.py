"""`listenkeys accounts remove`: asks for confirmation, and says what happened to the API key."""

import sys
from typing import Annotated

import typer

from listenkeys.view.remedies import as_argument

from .errors import CliError, explain
from .output import confirmed, plain, show, show_json
from .registry import Registry
from .rows import as_dict
from .stack import AccountId, Connect, on_stack


@on_stack
def remove(
    account: AccountId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    with_secret: Annotated[
        bool,
        typer.Option(
            "--with-secret",
            help="Also remove its API key. A secret of its own can be restored for 30 days; a field of a "
            "shared secret cannot.",
        ),
    ] = False,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Remove an account.

    Asks for confirmation. The account's history stays, and its API key stays unless you pass --with-secret.
    """
    registry = Registry(connect())
    known = registry.get(account)
    place = f"field {known.secret_field} of secret {known.secret_id}"
    if with_secret and known.secret_id:
        try:
            registry.check_key(known)
        except CliError as error:  # before the row is removed, which names the secret
            raise CliError(f"{account} was not removed: {error}") from None
    if not yes:
        if not sys.stdin.isatty():
            raise CliError("remove asks for confirmation, but this is not a terminal: pass --yes")
        and_key = f" and its API key ({plain(place)})" if with_secret else ""
        ends = "Its listenKey, if it has one, expires within 60 minutes."
        if not confirmed(f"Remove {plain(account)}{and_key}? {ends}"):
            raise CliError(f"{account} was not removed")
    registry.remove(known)
    taken = None
    if with_secret and known.secret_id:
        try:
            taken = registry.take_key(known)
        except Exception as error:  # noqa: BLE001 - the row has been removed all the same
            # The row is gone, so a second `remove` would not find the secret.
            raise CliError(
                f"{account} was removed, but its API key is still in secret {known.secret_id}: "
                f"{explain(error)}"
            ) from None
    if as_json:
        until = taken.until.isoformat() if taken and taken.until else None
        show_json({**as_dict(known), "key": taken.what if taken else "kept", "restorableUntil": until})
        return
    match taken.what if taken else "kept":
        case "field":
            key = f"Its API key was removed from {place}."
        case "deleted":
            until = f"{taken.until:%Y-%m-%d}" if taken and taken.until else "then"
            back = f"`aws secretsmanager restore-secret` restores it until {until}"
            key = f"The secret {known.secret_id} was deleted; {back}."
        case "gone":
            key = f"There was no secret {known.secret_id} to delete."
        case _ if taken:
            key = f"Its API key stays in {place}, because another account uses it."
        case _:
            key = f"Its API key stays {f'in {place}' if known.secret_id else 'where it is'}."
    history = f"`listenkeys history {as_argument(account)}` shows it"
    show(f"{account} was removed. {key}", f"Its history stays: {history}.")
