"""Reads a queue of the keeper's `Listen Key Changed` events: they say when to read the table, not the key."""

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
    """Wakes the streams of an account when its key changes, so that they read the table at once.

    Reads an SQS queue to which an EventBridge rule sends the `Listen Key Changed` events. Pass one object to
    all streams of a process, and give each process its own queue: SQS delivers a message to one reader only.

    `queue_url` is the queue's URL. `sqs` is a boto3 client whose read timeout is longer than `wait_seconds`;
    by default one of the default session, for the region in AWS_REGION. `wait_seconds` (at most 20) is how
    long one ReceiveMessage waits for messages. Needs sqs:ReceiveMessage and sqs:DeleteMessage.

    A thread reads the queue while any stream is open, and ends within `wait_seconds` after the last one is
    closed. If the queue cannot be read, the thread logs a warning and tries again every 5 s; the streams then
    notice a change within a minute. Raises NoRegionError if no region is set and `sqs` is None.
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
        """Call `wake`, from another thread, whenever the account's key has changed."""
        with self._lock:
            self._subscribed.append((account, wake))
            if len(self._subscribed) == 1:
                self._ended = threading.Event()
                # A daemon thread: one that waits for SQS must not delay the end of the program.
                threading.Thread(
                    target=self._read, args=(self._ended,), name="listen-key-changes", daemon=True
                ).start()

    def unsubscribe(self, account: str, wake: Callable[[], None]) -> None:
        """End a subscription. Raises ValueError if there is none with these arguments."""
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
            except Exception as error:  # noqa: BLE001 - a bug must not end the thread that wakes the streams
                if (code := error_code(error)) != self._trouble:  # log it once, not every 5 s
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
