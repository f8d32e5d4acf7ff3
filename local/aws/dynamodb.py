"""Patches moto's DynamoDB, which lacks what the program relies on: atomic writes and transactions."""

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

    moto checks the condition of an update and then writes: two updates at the same time may both pass.

    In a transaction, moto copies the whole table for each item, and restores the copy if the transaction is
    refused. That takes minutes with 5,000 rows, and loses what other threads have written in the meantime.
    If an update does not fit the existing item, moto refuses the call as invalid; AWS cancels the transaction
    and says which item was the reason.
    """
    for name in table_names:
        table = dynamodb.tables[name]
        # A copy of the table is the table itself, so that moto's copying and restoring does nothing.
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
