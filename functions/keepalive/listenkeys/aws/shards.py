"""A tick or a sweep as one message per shard, and a shard as a segment of AccountsTable."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..errors import InvalidEvent, Unavailable
from ..trigger import SWEEP, TICK
from .clients import MAX_TRIES, AwsError, call, jitter

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_BATCH = 10  # SendMessageBatch's limit


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a run: segment `segment` of `total`."""

    run_id: str
    trigger: str
    segment: int
    total: int

    @classmethod
    def from_message(cls, body: str) -> "Shard":
        """Read a message; raises InvalidEvent for one that no tick or sweep sends."""
        with contextlib.suppress(ValueError, TypeError):
            shard = cls(**json.loads(body))
            if shard.trigger in (TICK, SWEEP) and 0 <= shard.segment < shard.total:
                return shard
        raise InvalidEvent("the message is not one that a tick or a sweep sends")


class WorkQueue:
    """Sends the shards' messages to WorkQueue."""

    def __init__(self, sqs: "SQSClient", url: str, shards: int, sleep: Callable[[float], None]) -> None:
        self._sqs = sqs
        self._url = url
        self._shards = shards
        self._sleep = sleep

    def send(self, run_id: str, trigger: str) -> int:
        """Send a run's messages; return how many. Raises Unavailable when some did not go out."""
        for start in range(0, self._shards, _BATCH):
            segments = range(start, min(start + _BATCH, self._shards))
            shards = [Shard(run_id, trigger, segment, self._shards) for segment in segments]
            self._send_batch({str(shard.segment): json.dumps(asdict(shard)) for shard in shards})
        return self._shards

    def retry(self, receipt_handle: str, seconds: int) -> None:
        """Have a received message come back after `seconds`, not after the queue's visibility timeout."""
        with contextlib.suppress(*AwsError):  # then it comes back later
            self._sqs.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )

    def _send_batch(self, bodies: dict[str, str]) -> None:
        why = ""
        for attempt in range(MAX_TRIES):
            if attempt:
                self._sleep(jitter(attempt))
            entries = [{"Id": id_, "MessageBody": body} for id_, body in bodies.items()]
            send = self._sqs.send_message_batch
            answer = call("WorkQueue did not take the shards", send, QueueUrl=self._url, Entries=entries)
            failed = answer.get("Failed", [])
            if not failed:
                return
            why = ", ".join(sorted({entry["Code"] for entry in failed}))
            bodies = {entry["Id"]: bodies[entry["Id"]] for entry in failed}
        raise Unavailable(f"WorkQueue did not take the shards: {why}")
