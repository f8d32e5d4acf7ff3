"""moto's DynamoDB where it differs from AWS's in what the program relies on: atomic writes, transactions."""

from __future__ import annotations

import copy
from functools import partial, wraps
from threading import Lock
from typing import Any

from moto.dynamodb.exceptions import (
    MockValidationException,
    MultipleTransactionsException,
    TransactionCanceledException,
)
from moto.dynamodb.responses import DynamoHandler

_one_at_a_time = Lock()


def make_atomic(dynamodb: Any, table_names: list[str]) -> None:
    """Make moto's writes atomic, and its TransactWriteItems undo the items it wrote.

    moto checks an update's condition, then writes: of two updates at the same time both may pass.

    In a transaction it copies the whole table for each item and, when it is refused, puts the copy in its
    place. That takes minutes with 5,000 rows and loses what other threads have written in the meantime. And
    where an update does not fit the item it meets, it refuses the call; AWS cancels it and says which item it
    was.
    """
    for name in table_names:
        table = dynamodb.tables[name]
        # The copy that moto would put back is the table itself.
        table.__deepcopy__ = partial(lambda itself, memo: itself, table)
    if "transact_write_items" in vars(dynamodb):
        return
    write = dynamodb.transact_write_items

    def transact_write_items(actions: list[dict[str, Any]]) -> None:
        before = []
        for action in actions:
            [body] = action.values()
            table = dynamodb.get_table(body["TableName"])
            key = dynamodb.get_keys_value(table, body.get("Key") or body["Item"])
            before.append((table, key, copy.deepcopy(table.get_item(*key))))

        def undo() -> None:
            for table, (hash_key, range_key), item in before:
                table.delete_item(hash_key, range_key)
                if item and range_key:
                    table.items[hash_key][range_key] = copy.deepcopy(item)
                elif item:
                    table.items[hash_key] = copy.deepcopy(item)

        def reason(action: dict[str, Any]) -> tuple[str | None, str | None, None]:
            try:
                write([action])
            except TransactionCanceledException:
                return "ConditionalCheckFailed", "The conditional request failed", None
            except MockValidationException as invalid:
                return "ValidationError", str(invalid.message), None
            return None, None, None

        try:
            write(actions)
        except MultipleTransactionsException:
            undo()
            raise
        except MockValidationException:
            undo()
            reasons = [reason(action) for action in actions]
            undo()
            raise TransactionCanceledException(reasons) from None
        except Exception:
            undo()
            raise

    dynamodb.transact_write_items = transact_write_items


def _alone(operation: Any) -> Any:
    @wraps(operation)
    def wrapped(handler: DynamoHandler) -> Any:
        with _one_at_a_time:
            return operation(handler)

    return wrapped


for _name in ("put_item", "update_item", "delete_item", "transact_write_items"):
    setattr(DynamoHandler, _name, _alone(getattr(DynamoHandler, _name)))
