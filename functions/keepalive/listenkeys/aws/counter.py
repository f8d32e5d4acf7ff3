"""The weight counters of a stack: in LedgerTable, one item for each weight group and clock minute.

accountId  "#weight:<group>", which no account can be called
record     the clock minute in UTC, as Binance counts: "2026-11-24T09:31Z"
used (N), claimed (SS, short hashes of account ids), ttl (N)
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..errors import Unavailable
from .calls import AwsError, Deadline, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_KEEP_SECONDS = 3600  # of a counter, until DynamoDB removes it


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether there was room for the weight, what was used before, and which accounts were claimed before."""

    granted: bool
    used: int
    claimed: set[str]


class WeightCounter:
    """The counters, which all runs of a stack write."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str, deadline: Deadline) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._deadline = deadline

    def take(self, group: str, minute: int, weight: int, cap: int, accounts: Sequence[str]) -> Taken:
        """Add weight to a minute's counter and claim these accounts, unless that exceeds the cap.

        One write, and no waiting: raises Unavailable when DynamoDB does not answer it at once.
        """
        hashes = {_short(id_): id_ for id_ in accounts}
        values: dict[str, Any] = {
            ":weight": {"N": str(weight)},
            ":room": {"N": str(cap - weight)},
            ":ttl": {"N": str(minute * 60 + _KEEP_SECONDS)},
        }
        add = "ADD used :weight"
        if hashes:
            values[":ids"] = {"SS": sorted(hashes)}
            add += ", claimed :ids"
        item: Any
        try:
            with self._deadline.brief():
                answer = self._update(
                    group,
                    minute,
                    f"{add} SET #ttl = :ttl",
                    values,
                    ConditionExpression="attribute_not_exists(used) OR used <= :room",
                    ExpressionAttributeNames={"#ttl": "ttl"},
                    ReturnValues="ALL_OLD",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            granted, item = True, answer.get("Attributes", {})
        except self._dynamodb.exceptions.ConditionalCheckFailedException as refused:
            response: Any = refused.response
            granted, item = False, response.get("Item", {})
        except AwsError as error:
            raise Unavailable(f"the weight counter could not be reached: {error_code(error)}") from None
        try:
            used = int(item.get("used", {"N": "0"})["N"])
        except (KeyError, ValueError):
            raise Unavailable("the weight counter does not hold a number") from None
        claimed = item.get("claimed", {}).get("SS", ())
        return Taken(granted, used, {hashes[short] for short in claimed if short in hashes})

    def give_back(self, group: str, minute: int, weight: int, accounts: Iterable[str]) -> None:
        """Return weight to a minute's counter, and the claims on these accounts. Raises Unavailable."""
        values: dict[str, Any] = {":back": {"N": str(-weight)}}
        expression = "ADD used :back"
        if hashes := sorted({_short(id_) for id_ in accounts}):
            values[":ids"] = {"SS": hashes}
            expression += " DELETE claimed :ids"
        try:
            self._update(group, minute, expression, values)
        except AwsError as error:
            raise Unavailable(f"weight was not returned: {error_code(error)}") from None

    def _update(self, group: str, minute: int, expression: str, values: Any, **more: Any) -> Any:
        at = datetime.fromtimestamp(minute * 60, UTC)
        return self._dynamodb.update_item(
            TableName=self._table,
            Key={"accountId": {"S": f"#weight:{group}"}, "record": {"S": f"{at:%Y-%m-%dT%H:%MZ}"}},
            UpdateExpression=expression,
            ExpressionAttributeValues=values,
            **more,
        )


def _short(account_id: str) -> str:
    """Return eight characters that stand for an account: the item stays small with thousands of claims."""
    return hashlib.blake2b(account_id.encode(), digest_size=4).hexdigest()
