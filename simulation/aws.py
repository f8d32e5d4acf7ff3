"""AWS in memory, on the simulation's clock. It has only the client methods that the program's classes call.

A method or expression that is not supported raises an error. A service that is down answers with errors,
after the time that botocore's attempts take.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

from simulation.world import DYNAMODB, EVENTS, FUTURES, SECRETS, WRITES, World

ACCOUNTS, KEYS, LEDGER, PREFIX = "accounts", "keys", "ledger", "listenkeys"
Item = dict[str, Any]
Expression = Callable[[Item, Item], Any]
_TOKEN = re.compile(r"\s*(:\w+|#?\w+|[(),=])")


class ConditionalCheckFailedException(ClientError):
    """The condition of a write does not hold."""


class TransactionCanceledException(ClientError):
    """The condition of one item of a transaction does not hold."""


class _Exceptions:
    ConditionalCheckFailedException = ConditionalCheckFailedException
    TransactionCanceledException = TransactionCanceledException


def refuse(world: World, operation: str, *kinds: str) -> None:
    """Raise the ClientError that botocore raises after its last attempt, if one of these services is down."""
    if any(world.down(kind) for kind in kinds):
        raise ClientError({"Error": {"Code": "InternalServerError"}}, operation)


class Tables:
    """DynamoDB: AccountsTable with the accounts of a world, the current records and the weight counters.

    The entries of the ledger are not stored, because nothing reads them.
    """

    exceptions = _Exceptions

    def __init__(self, world: World) -> None:
        self._world = world
        keys = (*world.api_keys, *world.neighbours)
        rows = {
            (key, ""): {"accountId": {"S": key}, "product": {"S": FUTURES[n % 2]}}
            for n, key in enumerate(keys)
        }
        self._tables: dict[str, dict[tuple[str, str], Item]] = {ACCOUNTS: rows, KEYS: {}, LEDGER: {}}

    def scan(self, *, TableName: str, **_: Any) -> Any:  # noqa: N803 - AWS's names
        refuse(self._world, "Scan", DYNAMODB)
        return {"Items": [*self._tables[TableName].values()]}

    def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803 - AWS's names
        refuse(self._world, "BatchGetItem", DYNAMODB)
        found = {
            name: [item for key in asked["Keys"] if (item := self._tables[name].get(_key(key)))]
            for name, asked in RequestItems.items()
        }
        return {"Responses": found, "UnprocessedKeys": {}}

    def update_item(self, **update: Any) -> Any:
        refuse(self._world, "UpdateItem", DYNAMODB, WRITES)
        if not self._allows(update):
            code = "ConditionalCheckFailed"
            raise ConditionalCheckFailedException({"Error": {"Code": code + "Exception"}}, "UpdateItem")
        return {"Attributes": self._apply(update)}

    def transact_write_items(self, *, TransactItems: list[Any]) -> Any:  # noqa: N803 - AWS's names
        refuse(self._world, "TransactWriteItems", DYNAMODB, WRITES)
        updates = [write.get("Update") for write in TransactItems]
        allowed = [update is None or self._allows(update) for update in updates]
        if not all(allowed):
            reasons = [{"Code": "None" if each else "ConditionalCheckFailed"} for each in allowed]
            said: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
            raise TransactionCanceledException(said, "TransactWriteItems")
        for update in updates:
            if update:
                self._apply(update)
        return {}

    def _allows(self, update: Any) -> bool:
        condition = update.get("ConditionExpression")
        item = self._tables[update["TableName"]].get(_key(update["Key"]), {})
        return not condition or bool(_condition(condition)(item, update["ExpressionAttributeValues"]))

    def _apply(self, update: Any) -> Item:
        table, values = self._tables[update["TableName"]], update["ExpressionAttributeValues"]
        before = table.get(_key(update["Key"]), update["Key"])
        after = dict(before)
        names = update.get("ExpressionAttributeNames", {})
        for clause, name, operand in _changes(update["UpdateExpression"]):
            name = names.get(name, name)
            if clause == "REMOVE":
                after.pop(name, None)
            elif clause == "SET":
                after[name] = operand(before, values)
            else:
                total = int(before.get(name, {"N": "0"})["N"]) + int(operand(before, values)["N"])
                after[name] = {"N": str(total)}
        table[_key(update["Key"])] = after
        return after


class Secrets:
    """Secrets Manager: a secret for each account. The API key in it is the account's id."""

    def __init__(self, world: World) -> None:
        self._world = world

    def batch_get_secret_value(self, *, SecretIdList: Iterable[str]) -> Any:  # noqa: N803 - AWS's names
        refuse(self._world, "BatchGetSecretValue", SECRETS)
        text = {id_: json.dumps({"apiKey": id_.removeprefix(f"{PREFIX}/")}) for id_ in SecretIdList}
        return {"SecretValues": [{"Name": id_, "SecretString": secret} for id_, secret in text.items()]}


