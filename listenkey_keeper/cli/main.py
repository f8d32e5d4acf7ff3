"""The commands of `listenkeys`. The help text of `app` says what each exit code means."""

import sys
from typing import Annotated

import typer

from listenkey_keeper import __version__
from listenkeys.model import LEASE
from listenkeys.view.remedies import as_argument
from listenkeys.view.status import AccountStatus, read_status

from . import accounts
from .check import check as check_stack
from .chosen import chosen
from .day import DAY, day_of
from .errors import CliError
from .findings import check_view, commands, to_dict
from .group import ACTION_NEEDED, OneLineErrors, command, number
from .history import expiry, history_table, read_history
from .listen import listen
from .output import can_draw, confirmed, console, show, show_json, waiting
from .paging import HOLD
from .registry import Registry, no_such
from .renew import event_of, invoke, needs_action, not_recorded, report_view
from .rows import check_id
from .stack import AccountId, Connect, InSecret, Stack, in_local_environment, now, on_stack
from .status import StatusTable, status_json
from .watch import watch

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Manage the accounts whose listenKeys listenkey-keeper keeps alive.",
    epilog="Exit codes: 0 ok; 1 action needed (status: an account is not ok; renew: an account was not "
    "renewed, or is CHANGED; accounts import: one was not added; check: a check failed); 2 the command "
    "failed, or you answered no; 130 stopped by Ctrl-C (listen and status --watch exit with 0); 141 the "
    "reader of a pipe closed it.\n\n"
    "Example: listenkeys status",
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


@command(app, "status --watch --every 5")
@on_stack
def status(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="The accounts' ids; by default all.", show_default=False),
    ] = None,
    secret: InSecret = None,
    everything: Annotated[
        bool | None,
        typer.Option(
            "--all/--not-ok",
            help="List each account, or only those that are not ok. By default a terminal gets each if there "
            "are at most 20, and a pipe and --json always.",
            show_default=False,
        ),
    ] = None,
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Refresh the status until Ctrl-C.")] = False,
    every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            parser=number("--every", 1, 60),
            help="With --watch: seconds between refreshes, from 1 to 60; 2 by default.",
        ),
    ] = None,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Show how long each listenKey still lives, and what is wrong.

    Exits with 1 unless every enabled account is ok. An account is not ok when its listenKey is dead, missing
    or has less than 15 minutes left, and when its last renewal failed, even if its listenKey is alive. With
    accounts named, only these are shown and count.
    """
    stack = connect()
    dynamodb = stack.client("dynamodb")
    if secret is not None:
        ids = [account.id for account in chosen(Registry(stack), ids, secret)]

    def read() -> list[AccountStatus]:
        tables = stack.outputs["AccountsTableName"], stack.outputs["ListenKeysTableName"]
        rows = read_status(dynamodb, *tables, now())
        if unknown := set(ids or ()) - {row.account.id for row in rows}:
            for id_ in unknown:
                check_id(id_)  # what looks like an API key must not be quoted
            raise no_such(sorted(unknown), [row.account for row in rows], secret=True)
        return [row for row in rows if not ids or row.account.id in ids]

    if watching:
        if as_json or not console().is_terminal:
            raise CliError(
                "--watch needs a terminal and no --json: leave --watch out to read the status once"
            )
        watch(
            console(), lambda: _title(stack), lambda: StatusTable(read(), everything=everything), every or 2.0
        )
        return
    if every:
        raise CliError("--every needs --watch: `listenkeys status --watch --every 5`")
    rows = read()
    found = status_json(rows)
    if as_json:
        if everything is False:
            found["accounts"] = [each for each in found["accounts"] if each["status"] != "ok"]
        show_json(found)
    else:
        show(StatusTable(rows, everything=everything if console().is_terminal else everything is not False))
    if found["status"] != "ok":
        raise typer.Exit(ACTION_NEEDED)


@command(app, "check --page")
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
    the alarms and their email address. Then makes the function do a dry run and send Binance one request with
    a made-up API key, and looks for accounts without a live listenKey. Changes nothing. With --page,
    everybody who gets the alarms gets test messages. Exits with 1 when action is needed.
    """
    stack = connect()
    if paging and not yes and not in_local_environment():
        if not sys.stdin.isatty():
            raise CliError("--page asks for confirmation, but this is not a terminal: pass --yes")
        if not confirmed(
            f"Set the alarms of {stack.name} to ALARM, and after {HOLD:.0f} seconds to OK? "
            "Everybody who gets its emails and posts gets them, and they look real."
        ):
            raise CliError("no test message was sent")
    findings = list(check_stack(stack, paging))
    if as_json:
        show_json(to_dict(findings))
    else:
        show(check_view(findings), *(commands(findings) if console().is_terminal else ()))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(ACTION_NEEDED)


@command(app, "history alice --limit 50")
@on_stack
def history(
    account: AccountId,
    limit: Annotated[
        int,
        typer.Option(
            metavar="COUNT",
            parser=number("--limit", 1, 10_000, whole=True),
            help="How many attempts to list, from 1 to 10000; 20 by default.",
            show_default=False,
        ),
    ] = 20,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Show an account's last 24 hours and its attempts, newest first."""
    stack = connect()
    Registry(stack).check_known(account)
    dynamodb, tables, at = stack.client("dynamodb"), stack.outputs, now()
    draw = not as_json and can_draw(console().options)
    # A key renewed up to an hour before the day began was still alive in it.
    since = at - DAY - LEASE if draw else None
    entries = read_history(dynamodb, tables["LedgerTableName"], account, limit, since)
    if not entries:
        Registry(stack).get(account)  # only now, because a removed account still has its ledger
    if as_json:
        show_json(entries)
    elif entries:
        if draw:
            changes_only = stack.parameters.get("LedgerMode") == "changes"
            until = expiry(dynamodb, tables["ListenKeysTableName"], account) if changes_only else None
            show(day_of(entries, at, until), "")
        show(history_table(account, entries[:limit]))
    else:
        show(f"{account} has no attempts yet: `listenkeys renew {as_argument(account)}` tries it now")


@command(app, "renew alice bob")
@on_stack
def renew(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="The accounts' ids; by default all that are enabled.", show_default=False
        ),
    ] = None,
    secret: InSecret = None,
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

    Runs the function, waits until it has finished and shows its report. Skips accounts that were renewed less
    than 5 minutes ago, unless the last attempt failed. Names the accounts whose listenKey at Binance was not
    the recorded one: CHANGED, EXTENDED although new, or RECREATED. Exits with 1 when an account
    could not be renewed, or is CHANGED.
    """
    stack = connect()
    if ids or secret is not None:
        known = chosen(Registry(stack), ids, secret)
        # With --secret, as without ids, renew the enabled accounts. If there are none, name all that use the
        # secret: an empty list would mean every account.
        wanted = known if ids else [account for account in known if account.enabled]
        ids = [account.id for account in wanted or known]
    event = event_of(ids or [], force, dry_run)
    function = stack.outputs["KeepaliveFunctionName"]
    with waiting("waiting for the run to end"):
        report = invoke(stack.client("lambda"), function, event)
    if as_json:
        show_json(report)
    else:
        show(report_view(report, now()))
        if found := not_recorded(stack, report):
            show("", found)
    if needs_action(report):
        raise typer.Exit(ACTION_NEEDED)


command(app, "listen alice")(listen)


def _title(stack: Stack) -> str:
    return f"{stack.name} in {stack.region}, {now():%H:%M:%S} UTC, Ctrl-C to stop"


if __name__ == "__main__":
    app(prog_name="listenkeys")
