"""The keepalive as one would first write it: one account after the other, each with its own calls.

It uses Powertools' parameters for the secret, `requests.put`, `update_item` for the current state, and
`put_item` for the ledger. It does less than the function: it does not retry, handle -1125 or compare keys.
"""

import os
from datetime import UTC, datetime, timedelta

import boto3
import requests
from aws_lambda_powertools.utilities import parameters

table_resource = boto3.resource("dynamodb")
secrets = parameters.SecretsProvider()


def lambda_handler(event, context):
    accounts = table_resource.Table(os.environ["ACCOUNTS_TABLE"])
    keys = table_resource.Table(os.environ["LISTEN_KEYS_TABLE"])
    extended = 0
    page = accounts.scan()
    while True:
        for account in page["Items"]:
            account_id = account["accountId"]
            name = f"{os.environ['SECRET_PREFIX']}/{account_id}"
            secret = secrets.get(name, transform="json", force_fetch=True)
            sent_at = datetime.now(UTC)
            response = requests.put(
                f"{os.environ['BINANCE_BASE_URL']}/fapi/v1/listenKey",
                headers={"X-MBX-APIKEY": secret["apiKey"]},
                timeout=5,
            )
            response.raise_for_status()
            listen_key = response.json()["listenKey"]
            expires_at = (sent_at + timedelta(minutes=60)).isoformat()
            keys.update_item(
                Key={"accountId": account_id, "record": "CURRENT"},
                UpdateExpression="SET listenKey = :key, renewedAt = :at, expiresAt = :until, outcome = :done",
                ExpressionAttributeValues={
                    ":key": listen_key,
                    ":at": sent_at.isoformat(),
                    ":until": expires_at,
                    ":done": "EXTENDED",
                },
            )
            keys.put_item(
                Item={
                    "accountId": account_id,
                    "record": sent_at.isoformat(),
                    "outcome": "EXTENDED",
                    "httpStatus": response.status_code,
                    "expiresAt": expires_at,
                    "ttl": int((sent_at + timedelta(days=30)).timestamp()),
                }
            )
            extended += 1
        if "LastEvaluatedKey" not in page:
            return {"extended": extended}
        page = accounts.scan(ExclusiveStartKey=page["LastEvaluatedKey"])
