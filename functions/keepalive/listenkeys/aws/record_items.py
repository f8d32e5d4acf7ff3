"""Items of ListenKeysTable and LedgerTable. A missing or broken attribute counts as unknown."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ..model import LEASE, SUCCESSES, Current, Outcome, Result, fingerprint

CURRENT = "CURRENT"
MAX_UNANNOUNCED = 20
# What `read` looks at. Parsing is most of a sweep's CPU, and the other attributes are a third of a record.
READ = (
    "accountId,listenKey,outcome,attemptedAt,renewedAt,expiresAt,consecutiveFailures,errorCode,errorMessage,"
    "unannounced,runId"
)


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with milliseconds and Z: it sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def key_of(account_id: str) -> dict[str, Any]:
    """Return the key of an account's current record."""
    return {"accountId": {"S": account_id}, "record": {"S": CURRENT}}


def read(item: dict[str, Any]) -> Current:
    """Return what an item says."""
    failures = item.get("consecutiveFailures", {}).get("N", "0")
    return Current(
        listen_key=item.get("listenKey", {}).get("S") or None,
        outcome=item.get("outcome", {}).get("S"),
        attempted_at=_moment(item, "attemptedAt"),
        renewed_at=_moment(item, "renewedAt"),
        expires_at=_moment(item, "expiresAt"),
        consecutive_failures=int(failures) if str(failures).isdecimal() else 0,
        error_code=item.get("errorCode", {}).get("S"),
        error_message=item.get("errorMessage", {}).get("S"),
        unannounced=tuple(text["S"] for text in item.get("unannounced", {}).get("L", ()) if "S" in text),
        run_id=item.get("runId", {}).get("S"),
        attempted=item.get("attemptedAt", {}).get("S"),
    )


def update_of(result: Result, run_id: str) -> dict[str, Any] | None:
    """Return how a result changes the record that it was judged by; None if nothing of it is new."""
    before, success = result.before, result.outcome in SUCCESSES
    if result.late and not result.renews:
        return None
    at, zero = {"S": iso(result.at)}, {"N": "0"}
    values: dict[str, Any] = {":run": {"S": run_id}, ":at": at}
    same = f"{_still('attemptedAt', before.attempted, values)} AND {_still('runId', before.run_id, values)}"
    sets, removes = ["runId = :run"], ""
    if result.product:  # invalid rows have no product: keep the recorded one
        values[":product"] = {"S": result.product}
        sets.append("product = :product")
    if success:
        listen_key = _listen_key(result)
        values |= {":key": {"S": listen_key}, ":expires": {"S": iso(result.at + LEASE)}}
        values[":stream"] = {"S": result.stream_url}
        sets += ["renewedAt = :at", "expiresAt = :expires", "listenKey = :key", "streamUrl = :stream"]
        if listen_key != before.listen_key:
            sets.append("listenKeyChangedAt = :at")
    if not result.late:
        failures = zero if success else {"N": str(before.consecutive_failures + 1)}
        values |= {":outcome": {"S": result.outcome}, ":failures": failures}
        sets += ["attemptedAt = :at", "outcome = :outcome", "consecutiveFailures = :failures"]
        if success:
            removes = " REMOVE errorCode, errorMessage"
        else:
            values |= _error(result, ":code", ":message")
            sets += ["errorCode = :code", "errorMessage = :message"]
    if result.unannounced and len(before.unannounced) < MAX_UNANNOUNCED:
        # Appended: another run may have cleared what was there.
        values |= {":news": _texts(result.unannounced), ":none": {"L": []}}
        sets.append("unannounced = list_append(if_not_exists(unannounced, :none), :news)")
    elif result.unannounced:
        values[":news"] = _texts([*before.unannounced, *result.unannounced][-MAX_UNANNOUNCED:])
        sets.append("unannounced = :news")
    return {
        "Key": key_of(result.account_id),
        "ConditionExpression": same,
        "UpdateExpression": f"SET {', '.join(sets)}{removes}",
        "ExpressionAttributeValues": values,
    }


def entry_of(result: Result, run_id: str, keep: timedelta) -> dict[str, Any]:
    """Return a result as an entry of the ledger, kept for so long."""
    at = iso(result.at)
    entry: dict[str, Any] = {
        "accountId": {"S": result.account_id},
        "record": {"S": at},
        "outcome": {"S": result.outcome},
        "attempts": {"N": str(result.attempts)},
        "runId": {"S": run_id},
        "ttl": {"N": str(int((result.at + keep).timestamp()))},
    }
    if result.outcome in SUCCESSES:
        entry["expiresAt"] = {"S": iso(result.at + LEASE)}
        entry["listenKeyFingerprint"] = {"S": fingerprint(_listen_key(result))}
    else:
        entry |= _error(result, "errorCode", "errorMessage")
        if result.before.expires_at:
            entry["expiresAt"] = {"S": iso(result.before.expires_at)}
    for name, number in (("httpStatus", result.http_status), ("latencyMs", result.latency_ms)):
        if number is not None:
            entry[name] = {"N": str(number)}
    return entry


def repeats(result: Result) -> bool:
    """Whether a result says the same as the last one: the known key was extended, as before."""
    before = result.before
    return result.outcome == before.outcome == Outcome.EXTENDED and _listen_key(result) == before.listen_key


def clearing_of(account_id: str, sent: Sequence[str]) -> dict[str, Any]:
    """Return how announcements that were sent are cleared, refused where there are more by now."""
    return {
        "Key": key_of(account_id),
        "ConditionExpression": "unannounced = :sent",
        "UpdateExpression": "REMOVE unannounced",
        "ExpressionAttributeValues": {":sent": _texts(sent)},
    }


def _still(name: str, known: str | None, values: dict[str, Any]) -> str:
    """Return the condition that an attribute is what was read of it: this text, or none."""
    values[f":{name}"] = {"S": "S" if known is None else known}
    return f"NOT attribute_type({name}, :{name})" if known is None else f"{name} = :{name}"


def _listen_key(result: Result) -> str:
    return result.listen_key or result.before.listen_key or ""


def _error(result: Result, code: str, message: str) -> dict[str, Any]:
    return {code: {"S": result.error_code or ""}, message: {"S": result.error_message or ""}}


def _texts(texts: Sequence[str]) -> dict[str, Any]:
    return {"L": [{"S": text} for text in texts]}


def _moment(item: dict[str, Any], name: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(item[name]["S"])
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
