"""A queue that gets the keeper's `Listen Key Changed` events: it says when to read the table, not the key."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from listenkeys.aws.clients import error_code

from .aws import client

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger("listenkey_keeper.stream")
_WAIT_SECONDS = 20  # the longest that SQS lets a receiver wait
_RETRY_SECONDS = 5.0


class ListenKeyChanges:
    """Reads an SQS queue that a rule fills with `Listen Key Changed`, and wakes the streams of those
    accounts.

    Use one object for all streams of a process, and one queue for each process: a message goes to one reader
    only. `sqs` is a boto3 client that may wait 20 s for an answer, by default one of the default session.
    Needs sqs:ReceiveMessage and sqs:DeleteMessage. A thread reads the queue while any stream is open, and
    ends within `wait_seconds` after that.
    """

    def __init__(
        self, queue_url: str, *, sqs: SQSClient | None = None, wait_seconds: int = _WAIT_SECONDS
    ) -> None:
        config = Config(connect_timeout=3, read_timeout=wait_seconds + 10, retries={"total_max_attempts": 1})
        self._sqs = sqs or client("sqs", config)
        self._queue_url, self._wait_seconds = queue_url, wait_seconds
        self._lock = threading.Lock()
        self._subscribed: list[tuple[str, Callable[[], None]]] = []
        self._ended = threading.Event()
        self._trouble = ""

    def subscribe(self, account: str, wake: Callable[[], None]) -> None:
        """Call `wake` whenever the account's key has changed, from another thread."""
        with self._lock:
            self._subscribed.append((account, wake))
            if len(self._subscribed) == 1:
                self._ended = threading.Event()
                # A daemon: a reader that waits for SQS must not hold up the end of the program.
                threading.Thread(
                    target=self._read, args=(self._ended,), name="listen-key-changes", daemon=True
                ).start()

    def unsubscribe(self, account: str, wake: Callable[[], None]) -> None:
        """End a subscription."""
        with self._lock:
            self._subscribed.remove((account, wake))
            if not self._subscribed:
                self._ended.set()

    def _read(self, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                answer = self._sqs.receive_message(
                    QueueUrl=self._queue_url, WaitTimeSeconds=self._wait_seconds, MaxNumberOfMessages=10
                )
                for message in answer.get("Messages", ()):
                    self._wake(message.get("Body", ""))
                    self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - or a bug would end the thread, and nobody be woken
                if (code := error_code(error)) != self._trouble:  # once, not every few seconds
                    log.warning("the queue of changes cannot be read (%s)", code)
                self._trouble = code
                ended.wait(_RETRY_SECONDS)

    def _wake(self, body: str) -> None:
        try:
            changed: Any = json.loads(body)["detail"]["accountId"]
        except (ValueError, KeyError, TypeError):
            return
        with self._lock:
            subscribed = list(self._subscribed)
        for account, wake in subscribed:
            if account == changed:
                wake()
