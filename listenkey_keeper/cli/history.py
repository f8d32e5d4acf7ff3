"""Reads an account's ledger, the recorded attempts, and shows it as a table."""

from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from listenkeys.aws.record_items import CURRENT, read
from listenkeys.model import SUCCESSES, iso

from .output import Columns, advice, plain

_PAGE = 100
_NUMBERS = ("httpStatus", "attempts", "latencyMs")
_TEXTS = ("outcome", "errorCode", "errorMessage", "expiresAt", "listenKeyFingerprint", "runId")


def read_history(
    dynamodb: Any, table: str, account_id: str, limit: int, since: datetime | None = None
) -> list[dict[str, Any]]:
    """Return an account's attempts, newest first, each as `history --json` prints it.

    These are the last `limit` attempts (fewer if there are no more). With `since`, they go back at least to
    that time.
    """
    entries: list[dict[str, Any]] = []
    request: dict[str, Any] = {
        "TableName": table,
        "KeyConditionExpression": "accountId = :id",
        "ExpressionAttributeValues": {":id": {"S": account_id}},
        "ScanIndexForward": False,
    }
    oldest = iso(since) if since else "9"
    while True:
        answer = dynamodb.query(**request, Limit=max(_PAGE, limit) if since else limit - len(entries))
        entries += map(_entry, answer["Items"])
        enough = len(entries) >= limit and entries[-1]["attemptedAt"] <= oldest
        if enough or not answer.get("LastEvaluatedKey"):
            return entries
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def expiry(dynamodb: Any, table: str, account_id: str) -> datetime | None:
    """Return when the account's listenKey expires, from ListenKeysTable; None if it has none."""
    # Not GetItem, which the policy for people on call does not allow.
    answer = dynamodb.query(
        TableName=table,
        KeyConditionExpression="accountId = :id AND #record = :current",
        ExpressionAttributeNames={"#record": "record"},
        ExpressionAttributeValues={":id": {"S": account_id}, ":current": {"S": CURRENT}},
        ConsistentRead=True,
    )
    return read(next(iter(answer["Items"]), {})).expires_at


def history_table(account_id: str, entries: list[dict[str, Any]]) -> Group:
    """Return the attempts as a table, and below it each error code once with its most recent message.

    Only the error of the newest attempt is followed by what to do: an earlier one may be over.
    """
    table = Columns(
        "time (UTC)", "outcome", "tries", "ms", "listenKey", "until", "error",
        right=("tries", "ms"), optional=("ms", "listenKey", "tries", "until"),
    )  # fmt: skip
    errors: dict[str, dict[str, Any]] = {}
    # Show the year only if the attempts are from more than one year: 80 columns have little room for it.
    years = len({entry["attemptedAt"][:4] for entry in entries}) > 1
    for entry in entries:
        ok = entry["outcome"] in SUCCESSES
        changed = ok and entry["outcome"] != "EXTENDED"
        code = entry["errorCode"]
        if code:
            errors.setdefault(code, entry)
        table.add(
            Text(_time(entry["attemptedAt"], years)),
            Text(entry["outcome"] or "-", style="cyan" if changed else "green" if ok else "red"),
            Text(_or_dash(entry["attempts"])),
            Text(_or_dash(entry["latencyMs"])),
            Text((entry["listenKeyFingerprint"] or "-")[:8], style="cyan" if changed else "dim"),
            Text(_time(entry["expiresAt"], years)[-8:-3] or "-"),
            Text(code or "", style="red"),
        )
    below: list[RenderableType] = [""] if errors else []
    for code, entry in errors.items():
        message = entry["errorMessage"] or ""
        if entry is entries[0]:
            below += advice(code, message, [account_id])
        else:
            below.append(Text(plain(f"last {code}, at {_time(entry['attemptedAt'], years)}: {message}")))
    return Group(table, *below)


def _entry(item: dict[str, Any]) -> dict[str, Any]:
    def number(name: str) -> int | None:
        text = item.get(name, {}).get("N", "")
        return int(text) if text.isdecimal() else None

    return {
        "attemptedAt": item["record"]["S"],
        **{name: item.get(name, {}).get("S") for name in _TEXTS},
        **{name: number(name) for name in _NUMBERS},
    }


def _time(text: str | None, year: bool) -> str:
    try:
        return datetime.fromisoformat(text or "").strftime("%Y-%m-%d %H:%M:%S" if year else "%m-%d %H:%M:%S")
    except ValueError:
        return text or ""


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
