"""The part of `listenkeys check` that looks for accounts without a live listenKey, or with the same one."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from listenkeys.aws.clients import scan
from listenkeys.view.remedies import as_argument
from listenkeys.view.status import AccountStatus, read_status

from .findings import Finding
from .output import MOST_NAMED, some_of
from .resources import Resources
from .stack import Stack, now
from .status import counted, is_new


def listen_keys(stack: Stack, _: Resources) -> Iterator[Finding]:
    """Yield findings about the listenKeys of the enabled accounts. None of them quotes a listenKey."""
    dynamodb, table = stack.client("dynamodb"), stack.outputs["ListenKeysTableName"]
    rows = read_status(dynamodb, stack.outputs["AccountsTableName"], table, now())
    rows = [row for row in rows if row.account.enabled]
    bad = [row for row in rows if row.state != "ok"]
    new = [row for row in bad if is_new(row)]
    copies = list(_copies(stack, rows))
    if bad:
        whole = f"{len(rows)} enabled account{'s' * (len(rows) != 1)}"
        says = f"{len(bad)} of {whole} {'is' if len(bad) == 1 else 'are'} not ok ({counted(bad)})"
        if len(new) == len(bad):
            why = "it is" if len(bad) == 1 else "they are"
            says += (
                f", because {why} new: the next sweep creates what is missing; `listenkeys renew` does it now"
            )
        else:
            says += f"{f', {len(new)} of them new' if new else ''}: `listenkeys status` shows what to do"
        yield Finding("listenKeys", None if len(new) == len(bad) else False, says)
    elif rows and not copies:
        yield Finding("listenKeys", True, "every enabled account has one that was renewed in time")
    yield from copies


def _copies(stack: Stack, rows: Sequence[AccountStatus]) -> Iterator[Finding]:
    kinds = {row.account.id: (row.account.product, row.account.environment) for row in rows}
    same: defaultdict[tuple[tuple[str, str], str], list[str]] = defaultdict(list)
    table = stack.outputs["ListenKeysTableName"]
    only: Any = {"ProjectionExpression": "accountId,listenKey"}
    for page in scan(stack.client("dynamodb"), table, "ListenKeysTable", **only):
        for item in page:
            name, key = item["accountId"]["S"], item.get("listenKey", {}).get("S")
            if key and name in kinds:
                same[kinds[name], key].append(name)
    for names in same.values():
        if len(names) > 1:
            names.sort()  # those that begin with a dash first
            which = f" {as_argument(' '.join(names))}" if len(names) <= MOST_NAMED else ""
            # A record is old if its account has got another API key and has not been renewed since.
            yield Finding(
                "listenKeys",
                False,
                f"{some_of(names)} have the same listenKey: run `listenkeys renew --force{which}`, then "
                "check again; if they still have the same one, their API keys are of one account at Binance: "
                "replace the wrong ones with `listenkeys accounts add --replace NAME`",
            )
