"""`listenkeys accounts`: add, list and change accounts."""

import getpass
import sys
from typing import Annotated, Any

import typer
from rich.text import Text

from listenkeys.model import Account
from listenkeys.products import LIVE
from listenkeys.view.remedies import as_argument

from .api_keys import length_note
from .chosen import chosen
from .errors import CliError
from .group import command
from .importing import import_file
from .output import Columns, Problems, note, show, show_json
from .registry import Registry, Wanted
from .remove import remove
from .rows import (
    STACKS_OWN,
    CreateIfMissing,
    Environment,
    Product,
    RenewAfter,
    as_dict,
    attributes,
    check_id,
    check_place,
)
from .stack import AccountIds, Connect, InSecret, on_stack

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Add, import, list, change, enable, disable and remove accounts.",
    epilog="Example: listenkeys accounts add alice",
)

NewAccount = Annotated[
    str,
    typer.Argument(
        metavar="NAME", show_default=False, help="An id of your choice: 1 to 64 of A-Z a-z 0-9 . _ -"
    ),
]
_MAX_INPUT = 4096


# An extra argument could be an API key, and the parser's error would quote it.
@command(app, "accounts add alice", context_settings={"allow_extra_args": True})
@on_stack
def add(
    context: typer.Context,
    account: NewAccount,
    product: Product = None,
    secret: Annotated[
        str | None,
        typer.Option(
            metavar="SECRET", help="The secret to keep the API key in; by default SecretPrefix/NAME."
        ),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="The field of the secret's JSON; by default apiKey, or NAME with --secret.",
        ),
    ] = None,
    environment: Environment = None,
    create_if_missing: CreateIfMissing = None,
    renew_after: RenewAfter = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Replace the API key of an account that exists, or one that a removed account left.",
        ),
    ] = False,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Add an account, or replace its API key.

    Prompts for the API key without showing it, or reads it from standard input. Does not need the API key's
    secret.
    """
    if context.args:
        raise CliError(
            "add takes one account only, and prompts for the API key or reads it from standard input (if you "
            "typed the API key just now, it may be in your shell's history)"
        )
    check_id(account)
    stack = connect()
    product = product and product.lower()
    wanted = Wanted(account, product, secret, field, create_if_missing, renew_after, replace, environment)
    registry = Registry(stack)

    def ask() -> str:
        key = _api_key(account)
        if said := length_note({account: key}, stack):
            note(said)
        return key

    added, before = registry.add(wanted, ask, note)
    if as_json:
        show_json({**as_dict(added), "replaced": before is not None})
        return
    kind = added.product if added.environment == LIVE else f"{added.product}, {added.environment}"
    where = f"field {added.secret_field} of secret {added.secret_id}"
    if not before:
        sweep = stack.minutes("SweepExpression", 5)
        does = "creates its listenKey" if added.create_if_missing else "extends its listenKey, if it has one"
        show(f"{account} added ({kind}); its API key is in {where}.")
        if registry.recorded([account]):
            show(
                "A removed account of this name left a listenKey. While it lives, only the tick, every half "
                "hour, tries the new API key.",
                f"`listenkeys renew --force {as_argument(account)}` does it now.",
            )
            return
        show(
            f"The next sweep, within {sweep} minutes, {does}.",
            f"`listenkeys renew {as_argument(account)}` does it now.",
        )
        return
    show(f"{account}'s API key is replaced ({where}).")
    if (before.secret_id, before.secret_field) != (added.secret_id, added.secret_field):
        was = f"field {before.secret_field} of secret {before.secret_id}"
        show(f"It was in {was}, which may still hold the old one.")
    if (added.product, added.environment) != (before.product, before.environment):
        was = f"{before.product}, {before.environment}"
        show(f"It is now {added.product}, {added.environment}; it was {was}.")
    if added.enabled:
        tick = stack.minutes("ScheduleExpression", 30)
        show(
            f"The next renewal uses it, in {tick} minutes at most.",
            f"`listenkeys renew --force {as_argument(account)}` does it now.",
        )
    else:
        enable = f"`listenkeys accounts enable {as_argument(account)}`"
        show(f"The account is disabled: {enable} enables it.")


@command(app, "accounts list", name="list")
@on_stack
def list_(secret: InSecret = None, *, connect: Connect, as_json: bool) -> None:
    """List the accounts and where their API keys are stored."""
    registry = Registry(connect())
    accounts = registry.all() if secret is None else chosen(registry, None, secret)
    if as_json:
        show_json([as_dict(account) for account in accounts])
        return
    if not accounts:
        show("no accounts yet: `listenkeys accounts add NAME` adds one")
        return
    table = Columns(
        "account", "product", "environment", "enabled", "create if missing", "renew after", "secret", "field",
        optional=("field", "environment", "renew after", "create if missing", "product"),
    )  # fmt: skip
    for account in accounts:
        if account.problem:
            shown = ("?", "?", "invalid", "?", "?", "?", "?")
            table.add(Text(account.id), *[Text(each, style="red") for each in shown])
            continue
        table.add(
            Text(account.id),
            Text(account.product),
            Text(account.environment),
            Text("yes" if account.enabled else "no"),
            Text("yes" if account.create_if_missing else "no"),
            Text(f"{account.renew_after} min" if account.renew_after else "-"),
            Text(account.secret_id),
            Text(account.secret_field),
        )
    show(table)
    if broken := [(a.id, a.problem.code, a.problem.message) for a in accounts if a.problem]:
        show("", Problems(broken))


@command(app, "accounts set alice --renew-after 5", name="set")
@on_stack
def set_(
    accounts: AccountIds = None,
    secret: InSecret = None,
    renew_after: RenewAfter = None,
    create_if_missing: CreateIfMissing = None,
    environment: Environment = None,
    product: Product = None,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Change how accounts are renewed.

    Does not touch their API keys.
    """
    product = product and product.lower()
    row = attributes(create_if_missing, renew_after, environment, product)
    if not row:
        raise CliError(
            "nothing to set: pass --renew-after, --environment, --product, --create-if-missing or "
            "--no-create-if-missing"
        )
    stack = connect()
    registry = Registry(stack)
    said = []
    if renew_after:
        minutes = (
            stack.parameters.get("RenewAfterMinutes", "30") if renew_after == STACKS_OWN else renew_after
        )
        said.append(f"is renewed by the next sweep once its listenKey is {minutes} minutes old")
    if create_if_missing is not None:
        gets = "a new listenKey" if create_if_missing else "an alarm instead of a new listenKey"
        said.append(f"gets {gets} if Binance has none for it")
    if environment:
        said.append(
            f"uses Binance's {environment} environment from its next renewal on (`listenkeys renew --force "
            "NAME` does it now)"
        )
    if product:
        said.append(
            f"gets a listenKey of {product} at its next renewal (`listenkeys renew NAME` does it now)"
        )
    says = " and ".join(said) + "."
    _change(registry, chosen(registry, accounts, secret), row, as_json, says, "changed", f"Each {says}")


