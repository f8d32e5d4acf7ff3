"""`listenkeys`: its commands.

Exit codes: 0 ok, 1 action needed (a key at risk or not renewed, a failed check), 2 the command failed,
130 Ctrl-C, 141 the reader of a pipe has closed it. `listen` and `status --watch` run until Ctrl-C, and
then exit with 0.
"""

import sys
from typing import Annotated

import typer

from listenkey_keeper import __version__
from listenkeys.model import LEASE
from listenkeys.view.remedies import as_argument
from listenkeys.view.status import AccountStatus, read_status

from . import accounts
from .check import check as check_stack
from .day import DAY, day_of
from .errors import CliError
from .findings import check_view, to_dict
from .group import OneLineErrors
from .history import expiry, history_table, read_history
from .listen import listen
from .output import can_draw, confirmed, console, show, show_json, waiting
from .paging import HOLD
from .registry import Registry
from .renew import event_of, failed, invoke, report_view
from .stack import AccountId, Connect, Stack, in_local_environment, now, on_stack
from .status import StatusTable, status_json
from .watch import watch

ACTION_NEEDED = 1


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Manage the accounts whose listenKeys listenkey-keeper keeps alive.",
    epilog="Exit codes: 0 ok; 1 action needed (a key at risk or not renewed, a failed check); 2 the command "
    "failed; 130 stopped by Ctrl-C (listen and status --watch exit with 0); 141 the reader of "
    "a pipe closed it.",
)
app.add_typer(accounts.app, name="accounts")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"listenkeys {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="On an error, show where in the code it happened.")
    ] = False,
) -> None:
    pass


@app.command()
@on_stack
def status(
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Refresh the status until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option(min=1, max=60, help="Seconds between refreshes (with --watch).")
    ] = 2.0,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Show how long each listenKey still lives, and what is wrong.

    Exits with 1 when an enabled account has no live key, or one with less than 15 minutes left.
    """
    stack = connect()
    dynamodb = stack.client("dynamodb")

    def read() -> list[AccountStatus]:
        tables = stack.outputs["AccountsTableName"], stack.outputs["ListenKeysTableName"]
        return read_status(dynamodb, *tables, now())

    if watching:
        if as_json or not console().is_terminal:
            raise CliError(
                "--watch needs a terminal and no --json: leave --watch out to read the status once"
            )
        watch(console(), lambda: _title(stack), read, every)
        return
    rows = read()
    if as_json:
        show_json(status_json(rows))
    else:
        show(StatusTable(rows))
    if any(row.at_risk for row in rows):
        raise typer.Exit(ACTION_NEEDED)


@app.command()
@on_stack
def check(
    paging: Annotated[
        bool,
        typer.Option(
            "--page", help="Also test the messages: after asking, set each alarm to ALARM for 3 seconds."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Check the deployed stack, and say what to do about each problem.

    Checks the last deployment, the settings in samconfig.toml, the rules, KMS keys, failed runs and messages,
    the alarms and the mail. Then makes the function do a dry run and send Binance one request with a made-up
    API key. Changes nothing. With --page, everybody who gets the alarms gets test messages. Exits with 1
    when action is needed.
    """
    stack = connect()
    if paging and not yes and not in_local_environment():
        if not sys.stdin.isatty():
            raise CliError("--page asks for confirmation, but this is not a terminal: pass --yes")
        if not confirmed(
            f"Set the alarms of {stack.name} to ALARM, and after {HOLD:.0f} seconds to OK? "
            "Everybody who gets its mails and posts gets them, and they look real."
        ):
            raise CliError("no test message was sent")
    findings = list(check_stack(stack, paging))
    if as_json:
        show_json(to_dict(findings))
    else:
        show(check_view(findings))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(ACTION_NEEDED)


@app.command()
@on_stack
def history(
    account: AccountId,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many attempts to list.")] = 20,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Show an account's last 24 hours and its attempts, newest first."""
    stack = connect()
    Registry(stack).check_known(account)
    dynamodb, tables, at = stack.client("dynamodb"), stack.outputs, now()
    draw = not as_json and can_draw(console().options)
    # A key renewed an hour before the day began was alive in it.
    since = at - DAY - LEASE if draw else None
    entries = read_history(dynamodb, tables["LedgerTableName"], account, limit, since)
    if not entries:
        Registry(stack).get(account)  # an account that was removed still has its ledger
    if as_json:
        show_json(entries)
    elif entries:
        if draw:
            changes_only = stack.parameters.get("LedgerMode") == "changes"
            until = expiry(dynamodb, tables["ListenKeysTableName"], account) if changes_only else None
            show(day_of(entries, at, until), "")
        show(history_table(entries[:limit]))
    else:
        show(f"{account} has no attempts yet: `listenkeys renew {as_argument(account)}` tries it now")


@app.command()
@on_stack
def renew(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ACCOUNT", help="The ids of the accounts; by default all.", show_default=False
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also renew accounts that were renewed less than 5 minutes ago.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what a run would do; send nothing.")
    ] = False,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Renew accounts now.

    Runs the function, waits until it has finished and shows its report. Exits with 1 when an account could
    not be renewed.
    """
    event = event_of(ids or [], force, dry_run)
    stack = connect()
    for id_ in ids or ():
        Registry(stack).check_known(id_)
    function = stack.outputs["KeepaliveFunctionName"]
    with waiting("waiting for the run to end"):
        report = invoke(stack.client("lambda"), function, event)
    if as_json:
        show_json(report)
    else:
        show(report_view(report))
    if failed(report):
        raise typer.Exit(ACTION_NEEDED)


app.command()(listen)


def _title(stack: Stack) -> str:
    return f"{stack.name} in {stack.region}, {now():%H:%M:%S} UTC, Ctrl-C to stop"


if __name__ == "__main__":
    app(prog_name="listenkeys")
