"""The workers of a run: threads that send what the dispatcher hands out."""

import logging
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING

from ..clock import Clock
from ..errors import AccountError, ErrorCode
from ..model import Result
from ..renewal import internal
from .dispatcher import Dispatcher

if TYPE_CHECKING:
    from .client import BinanceClient

LET_GO = 10.0  # seconds after the deadline: a request has ended by then, or it hangs outside its timeouts
_log = logging.getLogger(__name__)


def renew_all(
    dispatcher: Dispatcher,
    binance: "BinanceClient",
    clock: Clock,
    workers: int,
    deadline: float,
    every: float,
) -> Generator[list[Result], None, None]:
    """Send everything that the dispatcher has; yield results as they come, at least every `every` seconds.

    Every task comes out once. What is left at `deadline` (monotonic) is FAILED if it was tried and DEFERRED
    if not. Close the iterator and nothing more is sent.
    """
    for _ in range(workers):
        # Daemons: one that hangs in name resolution must not outlive the process.
        threading.Thread(target=_work, args=(dispatcher, binance), daemon=True).start()
    try:
        while (results := dispatcher.collect(every)) is not None:
            yield results
            if clock.monotonic() > deadline + LET_GO:
                break
        yield dispatcher.close(ErrorCode.DEADLINE)
    finally:
        dispatcher.close(ErrorCode.DEADLINE)


def _work(dispatcher: Dispatcher, binance: "BinanceClient") -> None:
    raised: BaseException | None = None
    try:
        while (task := dispatcher.next()) is not None:
            last = task.renewal.posting
            result: Result | None = None
            error: AccountError | None = None
            try:
                result = task.renewal.send(binance)
            except AccountError as trouble:
                error = trouble
            except Exception as bug:  # noqa: BLE001 - one account's bug is not the others'
                error = internal(bug)
            if error:
                why = {"accountId": task.id, "errorCode": error.code, "why": error.message}
                _log.debug("failure", extra=why)
            dispatcher.done(task, result, error, last)
    except BaseException as bug:  # noqa: BLE001 - raised by `collect` in the main thread
        raised = bug
    finally:
        dispatcher.leave(raised)
