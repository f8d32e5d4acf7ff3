"""`listenkeys accounts import`: checks a whole file, then adds its accounts.

For each secret, the keys are written in one version, and then the rows. A failure can leave keys in a secret
that no row names; running the same command again finishes the job.
"""

import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from listenkeys.model import Account
from listenkeys.view.remedies import as_argument

from .api_keys import Fields, check_characters, length_note, same_secret
from .errors import CliError, explain
from .group import ACTION_NEEDED
from .output import MOST_NAMED, note, show, show_done, show_json, some_of
from .registry import Registry, Wanted, check_copies
from .rows import check_id, check_product, looks_like_a_key
from .stack import Connect, on_stack

_FORMAT = "name,product,API key[,secret]"


@dataclass(frozen=True, slots=True)
class _Line:
    """An account to write, with its API key and the field of the secret that the key goes into."""

    wanted: Wanted
    product: str
    known: Account | None
    secret_field: str
    key: str = field(repr=False)


@on_stack
def import_file(
    file: Annotated[
        str, typer.Argument(metavar="FILE", show_default=False, help="The file, or - for standard input.")
    ],
    secret: Annotated[
        str | None,
        typer.Option(
            metavar="SECRET", help="The secret of lines that name none; by default SecretPrefix/NAME."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the API keys of accounts that exist.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the file and the existing rows, and show what would be done."),
    ] = False,
    *,
    connect: Connect,
    as_json: bool,
) -> None:
    """Add the accounts of a file.

    Each line is `name,product,API key`, or `name,product,API key,secret`; those that begin with # are
    skipped. Checks all lines before it changes anything. Accounts that exist stay as they are: after a
    failure, run the same command again. Exits with 1 when an account could not be added.
    """
    stack = connect()
    registry = Registry(stack)
    results: dict[str, list[str]] = {"added": [], "replaced": [], "alreadyThere": [], "failed": []}
    own_secrets: dict[str, list[str]] = {"added": [], "replaced": []}
    text, replaced_in = _read(file), []
    accounts = registry.all()
    secrets = _check(text, registry, accounts, secret, replace, results["alreadyThere"])
    new = [line.wanted.account_id for lines in secrets.values() for line in lines if not line.known]
    keys = {line.wanted.account_id: line.key for lines in secrets.values() for line in lines}
    if said := length_note(keys, stack):
        note(said)
    left = set() if dry_run or as_json else registry.recorded(new)
    for secret_id, own, done in _write(registry, secrets, accounts, replace, dry_run, results["failed"]):
        for what, names in done.items():
            results[what] += names
        if done["replaced"]:
            replaced_in.append(secret_id)
        if own and not dry_run:
            own_secrets["replaced" if done["replaced"] else "added"].append(secret_id)
        elif not as_json:
            show_done(f"{secret_id}: {_counted(done, dry_run)}")
    for what, secret_ids in own_secrets.items():
        if secret_ids and not as_json:  # a new account may be a mistyped name
            show_done(f"{some_of(secret_ids)}: {_counted({what: secret_ids})}")
    if as_json:
        totals = {what: len(names) for what, names in results.items()}
        show_json({"dryRun": dry_run, "totals": totals, **results})
    elif dry_run:
        show(f"{_counted(results, dry_run)}.", "dry run: nothing was changed, and no secret was read")
    else:
        show(f"{_counted(results)}.")
        if results["added"]:
            sweep = stack.minutes("SweepExpression", 5)
            show(f"The next sweep, within {sweep} minutes, creates their listenKeys.")
            show("`listenkeys renew` does it now.")
            if names := [name for name in results["added"] if name in left]:
                show(
                    f"{some_of(names)}: removed accounts of these names left listenKeys. While these live, "
                    "only the tick, every half hour, tries the new API keys.",
                    "`listenkeys renew --force` does it now.",
                )
        enabled = {account.id for account in accounts if account.enabled}
        if renewed := sorted(enabled & set(results["replaced"])):
            tick = stack.minutes("ScheduleExpression", 30)
            which = f" --secret {replaced_in[0]}" if len(replaced_in) == 1 else ""
            if len(renewed) <= MOST_NAMED:
                which = f" {as_argument(' '.join(renewed))}"  # those that begin with a dash first
            show(f"The next renewal uses the new API keys, in {tick} minutes at most.")
            wrong = "A wrong API key then shows as REJECTED, CHANGED or RECREATED."
            show(f"`listenkeys renew --force{which}` uses them now. {wrong}")
    if results["failed"]:
        raise typer.Exit(ACTION_NEEDED)


def _read(file: str) -> str:
    # No error names the file: what was typed may be an API key.
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise CliError(f"the file could not be read: {error.strerror}") from None
    except ValueError:
        raise CliError("the file is not text in UTF-8: save it as CSV UTF-8") from None


def _check(
    text: str,
    registry: Registry,
    accounts: Sequence[Account],
    secret: str | None,
    replace: bool,
    there: list[str],
) -> dict[str, list[_Line]]:
    """Return the accounts to write, by secret, and add the ids of those that stay as they are to `there`.

    Prints what is wrong with each line, then raises CliError if any is wrong.
    """
    known, fields = {account.id: account for account in accounts}, Fields(accounts)
    numbers: dict[str, int] = {}
    users: dict[tuple[str, str], str] = {}
    secrets: defaultdict[str, list[_Line]] = defaultdict(list)
    bad = False
    for number, row in enumerate(text.splitlines(), 1):
        try:
            if not (values := _values(row)):
                continue
            name, product, key = values[:3]
            if name in numbers:
                raise CliError(f"{name} is on line {numbers[name]} too")
            numbers[name] = number
            # The two accounts would share one listenKey: nearly always a copy error.
            if (user := users.setdefault((key, product), name)) != name:
                raise CliError(f"{name} has the API key and the product of {user} on line {numbers[user]}")
            wanted = _wanted(values, known.get(name), secret, replace)
            if name in known and not replace:
                there.append(name)
                continue
            secret_id, to = registry.place(wanted, known.get(name))
            fields.take(name, secret_id, to)
            secrets[secret_id].append(_Line(wanted, product, known.get(name), to, key))
        except CliError as error:
            note(f"line {number}: {error}")
            bad = True
    if bad:
        raise CliError("nothing was changed: correct these lines, and run the same command again")
    if not numbers:
        raise CliError(f"there is no account in the file: each line is {_FORMAT}")
    return secrets


def _values(line: str) -> list[str]:
    """Return a line's values, an empty list if the line is empty or a comment.

    Raises CliError if the values cannot be those of an account.
    """
    if line.lstrip().startswith("#"):
        return []
    try:
        [row] = csv.reader([line], skipinitialspace=True, strict=True)
    except csv.Error:
        raise CliError("the quotes are not those of CSV") from None
    values = [value.strip() for value in row]
    while values and not values[-1]:  # a spreadsheet pads its rows with empty values
        values.pop()
    if not values:
        return []
    if len(values) > 1 and values[1].lower() == "product":
        raise CliError("this is a header: delete it")
    if len(values) == 1 and (other := re.search("[;\t]", line)):
        what = "semicolons" if other[0] == ";" else "tabs"
        raise CliError(f"the values must be separated by commas, not by {what}: {_FORMAT}")
    if len(values) not in (3, 4):
        raise CliError(f"a line has 3 or 4 values, {_FORMAT}; this has {len(values)}")
    if looks_like_a_key(values[0]):
        raise CliError("the name looks like an API key, and is not shown")
    check_id(values[0])
    values[1] = values[1].lower()
    check_product(values[1])
    check_characters(values[2])
    return values


def _wanted(values: Sequence[str], known: Account | None, secret: str | None, replace: bool) -> Wanted:
    name, product, _, *named = values
    secret_id = named[0] if named else secret
    if not known or known.problem:
        return Wanted(name, product, secret_id, replace=replace)
    if product != known.product:
        raise CliError(f"the product of {name} is {known.product}: the import does not change it")
    if secret_id and not same_secret(secret_id, known.secret_id):
        raise CliError(
            f"{name}'s API key is in secret {known.secret_id}, and import does not move it: `listenkeys "
            "accounts add --replace --secret` does"
        )
    return Wanted(name, replace=replace)


def _write(
    registry: Registry,
    secrets: Mapping[str, list[_Line]],
    accounts: Sequence[Account],
    replace: bool,
    dry_run: bool,
    failed: list[str],
) -> Iterator[tuple[str, bool, dict[str, list[str]]]]:
    """Write the accounts, and yield for each secret: its id, whether it is an account's own, what was done.

    An error in one secret does not stop the others. At the end, each error is printed and the ids of its
    accounts are added to `failed`. A dry run changes nothing and reads no secret.
    """
    errors: defaultdict[str, list[str]] = defaultdict(list)
    for secret_id, lines in secrets.items():
        own = len(lines) == 1 and secret_id == registry.own_secret(lines[0].wanted.account_id)
        done: dict[str, list[str]] = {"added": [], "replaced": []}
        left = [line.wanted.account_id for line in lines]
        try:
            if not dry_run:
                keys = {each.secret_field: each.key for each in lines}
                copies = {each.wanted.account_id: (each.product, each.key) for each in lines}
                check = partial(check_copies, copies, secret_id, accounts)
                registry.keys.put(secret_id, keys, replace, own, note, check)
            for each in lines:
                if not dry_run:
                    registry.write_row(each.wanted, each.known, secret_id, each.secret_field)
                done["replaced" if each.known else "added"].append(left.pop(0))
        except Exception as error:  # noqa: BLE001 - the other secrets do not depend on this one
            errors[explain(error)] += left
        if any(done.values()):
            yield secret_id, own, done
    for why, names in errors.items():
        note(f"listenkeys: {some_of(names)} failed: {why}")
        failed += names


def _counted(results: Mapping[str, list[str]], dry_run: bool = False) -> str:
    """Return a summary such as "2 accounts added, 1 replaced"."""
    words = {"alreadyThere": "already there, unchanged"}
    if dry_run:
        words |= {"added": "to add", "replaced": "to replace"}
    said = [f"{len(names)} {words.get(what, what)}" for what, names in results.items() if names]
    accounts = "account" if said[0].startswith("1 ") else "accounts"
    return ", ".join(said).replace(" ", f" {accounts} ", 1)
