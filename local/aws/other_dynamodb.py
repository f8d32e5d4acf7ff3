"""Creates and fills the stack's tables in another DynamoDB than moto's."""

from typing import Any

_BATCH = 25  # BatchWriteItem's limit


def create(client: Any, table: Any) -> None:
    """Create in this DynamoDB a table like `table`, which moto has created from the template."""
    client.create_table(
        TableName=table.name,
        KeySchema=table.schema,
        AttributeDefinitions=table.attr,
        BillingMode="PAY_PER_REQUEST",
    )


def write(client: Any, name: str, requests: list[dict[str, Any]]) -> None:
    """Send any number of requests with BatchWriteItem. Raises RuntimeError if one is not processed."""
    for start in range(0, len(requests), _BATCH):
        batch = {name: requests[start : start + _BATCH]}
        if client.batch_write_item(RequestItems=batch)["UnprocessedItems"]:
            raise RuntimeError(f"not everything was written to {name}")


def empty(client: Any, name: str) -> None:
    """Delete every item of a table."""
    keys = [key["AttributeName"] for key in client.describe_table(TableName=name)["Table"]["KeySchema"]]
    for page in client.get_paginator("scan").paginate(TableName=name):
        deletes = [{"DeleteRequest": {"Key": {key: item[key] for key in keys}}} for item in page["Items"]]
        write(client, name, deletes)
