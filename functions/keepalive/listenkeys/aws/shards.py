"""A tick or a sweep as one message per shard, and a shard as a segment of AccountsTable."""

import contextlib
import json
from dataclasses import asdict, dataclass

from ..errors import InvalidEvent, Unavailable
from ..trigger import SWEEP, TICK
from .clients import AwsError, Sqs, call

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

    def __init__(self, sqs: Sqs, url: str, shards: int) -> None:
        self._sqs, self._url, self._shards = sqs, url, shards

    def send(self, run_id: str, trigger: str) -> int:
        """Send a run's messages; return how many. Raises Unavailable when some did not go out."""
        failed: set[str] = set()
        for start in range(0, self._shards, _BATCH):
            segments = range(start, min(start + _BATCH, self._shards))
            shards = [Shard(run_id, trigger, segment, self._shards) for segment in segments]
            entries = [{"Id": str(each.segment), "MessageBody": json.dumps(asdict(each))} for each in shards]
            send = self._sqs.send_message_batch
            answer = call("WorkQueue did not take the shards", send, QueueUrl=self._url, Entries=entries)
            failed |= {entry["Code"] for entry in answer.get("Failed", ())}
        if failed:  # Lambda's retry sends all again; a shard that has just run costs only reads
            raise Unavailable(f"WorkQueue did not take all shards: {', '.join(sorted(failed))}")
        return self._shards

    def retry(self, receipt_handle: str, seconds: int) -> None:
        """Have a received message come back after `seconds`, not after the queue's visibility timeout."""
        with contextlib.suppress(*AwsError):  # then it comes back later
            self._sqs.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )
