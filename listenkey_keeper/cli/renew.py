"""`listenkeys renew`: calls the function, waits until it has finished and shows its report.

Then it names the accounts whose listenKey was not this stack's before, from ListenKeysTable.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.text import Text

from listenkeys.aws.clients import scan
from listenkeys.errors import ErrorCode, Unavailable
from listenkeys.model import RETRYABLE, SUCCESSES, Outcome
from listenkeys.report import MAX_PLAN
from listenkeys.timing import LEASE_MINUTES
from listenkeys.view.remedies import as_argument
from listenkeys.view.status import LATE_MINUTES

from .errors import CliError, explain
from .output import MOST_LISTED, MOST_NAMED, Columns, Problems, note, plain, some_of
from .stack import Stack

_OK = {*SUCCESSES, Outcome.SKIPPED}
_NOT_OK = {*RETRYABLE, Outcome.REJECTED}
_AGE = re.compile(r"(?<=renewed )-?\d+(?= min ago)")  # in the reason of a plan
_MAX_NAMED = 2000  # account ids in an event; Lambda would accept 6 MB, but nobody waits that long for a run
# What it may mean that Binance's listenKey is not the recorded one.
_SAYS = {
    Outcome.CHANGED: "CHANGED: Binance has another listenKey than the recorded one. Another program, or a "
    "stack in another region, started a stream; or, if you have replaced the API key, the new one may be "
    "another account's: place an order, and see whose bot gets it. After a correction, `listenkeys history "
    "NAME` shows the earlier listenKey again",
    Outcome.EXTENDED: "EXTENDED, although new here: Binance had a listenKey already. Another program, or a "
    "stack in another region, uses it; or the API key is another account's: `listenkeys check` says whether "
    "two accounts here have the same listenKey",
    Outcome.RECREATED: "RECREATED: Binance had no listenKey for this API key, and made one. The recorded one "
    "had expired, or another program or Binance ended it: see that bots have asked Binance for what they "
    "missed. If you have replaced the API key, the new one may be another account's: place an order, and see "
    "whose bot gets it",
}


def event_of(accounts: list[str], force: bool, dry_run: bool) -> dict[str, Any]:
    """Return the event of a manual run. An empty list of accounts means all of them."""
    if len(accounts) > _MAX_NAMED:
        raise CliError(f"at most {_MAX_NAMED} accounts can be named: to renew all, name none")
    event: dict[str, Any] = {"force": force, "dryRun": dry_run}
    return event | ({"accounts": accounts} if accounts else {})


def invoke(client: Any, function: str, event: dict[str, Any]) -> dict[str, Any]:
    """Call the function, wait until it has finished, and return its report.

    Raises CliError if the function itself failed, and botocore's errors if it could not be called.
    """
    answer = client.invoke(
        FunctionName=function, InvocationType="RequestResponse", Payload=json.dumps(event).encode()
    )
    try:
        content = json.loads(answer["Payload"].read())
    except ValueError:
        content = None
    if answer.get("FunctionError"):
        content = content if isinstance(content, dict) else {}
        kind = content.get("errorType") or answer["FunctionError"]
        # The program's own errors have one line. The first line of any other is enough to look it up.
        said = (str(content.get("errorMessage") or "").splitlines() or ["no message"])[0]
        raise CliError(f"the run failed: {kind}: {said[:300]} (the function's log has more)")
    if not isinstance(content, dict) or "runId" not in content:
        raise CliError(
            "the function returned no report: check that --stack-name names a listenkey-keeper stack"
        )
    return content


def failures(report: dict[str, Any]) -> int:
    """Return how many accounts were not renewed. The report does not name them all."""
    return sum(report.get(outcome.lower(), 0) for outcome in _NOT_OK)


def needs_action(report: dict[str, Any]) -> bool:
    """Return whether somebody has to look at an account.

    It was not renewed (one that was named but is disabled counts, too), or it has got another listenKey: a
    script that replaces API keys must not go on and delete the old ones.
    """
    return bool(report.get("problems") or failures(report) or report.get(Outcome.CHANGED.lower()))


def report_view(report: dict[str, Any], at: datetime) -> Group:
    """Return the report as text. `at` is the time now."""
    parts: list[RenderableType] = []
    plan, found = report.get("plan"), report.get("problems", ())
    disabled = [str(p.get("accountId")) for p in found if p.get("errorCode") == ErrorCode.ACCOUNT_DISABLED]
    skipped = report.get("skipped", 0) - len(disabled)
    if found and len(disabled) == report.get("accounts"):
        pass  # all are disabled: the lines below say so, and what to do
    elif plan is not None:
        due = f"{len(plan)} or more" if len(plan) >= MAX_PLAN else len(plan)
        sent = "only the probe was sent" if report.get("probe") else "nothing was sent"
        parts.append(_Plan(plan, f"dry run: {sent}; {due} due, {skipped} not due yet"))
    else:
        table = Columns("outcome", "accounts", right=("accounts",))
        for outcome in Outcome:
            if count := skipped if outcome is Outcome.SKIPPED else report.get(outcome.lower()):
                style = "dim" if outcome is Outcome.SKIPPED else "green" if outcome in _OK else "red"
                table.add(Text(outcome, style=style), Text(str(count)))
        if table.rows:
            parts += [table, ""]
        parts.append(_sum(report, report.get("accounts", 0) - len(disabled), skipped, at))
    named = [p for p in found if p.get("errorCode") != ErrorCode.ACCOUNT_DISABLED]
    # Binance being down is an error of all accounts, and needs no person: a few names are enough.
    for waits, most in ((False, len(named)), (True, MOST_NAMED)):
        if same := [p for p in named if (p.get("outcome") in RETRYABLE) is waits]:
            listed = [(str(p.get("accountId")), p.get("errorCode"), p.get("errorMessage")) for p in same]
            parts += ["", Problems(listed, most, " (--json names them)")]
    if disabled and parts:
        parts.append("")
    if disabled:
        disabled.sort()  # those that begin with a dash first
        enable = f"`listenkeys accounts enable {as_argument(' '.join(disabled))}` enables"
        are, them = ("is", "it") if len(disabled) == 1 else ("are", "them")
        parts.append(Text(plain(f"{', '.join(disabled)} {are} disabled: {enable} {them}")))
    unnamed = failures(report) - len(named)
    if unnamed > 0:
        says = f"{unnamed} more are not listed: `listenkeys status --not-ok` shows those that are not ok"
        if report.get("deferred"):
            says += (
                f"; one that was not tried counts as ok until it has less than {LATE_MINUTES} minutes left"
            )
        parts += ["", Text(says)]
    return Group(*parts)


class _Plan:
    """A dry run's plan and its summary. Of many accounts, a terminal gets only how many have each reason."""

    def __init__(self, plan: Sequence[dict[str, Any]], summary: str) -> None:
        self._plan = plan
        self._summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        counted = options.is_terminal and len(self._plan) > MOST_LISTED
        if self._plan:
            yield self._counts() if counted else self._list()
            yield ""
        yield Text(self._summary + " (--json lists them)" * counted)

    def _list(self) -> Columns:
        table = Columns("account", "product", "would", "because", optional=("product",))
        for item in self._plan:
            table.add(*(Text(str(item.get(key))) for key in ("accountId", "product", "action", "reason")))
        return table

    def _counts(self) -> Columns:
        # Reasons that differ only in the age of the listenKey are counted as one, with the range of ages.
        same: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for item in self._plan:
            action, reason = str(item.get("action")), str(item.get("reason"))
            if action == "none":  # an error; it is one of the report's problems, too
                reason = "an error, as said below"
            same[action, _AGE.sub("{}", reason)].append(reason)
        table = Columns("would", "because", "accounts", right=("accounts",))
        for (action, reason), said in sorted(same.items(), key=lambda each: -len(each[1])):
            ages = sorted({int(age) for each in said for age in _AGE.findall(each)})
            because = reason.replace("{}", f"{ages[0]} to {ages[-1]}") if len(ages) > 1 else said[0]
            table.add(Text(action), Text(because), Text(str(len(said))))
        return table


