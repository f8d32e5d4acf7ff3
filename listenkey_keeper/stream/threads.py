"""Threads for calls to AWS: in asyncio's own, a call that hangs would block the bot and DNS look-ups."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import PriorityQueue
from typing import Any, TypeVar

T = TypeVar("T")
_COUNT = 2
_Job = tuple[bool, int, asyncio.AbstractEventLoop, asyncio.Future[Any], Callable[[], Any]]


class Threads:
    """Two threads that make blocking calls for all streams of a process, urgent ones first.

    They start on first use. They are daemon threads, so that a call that hangs does not delay the end of the
    program.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._process = 0

    def call(self, work: Callable[[], T], urgent: bool = False) -> asyncio.Future[T]:
        """Run `work` in a thread, and return a future for its result or exception.

        `urgent` puts it before all calls that are not. If the future is cancelled before a thread has started
        the call, the call is not made.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            if self._process != os.getpid():  # a forked process does not inherit threads
                self._process = os.getpid()
                self._jobs: PriorityQueue[_Job] = PriorityQueue()
                for _ in range(_COUNT):
                    threading.Thread(
                        target=_serve, args=(self._jobs,), name="listenkey-stream", daemon=True
                    ).start()
            self._jobs.put((not urgent, next(self._numbers), loop, future, work))
        return future


def _serve(jobs: PriorityQueue[_Job]) -> None:
    while True:
        _do(*jobs.get()[2:])


def _do(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], work: Callable[[], Any]) -> None:
    if future.cancelled():
        return
    result, failed = None, None
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - raised to the caller by the future
        failed = error
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(_settle, future, result, failed)


def _settle(future: asyncio.Future[Any], result: Any, failed: Exception | None) -> None:
    if future.cancelled():
        return
    if failed:
        future.set_exception(failed)
    else:
        future.set_result(result)


THREADS = Threads()
