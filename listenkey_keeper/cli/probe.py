"""The last part of `listenkeys check`: a dry run of the function, which asks Binance what address it sees."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from listenkeys.errors import ErrorCode, Unavailable
from listenkeys.view.remedies import REMEDIES, remedy

from .errors import CliError
from .findings import Finding
from .output import some_of
from .registry import Registry
from .renew import failures, invoke
from .stack import Stack, in_local_environment

# With shards, the dry run is for this many accounts, because one run may be unable to read all of them. It is
# also the largest number of errors that are shown.
_SOME = 10
_SHOWS = "`listenkeys renew --dry-run` shows what to do"
_BUG = "report it as a bug"


def dry_run(stack: Stack) -> Iterator[Finding]:
    """Yield findings about the function, its accounts and the request to Binance. Raises as `invoke` does."""
    report = invoke(stack.client("lambda"), stack.outputs["KeepaliveFunctionName"], _event(stack))
    yield Finding("function", True, f"a dry run succeeded in {report['durationMs'] / 1000:.1f} s")
    accounts, problems = report["accounts"], list(_problems(stack, report))
    yield from problems
    if not accounts:
        yield Finding("accounts", True, "none yet: `listenkeys accounts add NAME` adds one")
    elif not problems:
        due = len(report["plan"])
        keys = f"{due} API key{'s' * (due != 1)} read, of those that are due" if due else "none is due"
        yield Finding("accounts", True, f"{accounts} account{'s' * (accounts != 1)} read; {keys}")
    yield _seen(stack, report.get("probe"))


def _problems(stack: Stack, report: dict[str, Any]) -> Iterator[Finding]:
    """Yield a finding for each error, with the accounts that have it: a shared secret can fail hundreds."""
    # With shards the accounts are named in the event, and a disabled one that is named is a problem.
    found = [problem for problem in report["problems"] if problem["errorCode"] != ErrorCode.ACCOUNT_DISABLED]
    secrets: dict[str, str] = {}
    with contextlib.suppress(Unavailable):  # then each error is shown without the secret's name
        secrets = {account.id: account.secret_id for account in Registry(stack).all()} if found else {}
    same: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for problem in found:
        id_, code, message = (str(problem[key]) for key in ("accountId", "errorCode", "errorMessage"))
        same[secrets.get(id_, ""), code, message].append(id_)
    left = failures(report)
    for (secret, code, message), names in [*same.items()][:_SOME]:
        left -= len(names)
        names.sort()
        who = f"secret {secret}, used by {some_of(names)}" if secret and names[1:] else some_of(names)
        todo = (REMEDIES.get(code) if names[1:] else remedy(code, names[0])) or _BUG
        yield Finding("accounts", False, f"{who}: {code}: {message}; {todo}")
    if left > 0:
        yield Finding("accounts", False, f"{left} more account{'s' * (left != 1)}; {_SHOWS}")


def _event(stack: Stack) -> dict[str, Any]:
    event: dict[str, Any] = {"dryRun": True, "probe": True}
    if stack.parameters.get("ShardCount", "1") != "1":
        table = stack.outputs["AccountsTableName"]
        rows = stack.client("dynamodb").scan(TableName=table, Limit=_SOME, ProjectionExpression="accountId")
        if ids := [row["accountId"]["S"] for row in rows["Items"]]:
            event["accounts"] = ids
    return event


def _seen(stack: Stack, probe: dict[str, Any] | None) -> Finding:
    if probe is None:
        raise CliError(
            "the function is another version than this command and did not ask Binance: run `sam build` and "
            "`sam deploy`"
        )
    host, in_vpc = probe["host"], bool(stack.parameters.get("SubnetIds"))
    if probe["served"]:
        use = "outside a VPC: shared with other AWS customers, and it changes"
        if in_local_environment():
            use = "all on this machine"
        elif in_vpc:
            use = "of your NAT: allow it in each API key's IP restriction"
        seen = f"; it sees the function at {probe['address']}" if probe["address"] else ""
        return Finding("Binance", True, f"{host} answers{seen} ({use})")
    todo = REMEDIES.get(probe["errorCode"], _BUG)
    if probe["errorCode"] in ("TIMEOUT", "CONNECTION") and in_vpc:
        todo = "the subnets need a route to a NAT gateway, and the security groups must allow outbound HTTPS"
    return Finding("Binance", False, f"{host}: {probe['errorCode']}: {probe['errorMessage']}; {todo}")