def not_recorded(stack: Stack, report: dict[str, Any]) -> Problems | None:
    """Return the accounts of a run whose listenKey at Binance was not the recorded one.

    None if there are none, or if ListenKeysTable cannot be read, which is noted.
    """
    named = [Outcome.EXTENDED, Outcome.CHANGED, Outcome.RECREATED]
    if not any(report.get(outcome.lower()) for outcome in named):
        return None
    # An EXTENDED that changes the recorded listenKey recorded the first one.
    only = {
        "FilterExpression": f"runId = :run AND outcome IN ({', '.join(f':{each}' for each in named)}) AND "
        "(outcome <> :EXTENDED OR listenKeyChangedAt = renewedAt)",
        "ExpressionAttributeValues": {
            ":run": {"S": report["runId"]},
            **{f":{outcome}": {"S": outcome} for outcome in named},
        },
        "ProjectionExpression": "accountId,outcome",
    }
    table = stack.outputs["ListenKeysTableName"]
    try:
        pages = scan(stack.client("dynamodb"), table, "ListenKeysTable", ConsistentRead=True, **only)
        found = [(item["accountId"]["S"], Outcome(item["outcome"]["S"])) for page in pages for item in page]
    except Unavailable as error:
        note(f"note: cannot name the accounts whose listenKey is not the recorded one: {explain(error)}")
        return None
    said = [(name, None, _SAYS[outcome]) for name, outcome in found]
    return Problems(said, rest=" (`listenkeys status --all` shows the outcome of each)") if found else None


def _sum(report: dict[str, Any], count: int, skipped: int, at: datetime) -> Text:
    least = report.get("minRemainingSeconds")
    said = ["1 account" if count == 1 else f"{count} accounts"]
    if least:
        said.append(f"least time left on a listenKey: {least // 60} min")
    elif least is not None:
        said = [_who_has_none(report, count, at)]
    if skipped:
        when, them = "less than 5 minutes ago", "them"
        if count == 1 and least:
            minutes = LEASE_MINUTES - math.ceil(least / 60)
            when = f"{minutes} minute{'s' * (minutes != 1)} ago" if minutes else "less than a minute ago"
            them = "it"
        said.append(f"SKIPPED: renewed {when}; --force renews {them} anyway")
    return Text("; ".join(said))


def _who_has_none(report: dict[str, Any], count: int, at: datetime) -> str:
    """Return whose listenKey is dead or missing, in words.

    If the report does not list all problems, it says at least how many.
    """
    failed = [problem for problem in report["problems"] if problem["outcome"] in _NOT_OK]
    none = [
        str(problem["accountId"])
        for problem in failed
        if not problem["expiresAt"] or datetime.fromisoformat(problem["expiresAt"]) <= at
    ]
    if not none:
        return f"at least 1 of {count} accounts has no live listenKey"
    if len(failed) < failures(report):
        return f"at least {len(none)} of {count} accounts have no live listenKey"
    if count == 1:
        return f"{none[0]} has no live listenKey"
    who = f"{some_of(none)} {'has' if len(none) == 1 else 'have'}"
    return f"{count - len(none)} of {count} have a live listenKey; {who} none"
