"""`listenkeys accounts`: what it asks and what it answers."""

import getpass
import sys
from typing import Annotated, Any

import typer
from rich.text import Text

from listenkey_keeper.program.aws.accounts import Account

from .errors import CliError, explain
from .output import Columns, Problems, show, show_json
from .registry import Registry, Wanted, check_id
from .stack import AsJson, Profile, Region, StackName, connect

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The accounts whose listenKeys are kept alive."
)

AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT", show_default=False)]
AccountIds = Annotated[list[str], typer.Argument(metavar="ACCOUNT...", show_default=False)]
_MAX_INPUT = 4096


# What comes after the account could be a key, and the parser would quote it in its complaint.
@app.command(context_settings={"allow_extra_args": True})
def add(
    context: typer.Context,
    account: AccountId,
    product: Annotated[
        str | None, typer.Option(help="usdm, coinm, portfolio or options; usdm unless said.")
    ] = None,
    secret: Annotated[
        str | None, typer.Option(help="Secret to put the key into: PREFIX/ACCOUNT unless said.")
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(help="Field of the secret: apiKey, or ACCOUNT in a --secret of several accounts."),
    ] = None,
    create_if_missing: Annotated[
        bool | None,
        typer.Option(help="Whether to start a listenKey when Binance has none: yes unless said."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Give an account another key.")] = False,
    stack_name: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Add an account, or give it another API key.

    The key is asked for and not shown, or read from standard input. No signing secret is needed.
    """
    if context.args:
        raise CliError(
            "add takes one account and no key: the API key is asked for, or read from standard input (if you "
            "have just given it, your shell's history may hold it)"
        )
    check_id(account)
    stack = connect(stack_name, region, profile)
    wanted = Wanted(account, product, secret, field, create_if_missing, replace)
    added, before = Registry(stack).add(wanted, lambda: _api_key(account))
    if as_json:
        show_json({**_as_dict(added), "replaced": before})
        return
    where = f"field {added.secret_field} of secret {added.secret_id}"
    if not before:
        sweep = stack.minutes("SweepExpression", 5)
        show(
            f"{account} added ({added.product}); its key is in {where}.",
            f"It is live within {sweep} minutes; `listenkeys renew {account}` does it now.",
        )
        return
    show(f"{account} has its new key, in {where}.")
    if added.enabled:
        tick = stack.minutes("ScheduleExpression", 30)
        show(f"The next tick uses it, within {tick} minutes; `listenkeys renew {account}` does it now.")
    else:
        show(f"It is disabled: `listenkeys accounts enable {account}` lets it be renewed.")


@app.command("list")
def list_(
    stack_name: StackName = None, region: Region = None, profile: Profile = None, as_json: AsJson = False
) -> None:
    """Show every account: its row, not its key."""
    accounts = Registry(connect(stack_name, region, profile)).all()
    if as_json:
        show_json([_as_dict(account) for account in accounts])
        return
    if not accounts:
        show("no accounts yet: `listenkeys accounts add` adds one")
        return
    names = ("account", "product", "enabled", "creates", "secret", "field")
    table = Columns(*names, optional=("creates", "field", "product"))
    for account in accounts:
        if account.problem:
            table.add(Text(account.id), *[Text("?", style="red")] * 5)
            continue
        table.add(
            Text(account.id),
            Text(account.product),
            Text("yes" if account.enabled else "no", style="green" if account.enabled else "dim"),
            Text("yes" if account.create_if_missing else "no"),
            Text(account.secret_id),
            Text(account.secret_field),
        )
    show(table)
    if broken := [(a.id, a.problem.code, a.problem.message) for a in accounts if a.problem]:
        show("", Problems(broken))


@app.command()
def enable(
    accounts: AccountIds,
    stack_name: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Renew these accounts again."""
    stack = connect(stack_name, region, profile)
    said = (
        f"enabled: renewed again from the next sweep on, within {stack.minutes('SweepExpression', 5)} minutes"
    )
    _set_enabled(Registry(stack), accounts, True, said, as_json)


@app.command()
def disable(
    accounts: AccountIds,
    stack_name: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Leave these accounts alone: no renewal, no alarm. Their listenKeys die within 60 minutes."""
    registry = Registry(connect(stack_name, region, profile))
    said = "disabled: its listenKey is left to die within 60 minutes, and raises no alarm"
    _set_enabled(registry, accounts, False, said, as_json)


@app.command()
def remove(
    account: AccountId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    with_secret: Annotated[
        bool, typer.Option("--with-secret", help="Remove its key, too; it can be restored for 30 days.")
    ] = False,
    stack_name: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Remove an account. Its ledger stays, and its key unless told otherwise."""
    registry = Registry(connect(stack_name, region, profile))
    known = registry.get(account)
    if not yes:
        if not sys.stdin.isatty():
            raise CliError("remove asks before it removes, and there is no terminal: say --yes")
        if not typer.confirm(f"Remove {account}? Its listenKey dies within 60 minutes.", err=True):
            raise CliError(f"{account} stays")
    registry.remove(known)
    taken = None
    if with_secret and known.secret_id:
        try:
            taken = registry.take_key(known)
        except Exception as error:  # noqa: BLE001 - whatever it is, the row is gone
            # The row is gone, so a second `remove` would not find the secret.
            raise CliError(
                f"{account} is removed, but its key is still in secret {known.secret_id}: {explain(error)}"
            ) from None
    if as_json:
        until = taken.until.isoformat() if taken and taken.until else None
        show_json({**_as_dict(known), "key": taken.what if taken else "kept", "restorableUntil": until})
        return
    place = f"field {known.secret_field} of secret {known.secret_id}"
    match taken.what if taken else "kept":
        case "field":
            key = f"Its key is taken out of {place}."
        case "deleted":
            until = f"{taken.until:%Y-%m-%d}" if taken and taken.until else "then"
            back = f"until {until} `aws secretsmanager restore-secret` brings it back"
            key = f"The secret {known.secret_id} is deleted; {back}."
        case "gone":
            key = f"There was no secret {known.secret_id} any more."
        case _ if taken:
            key = f"Its key stays in {place}: another account uses it."
        case _:
            key = f"Its key stays in {place}." if known.secret_id else "Its key stays where it is."
    show(f"{account} removed. {key}", f"Its ledger stays: `listenkeys history {account}` shows it.")


def _set_enabled(registry: Registry, ids: list[str], enabled: bool, said: str, as_json: bool) -> None:
    for id_ in ids:
        registry.enable(id_, enabled)
        if not as_json:
            show(f"{id_} {said}")
    if as_json:
        show_json([_as_dict(registry.get(id_)) for id_ in ids])


def _api_key(account: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(f"API key of {account} (it does not show): ")
    key = sys.stdin.read(_MAX_INPUT).rstrip("\r\n")
    if not key:
        raise CliError(
            "no API key on standard input: pipe it in, or run this in a terminal to be asked for it"
        )
    return key


def _as_dict(account: Account) -> dict[str, Any]:
    return {
        "accountId": account.id,
        "product": account.product or None,
        "enabled": account.enabled,
        "createIfMissing": account.create_if_missing,
        "secretId": account.secret_id or None,
        "secretField": account.secret_field or None,
        "problem": account.problem.message if account.problem else None,
    }
