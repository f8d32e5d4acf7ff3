"""Reads and writes ListenKeysTable (each listenKey's current record) and LedgerTable (every attempt)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ..errors import Unavailable
from ..model import NOTHING, Current, Result, iso
from .announcements import news
from .clients import MAX_TRIES, AwsError, DynamoDB, batch_get, error_code, jitter, scan
from .record_items import READ, clearing_of, entry_of, key_of, read, repeats, update_of

BATCH = 50  # accounts in a TransactWriteItems, which takes 100 items: two for each
_NAME = "ListenKeysTable"
_REFUSED = "ConditionalCheckFailed"
_HOPELESS = {"ValidationError", "ItemCollectionSizeLimitExceeded", "AccessDenied"}


@dataclass(slots=True)
class Saved:
    """Accounts with a later attempt on record (`superseded`), or whose write failed for good (`lost`)."""

    superseded: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Records:
    """Both tables. With `ledger_mode` "changes", an EXTENDED that repeats the last is not in the ledger."""

    dynamodb: DynamoDB
    table: str
    ledger: str
    ledger_mode: str
    ledger_days: int
    sleep: Callable[[float], None]

    def read(self, account_ids: Iterable[str] | None = None) -> Iterator[tuple[str, Current]]:
        """Yield (id, record) of these accounts, NOTHING if one has none, or of all. Raises Unavailable."""
        if account_ids is None:
            how = {"ConsistentRead": True, "ProjectionExpression": ",".join(READ)}
            for page in scan(self.dynamodb, self.table, _NAME, **how):
                for item in page:
                    yield item["accountId"]["S"], read(item)
            return
        keys = [key_of(id_) for id_ in account_ids]
        for done, items in batch_get(self.dynamodb, self.table, _NAME, keys, self.sleep):
            found = {item["accountId"]["S"]: read(item) for item in items}
            for key in done:
                yield key["accountId"]["S"], found.get(key["accountId"]["S"], NOTHING)

    def save(self, results: Sequence[Result], run_id: str) -> Saved:
        """Record up to BATCH results and their announcements, as current records and ledger entries.

        All are in one transaction. If the write of an account is refused, the others are written without it.
        Raises Unavailable if DynamoDB does not accept the rest. It is safe to save the same results
        again: none is written twice.
        """
        saved, by_id = Saved(), {result.account_id: result for result in results}
        failed = self._transact({r.account_id: self._writes(r, run_id, saved) for r in results})
        refused = {id_ for id_, code in failed.items() if code == _REFUSED}
        again = {}
        for id_, record in self.read(refused):
            result = by_id[id_]
            if (record.run_id, record.attempted) == (run_id, iso(result.at)):
                continue  # it is recorded, only the answer was lost
            result.against(record)
            again[id_] = self._writes(result, run_id, saved)
        saved.lost = failed.keys() - refused | self._transact(again).keys()
        return saved

    def announced(self, sent: dict[str, Sequence[str]]) -> None:
        """Clear the announcements that were sent, unless more were added meanwhile. Raises Unavailable."""
        ids = list(sent)
        for start in range(0, len(ids), 2 * BATCH):
            part = ids[start : start + 2 * BATCH]
            self._transact({id_: [self._update(clearing_of(id_, sent[id_]))] for id_ in part})

    def _transact(self, groups: dict[str, list[Any]]) -> dict[str, str]:
        """Write each account's items, all or none. Return the accounts refused for good, with the code."""
        failed, tried, why = dict[str, str](), 0, ""
        while items := [(id_, item) for id_, items in groups.items() for item in items]:
            if tried == MAX_TRIES:
                raise Unavailable(f"{_NAME} could not be written: {why}")
            if tried:
                self.sleep(jitter(tried))
            tried += 1
            try:
                self.dynamodb.transact_write_items(TransactItems=[item for _, item in items])
                break
            except self.dynamodb.exceptions.TransactionCanceledException as cancelled:
                # One reason for each item, in order. Its code is None if nothing was wrong with the item.
                reasons: Any = cancelled.response.get("CancellationReasons", ())
            except AwsError as error:  # botocore has tried three times already
                tried, why = MAX_TRIES, error_code(error)
                continue
            codes = [str(reason.get("Code")) for reason in reasons]
            for (id_, _), code in zip(items, codes, strict=False):
                if code == _REFUSED or code in _HOPELESS:
                    groups.pop(id_, None)
                    failed.setdefault(id_, code)
            why = ", ".join(sorted({*codes} - {"None"})) or "TransactionCanceled"
        return failed

    def _writes(self, result: Result, run_id: str, saved: Saved) -> list[dict[str, Any]]:
        result.unannounced = news(result)
        update, writes = update_of(result, run_id), list[dict[str, Any]]()
        if update:
            writes.append(self._update(update))
        else:
            saved.superseded.add(result.account_id)
        if self.ledger_mode == "all" or not repeats(result):
            entry = entry_of(result, run_id, timedelta(days=self.ledger_days))
            writes.append({"Put": {"TableName": self.ledger, "Item": entry}})
        return writes

    def _update(self, update: dict[str, Any]) -> dict[str, Any]:
        return {"Update": {"TableName": self.table, **update}}
