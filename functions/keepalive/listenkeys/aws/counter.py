"""The weight counters of a stack: in LedgerTable, one item for each weight group and clock minute.

accountId  "#weight:<group>", which is not a valid account id
record     the clock minute in UTC, as Binance counts: "2026-11-24T09:31Z"
used (N), runId (S, the run that has reserved the minute), ttl (N)
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import Unavailable
from ..timing import AT_ONCE, COUNTER_KEPT
from .clients import NOT_AGAIN, AwsError, Deadline, DynamoDB, error_code


@dataclass(frozen=True, slots=True)
class WeightCounter:
    """The counters, which all runs of a stack write."""

    dynamodb: DynamoDB
    table: str
    deadline: Deadline

    def add(
        self, group: str, minute: int, weight: int, run_id: str | None = None, leave: bool = False
    ) -> int | None:
        """Add weight to a minute and return its new total. Raises Unavailable without long retries.

        With `run_id`, reserve the minute for that run; return None if another has it. `leave` releases it.
        A write may be repeated and count twice, which wastes weight. A negative `weight` is never repeated.
        """
        at = datetime.fromtimestamp(minute * 60, UTC)
        values = {":weight": {"N": str(weight)}, ":ttl": {"N": str(minute * 60 + COUNTER_KEPT)}}
        expression = "ADD used :weight SET #ttl = :ttl" + " REMOVE runId" * leave
        more: Any = {}
        if run_id:
            values[":run"] = {"S": run_id}
            expression += ", runId = :run"
            more["ConditionExpression"] = "attribute_not_exists(runId) OR runId = :run"
        try:
            with self.deadline.brief(NOT_AGAIN if weight < 0 else AT_ONCE):
                answer = self.dynamodb.update_item(
                    TableName=self.table,
                    Key={"accountId": {"S": f"#weight:{group}"}, "record": {"S": f"{at:%Y-%m-%dT%H:%MZ}"}},
                    UpdateExpression=expression,
                    ExpressionAttributeNames={"#ttl": "ttl"},
                    ExpressionAttributeValues=values,
                    ReturnValues="ALL_NEW",
                    **more,
                )
            return int(answer["Attributes"]["used"]["N"])
        except self.dynamodb.exceptions.ConditionalCheckFailedException:
            return None
        except AwsError as error:
            raise Unavailable(f"the weight counter could not be reached: {error_code(error)}") from None
        except ValueError:
            raise Unavailable("the weight counter does not hold a number") from None
