"""The stack's tables in another DynamoDB than moto's, made as CloudFormation made them in moto."""

from typing import Any

_BATCH = 25  # BatchWriteItem's limit


def create(client: Any, table: Any) -> None:
    """Create a table of moto's in this DynamoDB: by what the template says, as moto understood it."""
    client.create_table(
        TableName=table.name,
        KeySchema=table.schema,
        AttributeDefinitions=table.attr,
        BillingMode="PAY_PER_REQUEST",
    )


def write(client: Any, name: str, requests: list[dict[str, Any]]) -> None:
    """Do requests of BatchWriteItem, however many there are."""
    for start in range(0, len(requests), _BATCH):
        batch = {name: requests[start : start + _BATCH]}
        if client.batch_write_item(RequestItems=batch)["UnprocessedItems"]:
            raise RuntimeError(f"not everything was written to {name}")


def empty(client: Any, name: str) -> None:
    """Delete every item."""
    keys = [key["AttributeName"] for key in client.describe_table(TableName=name)["Table"]["KeySchema"]]
    for page in client.get_paginator("scan").paginate(TableName=name):
        deletes = [{"DeleteRequest": {"Key": {key: item[key] for key in keys}}} for item in page["Items"]]
        write(client, name, deletes)
