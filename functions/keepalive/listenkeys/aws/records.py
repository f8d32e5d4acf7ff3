"""Memory: ListenKeysTable. What is known of each listenKey now, and the ledger of attempts.

The only file that knows how a record looks in DynamoDB. Reads are tolerant: an unknown attribute is
left in place, a missing or broken one counts as unknown. Writes never move a record backwards.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..errors import Unavailable
from ..report import SUCCESSES, Outcome, Result
from ..settings import LEASE_MINUTES
from .calls import MAX_TRIES, AwsError, batch_get, error_code, jitter

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LEASE = timedelta(minutes=LEASE_MINUTES)
CURRENT = "CURRENT"
BATCH = 50  # accounts in a TransactWriteItems: 100 items, two for each
MAX_UNANNOUNCED = 20
# Ignore an attemptedAt that isn't a timestamp or is over an hour ahead; otherwise it blocks all later writes.
_NO_NEWER = "NOT attribute_type(attemptedAt, :text) OR attemptedAt <= :at OR attemptedAt > :ahead"
_REFUSED = "ConditionalCheckFailed"
_HOPELESS = {"ValidationError", "ItemCollectionSizeLimitExceeded", "AccessDenied"}


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with milliseconds and Z: it sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Current:
    """What is recorded of an account's listenKey; None where nothing is."""

    listen_key: str | None = field(default=None, repr=False)
    outcome: str | None = None
    attempted_at: datetime | None = None
    renewed_at: datetime | None = None
    expires_at: datetime | None = None
    consecutive_failures: int = 0
    error_code: str | None = None
    error_message: str | None = None
    unannounced: tuple[str, ...] = ()
    run_id: str | None = None


NOTHING = Current()


@dataclass(slots=True)
class Saved:
    """The accounts of a batch whose results were not recorded.

    `superseded`: a newer attempt is recorded. `lost`: the record does not take the write.
    """

    superseded: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)


