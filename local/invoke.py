"""Calls the handler in this process as the Lambda runtime does, with given environment variables."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from listenkeys.clock import SYSTEM_CLOCK, Clock
from listenkeys.settings import Settings

_loading = threading.RLock()  # os.environ is shared: two threads would restore each other's variables


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set these variables in os.environ and remove all other AWS_ ones, until the block ends."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("AWS_"):
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass(slots=True)
class Context:
    """The part of Lambda's context object that the handler and Powertools read."""

    remaining_seconds: float = 300.0
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_name: str = "KeepaliveFunction"
    memory_limit_in_mb: int = 256
    invoked_function_arn: str = "arn:aws:lambda:eu-west-1:123456789012:function:KeepaliveFunction"

    def get_remaining_time_in_millis(self) -> int:
        """Return the time that is left for the invocation, in milliseconds."""
        return int(self.remaining_seconds * 1000)


@dataclass(frozen=True, slots=True)
class Invocation:
    """The result of an invocation: what it returned or raised, and everything it printed."""

    report: dict[str, Any] | None
    error: Exception | None
    output: str


class LocalFunction:
    """The function with its module loaded, as in a warm Lambda environment.

    `variables` are its environment variables. `clock` replaces the real clock. `invoke` may be called many
    times.
    """

    def __init__(self, variables: Mapping[str, str], clock: Clock | None = None) -> None:
        self._variables = dict(variables)
        with _loading, environment(self._variables):
            # Powertools keeps one logger per service, which writes to the stream it was made with.
            earlier = logging.getLogger(self._variables["POWERTOOLS_SERVICE_NAME"])
            earlier.handlers.clear()
            for mark in ("init", "powertools_handler"):
                vars(earlier).pop(mark, None)
            sys.modules.pop("app", None)
            app: Any = importlib.import_module("app")
            self.app = app
            app.keeper, app.work_queue = app.build(Settings.from_env(), clock or SYSTEM_CLOCK, self._lazy)

    def _lazy(self, make: Callable[[], object]) -> Any:
        def make_here() -> object:
            with _loading, environment(self._variables):
                return make()

        return self.app.Lazy(make_here)

    def invoke(
        self, event: Any, context: Context | None = None, handler: str = "lambda_handler"
    ) -> Invocation:
        """Call a handler with an event. What it raises is in the result, as `error`."""
        output = io.StringIO()
        report, error = None, None
        for stream in self.app.logger.handlers:
            stream.setStream(output)
        with environment(self._variables), redirect_stdout(output):
            try:
                report = getattr(self.app, handler)(event, context or Context())
            except Exception as raised:  # noqa: BLE001 - the runtime catches everything too
                error = raised
        return Invocation(report, error, output.getvalue())