class Bus:
    """EventBridge: accepts events and discards them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def put_events(self, *, Entries: list[Any]) -> Any:  # noqa: N803 - AWS's names
        refuse(self._world, "PutEvents", EVENTS)
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in Entries]}


def _key(item: Item) -> tuple[str, str]:
    return item["accountId"]["S"], item.get("record", {"S": ""})["S"]


class _Parser:
    """Parses those of DynamoDB's expressions that the program uses. Raises NotImplementedError for others."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        if "".join(self._tokens) != re.sub(r"\s", "", text):
            raise NotImplementedError(text)

    def next(self) -> str:
        return str(self._tokens.pop(0)) if self._tokens else ""

    def takes(self, token: str) -> bool:
        found = self._tokens[:1] == [token]
        if found:
            self.next()
        return found

    def any_of(self) -> Expression:
        found = [self.all_of()]
        while self.takes("OR"):
            found.append(self.all_of())
        return lambda item, values: any(each(item, values) for each in found)

    def all_of(self) -> Expression:
        found = [self.condition()]
        while self.takes("AND"):
            found.append(self.condition())
        return lambda item, values: all(each(item, values) for each in found)

    def condition(self) -> Expression:
        if self.takes("NOT"):
            denied = self.condition()
            return lambda item, values: not denied(item, values)
        left = self.operand()
        if not self.takes("="):
            return left
        right = self.operand()
        return lambda item, values: None is not left(item, values) == right(item, values)

    def operand(self) -> Expression:
        token = self.next()
        if token.startswith(":"):
            return lambda _, values: values[token]
        if not self.takes("("):
            return lambda item, _: item.get(token)
        function = _FUNCTIONS[token]
        given = [self.operand()]
        while self.takes(","):
            given.append(self.operand())
        if self.next() != ")":
            raise NotImplementedError(token)
        return lambda item, values: function(*(each(item, values) for each in given))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "attribute_not_exists": lambda found: found is None,
    "attribute_type": lambda found, kind: found is not None and kind["S"] in found,
    "if_not_exists": lambda found, otherwise: otherwise if found is None else found,
    "list_append": lambda left, right: {"L": left["L"] + right["L"]},
}


@cache
def _condition(text: str) -> Expression:
    return _Parser(text).any_of()


@cache
def _changes(text: str) -> list[tuple[str, str, Expression]]:
    """Return the changes of an update expression in their order: the clause, the attribute, the operand."""
    parser, found, clause = _Parser(text), [], ""
    while token := parser.next():
        if token in ("SET", "REMOVE", "ADD"):
            clause, token = token, parser.next()
        elif token == ",":
            token = parser.next()
        else:
            raise NotImplementedError(text)
        if clause == "SET" and not parser.takes("="):
            raise NotImplementedError(text)
        found.append((clause, token, parser.operand() if clause != "REMOVE" else lambda *_: None))
    return found
