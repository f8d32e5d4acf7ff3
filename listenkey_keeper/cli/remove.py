"""`listenkeys accounts remove`: removes accounts, after asking, and says what happened to their API keys."""

import contextlib
import sys
from typing import Annotated, Any

import typer

from listenkeys.errors import Unavailable
from listenkeys.model import Account
from listenkeys.view.remedies import as_argument

from .api_keys import TakenOut
from .chosen import Unused, chosen
from .errors import CliError, explain
from .output import confirmed, plain, show, show_done, show_json, some_of
from .registry import Registry, may_use
from .rows import as_dict
from .stack import AccountIds, Connect, InSecret, on_stack

_MOST_NAMES = 20
_REMOVE = "listenkeys accounts remove --with-secret --secret"


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
    With --with-secret and --secret, deletes a secret that no account uses any more.
    """
    registry = Registry(connect())
    try:
        known = chosen(registry, accounts, secret)
    except Unused:
        fields = registry.left_in(secret) if secret and with_secret else None
        if not secret or fields is None:
            raise
        _delete(registry, secret, fields, yes, as_json)
        return
    groups: dict[str, list[Account]] = {}
    for account in known:
        groups.setdefault(account.secret_id, []).append(account)
    if with_secret:
        for first, *_ in groups.values():
            try:
                if first.secret_id:
                    registry.check_key(first)
            except CliError as error:  # checked now, because only the row names the secret
                raise CliError(f"{first.id} was not removed: {error}") from None
    _confirm(_question(known, with_secret), yes)
    removed: list[tuple[Account, TakenOut | None]] = []
    try:
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
                    if account.problem and not as_json:
                        own = registry.own_secret(account.id)
                        show_done(
                            f"{account.id} was removed. Its row was invalid, so its API key was not looked "
                            f"for. If it has one, it stays, by default in secret {own}."
                        )
                    elif not as_json:
                        _report(account, taken.get(account.id), gone)
    finally:
        if removed and not (as_json or with_secret):
            _say_what_is_left(registry, [account for account, _ in removed])
    if as_json:
        show_json([_as_dict(account, key) for account, key in removed])
    elif len(removed) > 1:
        show("Their history stays: `listenkeys history NAME` shows it.")
    else:
        history = f"`listenkeys history {as_argument(removed[0][0].id)}` shows it"
        show(f"Its history stays: {history}.")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError("remove asks for confirmation, but this is not a terminal: pass --yes")
    if not confirmed(question):
        raise CliError("nothing was removed")


def _delete(registry: Registry, secret: str, fields: int, yes: bool, as_json: bool) -> None:
    """Delete a secret that no account uses, as `remove` without --with-secret leaves it."""
    content = "1 field" if fields == 1 else f"{fields} fields"
    _confirm(f"No account uses the secret {plain(secret)} ({content}). Delete it?", yes)
    taken = registry.keys.delete(secret)
    if as_json:
        show_json([{"accountId": None, "secretId": secret, **_as_taken(taken)}])
    else:
        show(_deleted(secret, taken))


def _question(accounts: list[Account], with_secret: bool) -> str:
    if len(accounts) > 1:
        and_keys = " and their API keys" if with_secret else ""
        names = plain(some_of([account.id for account in accounts], _MOST_NAMES))
        stay = "" if with_secret else " Their API keys stay: --with-secret removes them, too."
        return (
            f"Remove {len(accounts)} accounts{and_keys} ({names})? Their listenKeys expire within 60 "
            f"minutes.{stay}"
        )
    with_key = with_secret and not accounts[0].problem
    and_key = f" and its API key ({plain(_place(accounts[0]))})" if with_key else ""
    ends = "Its listenKey, if it has one, expires within 60 minutes."
    if accounts[0].problem:
        ends += " Its row is invalid, so its API key stays."
    elif not with_secret:
        ends += " Its API key stays: --with-secret removes it, too."
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


def _report(account: Account, taken: TakenOut | None, gone: list[Account]) -> None:
    """Say that an account was removed, after the last of a secret's also what became of their API keys."""
    last = account is gone[-1]
    of_all = taken is None or taken.what == "deleted"
    if taken is None and len(gone) > 1:
        fields = some_of([each.secret_field for each in gone])
        of_key = f"Their API keys stay in fields {fields} of secret {account.secret_id}."
    else:
        of_key = _of_key(account, taken)
    show_done(f"{account.id} was removed.{f' {of_key}' if last or not of_all else ''}")
    if last and taken and taken.unused:
        delete = f"`{_REMOVE} {account.secret_id}` deletes it"
        show_done(
            f"The secret {account.secret_id} stays: it has other fields, which no account uses. If nothing "
            f"else needs them, {delete}."
        )


def _say_what_is_left(registry: Registry, removed: list[Account]) -> None:
    """Say how to delete API keys that no account uses any more."""
    secrets = list(dict.fromkeys(account.secret_id for account in removed if account.secret_id))
    left: list[Account] | None = None
    with contextlib.suppress(Unavailable):  # such as without the permission, which named accounts do not need
        left = registry.all()
    # The printed line removes the accounts that use the secret, so only if there certainly are none.
    unused = [each for each in secrets if left is not None and not may_use(left, each)]
    if len(unused) == 1:
        show(f"No account uses the secret {unused[0]} now: `{_REMOVE} {unused[0]}` deletes it.")
    elif unused:
        show(f"No account uses these {len(unused)} secrets now: `{_REMOVE} SECRET` deletes one.")
    if others := [each for each in secrets if each not in unused]:
        how = "docs/command.md, accounts remove, says how to take out API keys"
        show(f"Another account may use {some_of(others)}: {how}.")


def _as_dict(account: Account, taken: TakenOut | None) -> dict[str, Any]:
    return {**as_dict(account), **_as_taken(taken or TakenOut("kept"))}


def _as_taken(taken: TakenOut) -> dict[str, Any]:
    return {"key": taken.what, "restorableUntil": taken.until.isoformat() if taken.until else None}


def _of_key(account: Account, taken: TakenOut | None) -> str:
    place = _place(account)
    match taken.what if taken else "kept":
        case "field":
            return f"Its API key was removed from {place}."
        case "deleted":
            return _deleted(account.secret_id, taken)
        case "gone":
            return f"There was no secret {account.secret_id} to delete."
        case _ if taken:
            return f"Its API key stays in {place}, because another account uses it."
        case _:
            return f"Its API key stays in {place}."


def _deleted(secret_id: str, taken: TakenOut | None) -> str:
    until = f"{taken.until:%Y-%m-%d}" if taken and taken.until else "then"
    region = f" --region {taken.region}" if taken else ""
    back = f"`aws secretsmanager restore-secret --secret-id {secret_id}{region}` restores it"
    return f"The secret {secret_id} was deleted; {back} until {until}."


def _place(account: Account) -> str:
    return f"field {account.secret_field} of secret {account.secret_id}"
