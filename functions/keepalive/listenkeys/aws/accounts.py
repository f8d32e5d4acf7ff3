"""Reads AccountsTable. An invalid row becomes an account with a `problem`."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ErrorCode, Rejected
from ..model import Account
from ..products import ENVIRONMENTS, LIVE, NOT_KEPT, PRODUCTS, endpoint_name
from .clients import DynamoDB, batch_get, scan
from .shards import Shard

_NAME = "AccountsTable"
MAX_RENEW_AFTER = 38  # minutes, as for RenewAfterMinutes
ID_CHARACTERS = "A-Za-z0-9._-"
ACCOUNT_ID = re.compile(f"[{ID_CHARACTERS}]{{1,64}}")
# Names as Secrets Manager's CreateSecret allows them; an ARN adds colons.
SECRET_ID = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}|arn:aws[a-z-]*:secretsmanager:[A-Za-z0-9:/_+=.@-]{1,1024}")


@dataclass(frozen=True, slots=True)
class Accounts:
    """Reads AccountsTable."""

    dynamodb: DynamoDB
    table: str
    secret_prefix: str
    sleep: Callable[[float], None]

    def pages(self, shard: Shard | None = None) -> Iterator[list[Account]]:
        """Yield all accounts, or a shard's, a page at a time. Raises Unavailable if a page cannot be read."""
        part: Any = {"Segment": shard.segment, "TotalSegments": shard.total} if shard else {}
        for rows in scan(self.dynamodb, self.table, _NAME, **part):
            yield [self._account(row) for row in rows]

    def named(self, ids: Sequence[str]) -> list[Account]:
        """Return these accounts in the order of `ids`. An unknown one has a `problem`. Raises Unavailable."""
        keys = [{"accountId": {"S": id_}} for id_ in ids]
        rounds = batch_get(self.dynamodb, self.table, _NAME, keys, self.sleep)
        found = {account.id: account for _, rows in rounds for account in map(self._account, rows)}
        missing = "there is no such row in AccountsTable: check the spelling, or add it"
        return [
            found.get(id_) or Account(id_, problem=Rejected(ErrorCode.ACCOUNT_NOT_FOUND, missing))
            for id_ in ids
        ]

    def _account(self, row: dict[str, Any]) -> Account:
        id_ = str(row["accountId"].get("S", ""))
        try:
            if not ACCOUNT_ID.fullmatch(id_):
                raise _invalid("accountId must be 1 to 64 of A-Z a-z 0-9 . _ -")
            enabled = _flag(row, "enabled")
            product = _text(row, "product", "usdm")
            if product in NOT_KEPT:
                raise _invalid(f"product {product}: {NOT_KEPT[product]}")
            if product not in PRODUCTS:
                raise _invalid(f"product must be one of {', '.join(PRODUCTS)}")
            environment = _text(row, "environment", LIVE)
            if environment not in ENVIRONMENTS:
                raise _invalid(f"environment must be one of {', '.join(ENVIRONMENTS)}")
            if not endpoint_name(product, environment):
                raise _invalid(f"environment {environment}: Binance has no {product} there")
            secret_id = _text(row, "secretId", f"{self.secret_prefix}/{id_}")
            if not SECRET_ID.fullmatch(secret_id):
                raise _invalid("secretId must be the name or the ARN of a secret")
            return Account(
                id_,
                product,
                secret_id,
                _text(row, "secretField", "apiKey"),
                _flag(row, "createIfMissing"),
                enabled,
                _minutes(row, "renewAfterMinutes"),
                environment,
            )
        except Rejected as problem:
            # A row that says it is disabled is left alone, whatever else is wrong with it.
            return Account(id_, enabled=row.get("enabled") != {"BOOL": False}, problem=problem)


def _text(row: dict[str, Any], name: str, default: str) -> str:
    value = row.get(name, {"S": default}).get("S")
    if not isinstance(value, str) or not value:
        raise _invalid(f"{name} must be a string (S), not empty")
    return value


def _flag(row: dict[str, Any], name: str) -> bool:
    value = row.get(name, {"BOOL": True}).get("BOOL")
    if not isinstance(value, bool):
        raise _invalid(f"{name} must be true or false (BOOL)")
    return value


def _minutes(row: dict[str, Any], name: str) -> int | None:
    if name not in row:
        return None
    value = row[name].get("N", "")
    if not (value.isdecimal() and 1 <= int(value) <= MAX_RENEW_AFTER):
        raise _invalid(f"{name} must be a whole number (N) from 1 to {MAX_RENEW_AFTER}")
    return int(value)


def _invalid(message: str) -> Rejected:
    return Rejected(ErrorCode.INVALID_ACCOUNT, f"AccountsTable row: {message}")
