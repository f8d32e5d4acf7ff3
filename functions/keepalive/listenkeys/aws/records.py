"""ListenKeysTable: what is known of each listenKey now, and the ledger of attempts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..errors import Unavailable
from ..model import Current, Result
from .calls import MAX_TRIES, AwsError, batch_get, error_code, jitter
from .items import clearing_of, entry_of, key_of, read, repeats, update_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

BATCH = 50  # accounts in a TransactWriteItems: 100 items, two for each
_REFUSED = "ConditionalCheckFailed"
_HOPELESS = {"ValidationError", "ItemCollectionSizeLimitExceeded", "AccessDenied"}


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
        keys = [key_of(id_) for id_ in account_ids]
        items = batch_get(self._dynamodb, self._table, keys, self._sleep, consistent=True)
        return {item["accountId"]["S"]: read(item) for item in items}

    def save(self, results: Sequence[Result], run_id: str) -> Saved:
        """Record results, current state and ledger entry together, unless a newer attempt is recorded.

        Takes up to BATCH of them, in one transaction: an account whose write is refused is left out
        and the others are written. Raises Unavailable when DynamoDB did not take the rest.
        """
        return self._transact({result.account_id: self._writes(result, run_id) for result in results})

    def announced(self, sent: dict[str, Sequence[str]]) -> None:
        """Clear what has been announced, account by account, unless more has come in the meantime.

        Raises Unavailable; then it is announced once more by the next run.
        """
        ids = list(sent)
        for start in range(0, len(ids), 2 * BATCH):
            part = ids[start : start + 2 * BATCH]
            self._transact({id_: [self._update(clearing_of(id_, sent[id_]))] for id_ in part})

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

    def _writes(self, result: Result, run_id: str) -> list[dict[str, Any]]:
        update = self._update(update_of(result, run_id))
        if repeats(result) and not self._all_entries:
            return [update]
        return [update, {"Put": {"TableName": self._table, "Item": entry_of(result, run_id, self._keep)}}]

    def _update(self, update: dict[str, Any]) -> dict[str, Any]:
        return {"Update": {"TableName": self._table, **update}}
