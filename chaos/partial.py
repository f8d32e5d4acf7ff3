"""Makes answers of AWS that say that a request was only partly done. PARTIAL has a function per operation."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from chaos.wire import Request, Upstream, aws_error


def _batch_get(rng: random.Random, request: Request, upstream: Upstream) -> Any:
    document = request.document
    [(table, asked)] = document["RequestItems"].items()
    keys = list(asked["Keys"])
    rng.shuffle(keys)
    third = (len(keys) + 2) // 3
    done, left = keys[:third], keys[third:]
    body = json.dumps({**document, "RequestItems": {table: {**asked, "Keys": done}}}).encode()
    status, headers, found = upstream.ask(request, body)
    if status == 200 and left:
        changed = {**json.loads(found), "UnprocessedKeys": {table: {**asked, "Keys": left}}}
        found = json.dumps(changed).encode()
    return status, headers, found


def _batch_write(rng: random.Random, request: Request, upstream: Upstream) -> Any:
    document = request.document
    [(table, writes)] = document["RequestItems"].items()
    half = (len(writes) + 1) // 2
    body = json.dumps({**document, "RequestItems": {table: writes[:half]}}).encode()
    status, headers, found = upstream.ask(request, body)
    if status == 200 and writes[half:]:
        found = json.dumps({**json.loads(found), "UnprocessedItems": {table: writes[half:]}}).encode()
    return status, headers, found


def _transaction(rng: random.Random, request: Request, upstream: Upstream) -> Any:
    items = request.document["TransactItems"]
    unlucky = rng.randrange(len(items))
    code = rng.choice(["TransactionConflict", "ThrottlingError"])
    reasons = [{"Code": code if place == unlucky else "None"} for place in range(len(items))]
    return aws_error("TransactionCanceledException", CancellationReasons=reasons)


def _secrets(rng: random.Random, request: Request, upstream: Upstream) -> Any:
    ids = request.document["SecretIdList"]
    unlucky = rng.sample(ids, max(1, len(ids) // 3))
    done = [id_ for id_ in ids if id_ not in unlucky]
    status, headers, found = 200, {"Content-Type": "application/x-amz-json-1.1"}, b'{"SecretValues": []}'
    if done:
        status, headers, found = upstream.ask(request, json.dumps({"SecretIdList": done}).encode())
    if status == 200:
        errors = [
            {"SecretId": id_, "ErrorCode": "InternalServiceError", "Message": "chaos"} for id_ in unlucky
        ]
        answered = json.loads(found)
        found = json.dumps({**answered, "Errors": [*answered.get("Errors", []), *errors]}).encode()
    return status, headers, found


def _events(rng: random.Random, request: Request, upstream: Upstream) -> Any:
    entries = request.document["Entries"]
    half = len(entries) // 2
    refused = [{"ErrorCode": "InternalFailure", "ErrorMessage": "chaos"} for _ in entries[half:]]
    answered: dict[str, Any] = {"Entries": []}
    headers = {"Content-Type": "application/x-amz-json-1.1"}
    if half:
        _, headers, found = upstream.ask(request, json.dumps({"Entries": entries[:half]}).encode())
        answered = json.loads(found)
    answered = {"Entries": [*answered["Entries"], *refused], "FailedEntryCount": len(refused)}
    return 200, headers, json.dumps(answered).encode()


PARTIAL: dict[str, Callable[[random.Random, Request, Upstream], Any]] = {
    "DynamoDB.BatchGetItem": _batch_get,
    "DynamoDB.BatchWriteItem": _batch_write,
    "DynamoDB.TransactWriteItems": _transaction,
    "secretsmanager.BatchGetSecretValue": _secrets,
    "AWSEvents.PutEvents": _events,
}
