"""The workers of a run: threads that send what the dispatcher hands out."""

import logging
import threading
from collections.abc import Generator

from ..clock import Clock
from ..errors import AccountError, ErrorCode
from ..renewal import internal
from ..report import Result
from .client import BinanceClient
from .dispatcher import Dispatcher
from .lanes import Task

LET_GO = 10.0  # seconds after the deadline: a request has ended by then, or it hangs outside its timeouts
_log = logging.getLogger(__name__)


def renew_all(
    dispatcher: Dispatcher,
    binance: BinanceClient,
    clock: Clock,
    workers: int,
    deadline: float,
    every: float,
) -> Generator[list[Result], None, None]:
    """Send everything that the dispatcher has; yield results as they come, at least every `every` seconds.

    Every task comes out once: what is left at `deadline` (monotonic) as FAILED where it was tried, as
    DEFERRED where it was not. Close the iterator and nothing more is sent.
    """

    def send(task: Task) -> None:
        renewal = task.renewal
        last = renewal.posting
        result, error = None, None
        try:
            result = renewal.send(binance)
        except AccountError as trouble:
            error = trouble
        except Exception as bug:  # noqa: BLE001 - one account's bug is not the others'
            error = internal(bug)
        if error:
            _log.debug("failure", extra={"accountId": task.id, "errorCode": error.code, "why": error.message})
        dispatcher.done(task, result, error, last)

    dispatcher.start(workers)
    for _ in range(workers):
        # Daemons: one that hangs in name resolution must not outlive the process.
        threading.Thread(target=dispatcher.work, args=(send,), daemon=True).start()
    try:
        while (results := dispatcher.collect(every)) is not None:
            yield results
            if clock.monotonic() > deadline + LET_GO:
                break
        yield dispatcher.close(ErrorCode.DEADLINE)
    finally:
        dispatcher.close(ErrorCode.DEADLINE)
