"""The weight counters of a stack: in LedgerTable, one item for each weight group and clock minute.

accountId  "#weight:<group>", which no account can be called
record     the clock minute in UTC, as Binance counts: "2026-11-24T09:31Z"
used (N), runId (S, the run whose minute it is), ttl (N)
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..errors import Unavailable
from ..timing import COUNTER_KEPT
from .clients import NOT_AGAIN, AwsError, Deadline, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class WeightCounter:
    """The counters, which all runs of a stack write."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str, deadline: Deadline) -> None:
        self._dynamodb, self._table, self._deadline = dynamodb, table, deadline

    def take(self, group: str, minute: int, weight: int, cap: int, run_id: str | None) -> int | None:
        """Take a minute's weight; return how much of it there was. Raises Unavailable, at once.

        With a run's id the minute is to be that run's; None where it is another's. A write that is repeated
        because its answer was lost counts twice, which wastes weight and never exceeds the cap.
        """
        values = {":weight": {"N": str(weight)}, ":ttl": {"N": str(minute * 60 + COUNTER_KEPT)}}
        expression, condition = "ADD used :weight SET #ttl = :ttl", {}
        if run_id:
            values[":run"] = {"S": run_id}
            expression += ", runId = :run"
            condition = {"ConditionExpression": "attribute_not_exists(runId) OR runId = :run"}
        try:
            with self._deadline.brief():
                answer = self._update(
                    group,
                    minute,
                    expression,
                    values,
                    ExpressionAttributeNames={"#ttl": "ttl"},
                    ReturnValues="ALL_NEW",
                    **condition,
                )
            used = int(answer["Attributes"]["used"]["N"])
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            return None
        except AwsError as error:
            raise Unavailable(f"the weight counter could not be reached: {error_code(error)}") from None
        except (KeyError, ValueError):
            raise Unavailable("the weight counter does not hold a number") from None
        return max(0, min(weight, cap - used + weight))

    def give_back(self, group: str, minute: int, weight: int, leave: bool) -> None:
        """Return weight, and `leave` the minute to others. Once: a second try could return it twice.

        Raises Unavailable.
        """
        expression = "ADD used :back" + " REMOVE runId" * leave
        try:
            with self._deadline.brief(NOT_AGAIN):
                self._update(group, minute, expression, {":back": {"N": str(-weight)}})
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
