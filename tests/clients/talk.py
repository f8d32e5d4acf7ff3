"""How a test talks to a client that lives in an environment of its own: one JSON line each way per call.

Runs in the client's environment, under its Python; the standard library alone.
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any


def talk(calls: dict[str, Callable[..., Any]]) -> None:
    """Make the calls that come in, on one event loop, and answer with what they return or raise."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a client or recipe prints is no answer
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def make(name: str, arguments: list[Any]) -> Any:
        returned = calls[name](*arguments)
        return await returned if inspect.isawaitable(returned) else returned

    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"returned": loop.run_until_complete(make(name, arguments))}
        except Exception as error:  # noqa: BLE001 - whatever it is, the test wants to see it
            raised = {"type": type(error).__name__, "module": type(error).__module__, "text": str(error)}
            answer = {
                "raised": raised | {name: value for name, value in vars(error).items() if _plain(value)}
            }
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | None)
