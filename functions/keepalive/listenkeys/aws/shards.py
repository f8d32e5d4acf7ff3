"""Splits a tick or a sweep into shards: one message, and one segment of AccountsTable, for each."""

import contextlib
import json
from dataclasses import asdict, dataclass

from ..errors import Unavailable
from .clients import AwsError, Sqs, call

_BATCH = 10  # SendMessageBatch's limit


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a run: segment `segment` of `total`."""

    run_id: str
    trigger: str
    segment: int
    total: int


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """Sends the shards' messages to WorkQueue."""

    sqs: Sqs
    url: str
    shards: int

    def send(self, run_id: str, trigger: str) -> int:
        """Send a run's messages and return how many. Raises Unavailable if some were not accepted."""
        failed: set[str] = set()
        for start in range(0, self.shards, _BATCH):
            segments = range(start, min(start + _BATCH, self.shards))
            shards = [Shard(run_id, trigger, segment, self.shards) for segment in segments]
            entries = [{"Id": str(each.segment), "MessageBody": json.dumps(asdict(each))} for each in shards]
            send = self.sqs.send_message_batch
            answer = call("WorkQueue did not take the shards", send, QueueUrl=self.url, Entries=entries)
            failed |= {entry["Code"] for entry in answer.get("Failed", ())}
        if failed:  # Lambda's retry sends all again; to repeat a shard that has just run costs only reads
            raise Unavailable(f"WorkQueue did not take all shards: {', '.join(sorted(failed))}")
        return self.shards

    def retry(self, receipt_handle: str, seconds: int) -> None:
        """Make a received message visible after `seconds`, instead of the queue's visibility timeout."""
        with contextlib.suppress(*AwsError):  # then it comes back later
            self.sqs.change_message_visibility(
                QueueUrl=self.url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )
