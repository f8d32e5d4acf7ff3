"""The stack's tables in another DynamoDB than moto's, made as CloudFormation made them in moto."""

from typing import Any


def create(client: Any, table: Any) -> None:
    """Create a table of moto's in this DynamoDB: by what the template says, as moto understood it."""
    client.create_table(
        TableName=table.name,
        KeySchema=table.schema,
        AttributeDefinitions=table.attr,
        BillingMode="PAY_PER_REQUEST",
    )


def empty(client: Any, name: str) -> None:
    """Delete every item."""
    keys = [key["AttributeName"] for key in client.describe_table(TableName=name)["Table"]["KeySchema"]]
    for page in client.get_paginator("scan").paginate(TableName=name):
        for item in page["Items"]:
            client.delete_item(TableName=name, Key={key: item[key] for key in keys})
