"""The weight counters of a stack: in LedgerTable, one item for each weight group and clock minute.

accountId  "#weight:<group>", which no account can be called
record     the clock minute in UTC, as Binance counts: "2026-11-24T09:31Z"
used (N), claimed (BS), ttl (N)

`claimed` holds who is renewing whom in that minute, as a short hash of the account and the run's mark, and a
token for each taking of weight.
"""

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..errors import Unavailable
from ..timing import COUNTER_KEPT
from .calls import NOT_AGAIN, AwsError, Deadline, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether there was room for the weight, how much was used before, and whom other runs had claimed."""

    granted: bool
    used: int
    claimed: set[str]


class WeightCounter:
    """The counters, which all runs of a stack write. Each run has a mark of its own, and so has its retry."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str, deadline: Deadline) -> None:
        self._dynamodb, self._table, self._deadline = dynamodb, table, deadline

    def take(
        self, group: str, minute: int, weight: int, cap: int, mark: bytes, accounts: Iterable[str] = ()
    ) -> Taken:
        """Add weight and claims to a minute unless that exceeds the cap. Raises Unavailable, at once."""
        hashes = {_short(id_): id_ for id_ in accounts}
        token = uuid.uuid4().bytes[:6]  # shows that a write arrived whose answer was lost
        values: dict[str, Any] = {
            ":weight": {"N": str(weight)},
            ":room": {"N": str(cap - weight)},
            ":ttl": {"N": str(minute * 60 + COUNTER_KEPT)},
            ":claims": {"BS": [token, *(short + mark for short in hashes)]},
            ":token": {"B": token},
        }
        item: Any
        try:
            with self._deadline.brief():
                answer = self._update(
                    group,
                    minute,
                    "ADD used :weight, claimed :claims SET #ttl = :ttl",
                    values,
                    ConditionExpression=(
                        "(attribute_not_exists(used) OR used <= :room) AND NOT contains(claimed, :token)"
                    ),
                    ExpressionAttributeNames={"#ttl": "ttl"},
                    ReturnValues="ALL_OLD",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            granted, item = True, answer.get("Attributes", {})
        except self._dynamodb.exceptions.ConditionalCheckFailedException as refused:
            response: Any = refused.response
            item = response.get("Item", {})
            granted = token in item.get("claimed", {}).get("BS", ())
        except AwsError as error:
            raise Unavailable(f"the weight counter could not be reached: {error_code(error)}") from None
        try:
            used = int(item.get("used", {"N": "0"})["N"])
        except (KeyError, ValueError):
            raise Unavailable("the weight counter does not hold a number") from None
        others = {claim[:4] for claim in item.get("claimed", {}).get("BS", ()) if claim[4:] != mark}
        return Taken(granted, used, {id_ for short, id_ in hashes.items() if short in others})

    def give_back(self, group: str, minute: int, weight: int, mark: bytes, accounts: Iterable[str]) -> None:
        """Return weight and claims, once: a second try could return it twice. Raises Unavailable."""
        values: dict[str, Any] = {":back": {"N": str(-weight)}}
        expression = "ADD used :back"
        if claims := [_short(id_) + mark for id_ in accounts]:
            values[":claims"] = {"BS": claims}
            expression += " DELETE claimed :claims"
        try:
            with self._deadline.brief(NOT_AGAIN):
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


def _short(account_id: str) -> bytes:
    """Return four bytes that stand for an account: a write is billed by the size of the item."""
    return hashlib.blake2b(account_id.encode(), digest_size=4).digest()