@command(app, "accounts enable alice")
@on_stack
def enable(
    accounts: AccountIds = None,
    secret: InSecret = None,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Start renewing disabled accounts again.

    The next run renews each that is due. `listenkeys renew NAME` renews it now.
    """
    registry = Registry(connect())
    one = "is enabled. The next run renews it if it is due; `listenkeys renew NAME` renews it now."
    them = f"--secret {secret}" if secret else "NAME"
    several = f"The next run renews those that are due; `listenkeys renew {them}` renews them now."
    row = {"enabled": {"BOOL": True}}
    _change(registry, chosen(registry, accounts, secret), row, as_json, one, "enabled", several)


@command(app, "accounts disable alice bob")
@on_stack
def disable(
    accounts: AccountIds = None,
    secret: InSecret = None,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Stop renewing accounts, without an alarm.

    Their listenKeys expire within 60 minutes. Their rows and API keys stay, and `listenkeys accounts enable
    NAME` renews them again.
    """
    registry = Registry(connect())
    one = "is disabled. Its listenKey, if it has one, expires within 60 minutes, and no alarm is raised."
    several = "Their listenKeys expire within 60 minutes, and no alarm is raised."
    row = {"enabled": {"BOOL": False}}
    _change(registry, chosen(registry, accounts, secret), row, as_json, one, "disabled", several)


command(app, "accounts import accounts.csv", "import")(import_file)
command(app, "accounts remove alice bob --with-secret")(remove)


def _change(
    registry: Registry,
    known: list[Account],
    row: dict[str, Any],
    as_json: bool,
    one: str,
    what: str,
    several: str,
) -> None:
    """Change the rows, and say so: `one` after a single account's id, else `what` was done, and `several`.

    NAME stands for the ids.
    """
    for account in known:
        now = {"product": {"S": account.product}, "environment": {"S": account.environment}} | row
        check_place(now["product"]["S"], now["environment"]["S"])
    changed: list[Account] = []
    ids: list[str] = []
    try:
        for account in known:
            changed.append(registry.change(account.id, row))
    finally:  # an error at a later account must not hide what was changed before it
        for account in [] if as_json else changed:
            if account.problem and account.enabled:
                show(f"{account.id} is still invalid: {account.problem.message}")
            else:
                ids.append(account.id)
        ids.sort()  # those that begin with a dash first
        names = as_argument(" ".join(ids))
        off = [] if "enabled" in row else [account.id for account in changed if not account.enabled]
        if len(ids) == 1:
            once = "is disabled. After you enable it, it " if off else ""
            show(f"{ids[0]} {once}{one.replace('NAME', names)}")
        elif ids:
            show(f"{len(ids)} accounts {what}: {', '.join(ids)}", several.replace("NAME", names))
            if off:
                show(f"These are disabled, and not renewed before you enable them: {', '.join(off)}")
    if as_json:
        show_json([as_dict(account) for account in changed])


def _api_key(account: str) -> str:
    if sys.stdin.isatty():
        key = getpass.getpass(f"API key of {account} (not shown): ").strip()
    else:
        key = sys.stdin.read(_MAX_INPUT).removeprefix("\ufeff").strip()
    if not key:
        raise CliError("no API key was given: enter it at the prompt, or pipe it in")
    return key
