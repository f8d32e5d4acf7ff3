"""How the AWS clients are set up, and what their errors mean."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader

from ..errors import Unavailable
from ..timing import AT_ONCE, AWS_CONNECT, AWS_READ

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

DynamoDB: TypeAlias = "DynamoDBClient"
EventBridge: TypeAlias = "EventBridgeClient"
SecretsManager: TypeAlias = "SecretsManagerClient"
Sqs: TypeAlias = "SQSClient"

MAX_TRIES = 5  # in a row without progress at DynamoDB, besides botocore's own retries of a failed call
_SCAN = 1000  # items a page: pages of 1 MB would add 10 MB to the peak memory
_BATCH_GET = 100  # keys in a BatchGetItem

# In a VPC without a route a call does not fail, it hangs: botocore's default, 60 s + 60 s five to ten times,
# would outlast the function. No attempt starts that could outlast the run (`Deadline`).
NOT_AGAIN = -1.0
CLIENT_CONFIG = Config(
    connect_timeout=AWS_CONNECT,
    read_timeout=AWS_READ,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=10,
    # The services validate requests themselves; to do it here too takes a sixth of a run's CPU time.
    parameter_validation=False,
)

AwsError = (BotoCoreError, ClientError)


class OutOfTime(BotoCoreError):
    """The run ends too soon for another attempt."""

    fmt = "the run ends too soon for another attempt"


class Deadline:
    """When a run's AWS calls must have ended (monotonic). No attempt starts that could outlast it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.at = float("inf")
        self._thread = threading.local()

    @contextmanager
    def brief(self, again_within: float = AT_ONCE) -> Iterator[None]:
        """Retry this thread's calls only if they fail within `again_within` seconds, not if they hang.

        NOT_AGAIN: never retry. It is for a write that must not be done twice.
        """
        self._thread.at = None  # set by the first attempt, because a slow processor takes long to prepare it
        self._thread.again_within = again_within
        try:
            yield
        finally:
            del self._thread.at

    def check(self, **_: object) -> None:
        """Raise OutOfTime unless an attempt that gets no answer would still end in time."""
        ends = self._monotonic() + AWS_CONNECT + AWS_READ
        at = getattr(self._thread, "at", self.at)
        if at is None:
            self._thread.at = ends + self._thread.again_within
            at = self.at
        if ends > min(self.at, at):
            raise OutOfTime


class _Loader(Loader):
    """Lists only our services. To find one, botocore would look into the directories of all 400, twice."""

    def list_available_services(self, type_name: str) -> list[str]:
        return ["dynamodb", "events", "secretsmanager", "sqs"]


@cache
def _session() -> boto3.Session:
    session = botocore.session.get_session()
    session.register_component("data_loader", _Loader())
    return boto3.Session(botocore_session=session)


def client(service: str, deadline: Deadline) -> Any:
    """Return a boto3 client. Each of its attempts, retries included, keeps the deadline."""
    made: Any = _session().client(service, config=CLIENT_CONFIG)
    made.meta.events.register("before-send", deadline.check)
    made.exceptions  # noqa: B018 - made on first use: two threads at once would get different classes
    return made


def error_code(error: Exception) -> str:
    """Return the error's code or class name, without its message, which may contain what was sent."""
    if isinstance(error, ClientError):
        code: Any = error.response.get("Error", {}).get("Code")
        return str(code or "Unknown")
    return type(error).__name__


def call(trouble: str, operation: Callable[..., Any], **request: Any) -> Any:
    """Call an operation and return its answer. Raises Unavailable with `trouble` and the error's code."""
    try:
        return operation(**request)
    except AwsError as error:  # botocore has tried three times already
        code = error_code(error)
    # Raised outside the except block, or the error, which may contain what was sent, would be its context.
    raise Unavailable(f"{trouble}: {code}")


def jitter(attempt: int) -> float:
    """Return the seconds to wait before a further attempt: full jitter, doubling from 0.2 s up to 2 s."""
    return random.uniform(0, min(2.0, 0.1 * 2**attempt))  # nosec B311 # noqa: S311 - not for secrets


def scan(dynamodb: DynamoDB, table: str, name: str, **how: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield a table's items, a page at a time. Raises Unavailable, whose message calls the table `name`."""
    while True:
        page = call(f"{name} could not be read", dynamodb.scan, TableName=table, Limit=_SCAN, **how)
        yield page["Items"]
        if not page.get("LastEvaluatedKey"):
            return
        how["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def batch_get(
    dynamodb: DynamoDB, table: str, name: str, keys: Sequence[dict[str, Any]], sleep: Callable[[float], None]
) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Yield keys and their items, in consistent reads, until all keys are read. Raises Unavailable."""
    for start in range(0, len(keys), _BATCH_GET):
        left = list(keys[start : start + _BATCH_GET])
        tried = 0  # rounds since the last that read a key
        while left:
            if tried == MAX_TRIES:
                raise Unavailable(f"{name} could not be read: unprocessed keys remained")
            if tried:
                sleep(jitter(tried))
            request = {table: {"Keys": left, "ConsistentRead": True}}
            answer = call(f"{name} could not be read", dynamodb.batch_get_item, RequestItems=request)
            unprocessed = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            done = [key for key in left if key not in unprocessed]
            yield done, answer["Responses"].get(table, [])
            left, tried = unprocessed, 1 if done else tried + 1
