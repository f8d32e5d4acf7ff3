"""Items of ListenKeysTable and LedgerTable. A missing or invalid attribute counts as unknown."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ..errors import ErrorCode
from ..model import LEASE, SUCCESSES, Current, Outcome, Result, fingerprint, iso

CURRENT = "CURRENT"
MAX_UNANNOUNCED = 20
# What `read` needs. Parsing is most of a sweep's CPU time, and the other attributes are a third of a record.
READ = (
    "accountId", "listenKey", "outcome", "attemptedAt", "renewedAt", "expiresAt", "consecutiveFailures",
    "errorCode", "errorMessage", "onlyErrorCode", "unannounced", "runId", "product",
)  # fmt: skip


def key_of(account_id: str) -> dict[str, Any]:
    """Return the key of an account's current record."""
    return {"accountId": {"S": account_id}, "record": {"S": CURRENT}}


def read(item: dict[str, Any]) -> Current:
    """Return an item's content."""
    failures, code = item.get("consecutiveFailures", {}).get("N", "0"), item.get("errorCode", {}).get("S")
    attempted_at, expires_at = _moment(item, "attemptedAt"), _moment(item, "expiresAt")
    if code == ErrorCode.LISTEN_KEY_NOT_FOUND and attempted_at and expires_at:
        expires_at = min(attempted_at, expires_at)  # Binance said that the key is dead
    return Current(
        listen_key=item.get("listenKey", {}).get("S") or None,
        outcome=item.get("outcome", {}).get("S"),
        attempted_at=attempted_at,
        renewed_at=_moment(item, "renewedAt"),
        expires_at=expires_at,
        consecutive_failures=int(failures) if str(failures).isdecimal() else 0,
        error_code=code,
        error_message=item.get("errorMessage", {}).get("S"),
        only_error=item.get("onlyErrorCode", {}).get("S"),
        unannounced=tuple(text["S"] for text in item.get("unannounced", {}).get("L", ()) if "S" in text),
        run_id=item.get("runId", {}).get("S"),
        attempted=item.get("attemptedAt", {}).get("S"),
        product=item.get("product", {}).get("S"),
    )


def update_of(result: Result, run_id: str) -> dict[str, Any] | None:
    """Return the update that records a result, or None if later attempts leave nothing of it to record."""
    before, success, why = result.before, result.outcome in SUCCESSES, result.error_code or ""
    if result.late and not result.renews:
        return None
    at, remove = {"S": iso(result.at)}, ""
    new: dict[str, Any] = {"runId": {"S": run_id}}
    if success:
        key = {"S": _listen_key(result)}
        new |= {"renewedAt": at, "expiresAt": {"S": iso(result.at + LEASE)}, "listenKey": key}
        new |= {"streamUrl": {"S": result.stream_url}, "product": {"S": result.product}}
        if key["S"] != before.listen_key:
            new["listenKeyChangedAt"] = at
    if not result.late:
        failures = {"N": "0" if success else str(before.consecutive_failures + 1)}
        new |= {"attemptedAt": at, "outcome": {"S": result.outcome}, "consecutiveFailures": failures}
        if success:
            remove = " REMOVE errorCode, errorMessage, onlyErrorCode"
        else:
            kept = before.only_error if before.rejected else ""
            only = why if result.outcome is Outcome.REJECTED or before.only_error in (None, why) else kept
            new |= _error(result) | {"onlyErrorCode": {"S": only}}
    sets, values = [f"{name} = :{name}" for name in new], {f":{name}": value for name, value in new.items()}
    if result.unannounced and len(before.unannounced) < MAX_UNANNOUNCED:
        # Append, because another run may have cleared the list.
        values |= {":news": _texts(result.unannounced), ":none": {"L": []}}
        sets.append("unannounced = list_append(if_not_exists(unannounced, :none), :news)")
    elif result.unannounced:
        values[":news"] = _texts([*before.unannounced, *result.unannounced][-MAX_UNANNOUNCED:])
        sets.append("unannounced = :news")
    same = f"{_still('attemptedAt', before.attempted, values)} AND {_still('runId', before.run_id, values)}"
    return {
        "Key": key_of(result.account_id),
        "ConditionExpression": same,
        "UpdateExpression": f"SET {', '.join(sets)}{remove}",
        "ExpressionAttributeValues": values,
    }


def entry_of(result: Result, run_id: str, keep: timedelta) -> dict[str, Any]:
    """Return a result as an item of LedgerTable that expires after `keep`."""
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
        entry |= _error(result)
    for name, number in (("httpStatus", result.http_status), ("latencyMs", result.latency_ms)):
        if number is not None:
            entry[name] = {"N": str(number)}
    return entry


def repeats(result: Result) -> bool:
    """Whether a result repeats the last one: the same key was extended again."""
    before = result.before
    return result.outcome == before.outcome == Outcome.EXTENDED and _listen_key(result) == before.listen_key


def clearing_of(account_id: str, sent: Sequence[str]) -> dict[str, Any]:
    """Return the update that clears announcements that were sent. It fails if there are more by now."""
    return {
        "Key": key_of(account_id),
        "ConditionExpression": "unannounced = :sent",
        "UpdateExpression": "REMOVE unannounced",
        "ExpressionAttributeValues": {":sent": _texts(sent)},
    }


def _still(name: str, known: str | None, values: dict[str, Any]) -> str:
    """Return the condition that an attribute is still the text that was read, or still is not a text."""
    values[f":was_{name}"] = {"S": "S" if known is None else known}
    return f"NOT attribute_type({name}, :was_{name})" if known is None else f"{name} = :was_{name}"


def _listen_key(result: Result) -> str:
    return result.listen_key or result.before.listen_key or ""


def _error(result: Result) -> dict[str, Any]:
    error = {"errorCode": {"S": result.error_code or ""}, "errorMessage": {"S": result.error_message or ""}}
    return error | ({"expiresAt": {"S": iso(result.expires_at)}} if result.expires_at else {})


def _texts(texts: Sequence[str]) -> dict[str, Any]:
    return {"L": [{"S": text} for text in texts]}


def _moment(item: dict[str, Any], name: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(item[name]["S"])
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (KeyError, ValueError, OverflowError):
        return None