class Records:
    """ListenKeysTable, read and written.

    `ledger_mode` "changes" leaves out an EXTENDED that follows an EXTENDED; `ledger_days` is how long
    an entry is kept.
    """

    def __init__(
        self,
        dynamodb: "DynamoDBClient",
        table: str,
        ledger_mode: str,
        ledger_days: int,
        sleep: Callable[[float], None],
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._all_entries = ledger_mode == "all"
        self._keep = timedelta(days=ledger_days)
        self._sleep = sleep

    def current(self, account_ids: Iterable[str]) -> dict[str, Current]:
        """Return the current record of each account that has one, read consistently.

        Raises Unavailable when they cannot be read.
        """
        keys = [{"accountId": {"S": id_}, "record": {"S": CURRENT}} for id_ in account_ids]
        items = batch_get(self._dynamodb, self._table, keys, self._sleep, consistent=True)
        return {item["accountId"]["S"]: _read(item) for item in items}

    def save(self, results: Sequence[Result], run_id: str) -> Saved:
        """Record results, current state and ledger entry together, unless a newer attempt is recorded.

        Takes up to BATCH of them, in one transaction: an account whose write is refused is left out
        and the others are written. Raises Unavailable when DynamoDB did not take the rest.
        """
        return self._transact({result.account_id: self._items(result, run_id) for result in results})

    def announced(self, sent: dict[str, Sequence[str]]) -> None:
        """Clear what has been announced, account by account, unless more has come in the meantime.

        Raises Unavailable; then it is announced once more by the next run.
        """
        ids = list(sent)
        for start in range(0, len(ids), 2 * BATCH):
            self._transact({id_: [self._clear(id_, sent[id_])] for id_ in ids[start : start + 2 * BATCH]})

    def _transact(self, groups: dict[str, list[Any]]) -> Saved:
        saved = Saved()
        why = ""
        for attempt in range(MAX_TRIES):
            if attempt:
                self._sleep(jitter(attempt))
            items = [(id_, item) for id_, items in groups.items() for item in items]
            if not items:
                return saved
            try:
                self._dynamodb.transact_write_items(TransactItems=[item for _, item in items])
            except self._dynamodb.exceptions.TransactionCanceledException as cancelled:
                # Reasons come by position; None stands for an item that had nothing against it.
                reasons: Any = cancelled.response.get("CancellationReasons", ())
                for (id_, _), reason in zip(items, reasons, strict=False):
                    if reason.get("Code") == _REFUSED:
                        groups.pop(id_, None)
                        saved.superseded.add(id_)
                    elif reason.get("Code") in _HOPELESS:
                        groups.pop(id_, None)
                        saved.lost.add(id_)
                codes = {str(reason.get("Code")) for reason in reasons} - {"None"}
                why = ", ".join(sorted(codes)) or "TransactionCanceled"
            except AwsError as error:
                why = error_code(error)
                break  # botocore has tried three times already
            else:
                return saved
        if not groups:
            return saved
        raise Unavailable(f"ListenKeysTable could not be written: {why}")

    def _items(self, result: Result, run_id: str) -> list[Any]:
        before = result.before
        at = iso(result.at)
        values: dict[str, Any] = {
            ":at": {"S": at},
            ":text": {"S": "S"},
            ":ahead": {"S": iso(result.at + timedelta(hours=1))},
            ":outcome": {"S": result.outcome},
            ":run": {"S": run_id},
        }
        sets = ["attemptedAt = :at", "outcome = :outcome", "runId = :run"]
        removes = []
        entry: dict[str, Any] = {
            "accountId": {"S": result.account_id},
            "record": {"S": at},
            "outcome": {"S": result.outcome},
            "attempts": {"N": str(result.attempts)},
            "runId": {"S": run_id},
            "ttl": {"N": str(int((result.at + self._keep).timestamp()))},
        }
        if result.product:  # invalid rows have no product: keep the recorded one
            values[":product"] = {"S": result.product}
            sets.append("product = :product")
        if result.outcome in SUCCESSES:
            expires_at = iso(result.at + LEASE)
            listen_key = result.listen_key or before.listen_key or ""
            values |= {":key": {"S": listen_key}, ":expires": {"S": expires_at}, ":zero": {"N": "0"}}
            sets += [
                "renewedAt = :at", "expiresAt = :expires", "listenKey = :key", "consecutiveFailures = :zero"
            ]  # fmt: skip
            removes += ["errorCode", "errorMessage"]
            if listen_key != before.listen_key:
                sets.append("listenKeyChangedAt = :at")
            entry["expiresAt"] = {"S": expires_at}
            entry["listenKeyFingerprint"] = {"S": hashlib.sha256(listen_key.encode()).hexdigest()[:12]}
        else:
            # Nothing ever overwrites a known key, or until when it lives, with nothing.
            values |= {":zero": {"N": "0"}, ":one": {"N": "1"}}
            values |= {":code": {"S": result.error_code or ""}, ":message": {"S": result.error_message or ""}}
            sets += [
                "errorCode = :code", "errorMessage = :message",
                "consecutiveFailures = if_not_exists(consecutiveFailures, :zero) + :one",
            ]  # fmt: skip
            entry["errorCode"], entry["errorMessage"] = values[":code"], values[":message"]
            if before.expires_at:
                entry["expiresAt"] = {"S": iso(before.expires_at)}
        if result.http_status is not None:
            entry["httpStatus"] = {"N": str(result.http_status)}
        if result.latency_ms is not None:
            entry["latencyMs"] = {"N": str(result.latency_ms)}
        if result.unannounced:
            values[":news"] = _texts(result.unannounced)
            if len(before.unannounced) < MAX_UNANNOUNCED:
                values[":none"] = {"L": []}
                sets.append("unannounced = list_append(if_not_exists(unannounced, :none), :news)")
            else:
                values[":news"] = _texts([*before.unannounced, *result.unannounced][-MAX_UNANNOUNCED:])
                sets.append("unannounced = :news")
        update = {
            "TableName": self._table,
            "Key": {"accountId": {"S": result.account_id}, "record": {"S": CURRENT}},
            "ConditionExpression": _NO_NEWER,
            "UpdateExpression": f"SET {', '.join(sets)}"
            + (f" REMOVE {', '.join(removes)}" if removes else ""),
            "ExpressionAttributeValues": values,
        }
        again = result.outcome == before.outcome == Outcome.EXTENDED and listen_key == before.listen_key
        if again and not self._all_entries:
            return [{"Update": update}]
        return [{"Update": update}, {"Put": {"TableName": self._table, "Item": entry}}]

    def _clear(self, account_id: str, sent: Sequence[str]) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"accountId": {"S": account_id}, "record": {"S": CURRENT}},
                "ConditionExpression": "unannounced = :sent",
                "UpdateExpression": "REMOVE unannounced",
                "ExpressionAttributeValues": {":sent": _texts(sent)},
            }
        }


def _texts(texts: Sequence[str]) -> dict[str, Any]:
    return {"L": [{"S": text} for text in texts]}


def _read(item: dict[str, Any]) -> Current:
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
    )


def _moment(item: dict[str, Any], name: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(item[name]["S"])
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
