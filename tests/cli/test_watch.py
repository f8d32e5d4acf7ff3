"""`listenkeys status --watch` on a screen that is a text; tests/cli/test_terminal.py has a real one."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from rich.console import Console

from listenkey_keeper.cli import watch as watching
from listenkeys.errors import Unavailable
from listenkeys.model import Account, Current
from listenkeys.view.status import AccountStatus


def status(name: str, **error: str) -> AccountStatus:
    return AccountStatus(
        Account(name, "usdm"), Current(outcome="FAILED" if error else "EXTENDED", **error), 40, 1
    )


def test_watch_reads_again_after_each_pause_until_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [{"error_code": "TIMEOUT", "error_message": f"trouble number {n}"} for n in range(20)]
    failing = [status(f"account{n}", **error) for n, error in enumerate(errors)]
    answers: list[Any] = [
        [*failing, status("zoe")],
        Unavailable("ListenKeysTable: throttled"),
        ReadTimeoutError(endpoint_url="https://..."),
        [status("alice")],
        KeyboardInterrupt(),
    ]
    pauses: list[float] = []
    monkeypatch.setattr(watching.time, "sleep", pauses.append)
    screen = StringIO()

    def read() -> list[AccountStatus]:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return list(answer)

    watching.watch(
        Console(file=screen, force_terminal=True, width=100, height=24), lambda: "title", read, 7.0
    )

    shown = screen.getvalue()
    assert pauses == [7.0, 7.0, 7.0, 7.0]
    assert "throttled" in shown
    assert "could not be reached (ReadTimeoutError)" in shown
    assert "failing, listenKey still alive (20)" in shown
    assert re.search(r"account0: \S*TIMEOUT\S*: trouble number 0", shown)
    assert "more errors" in shown
    assert "alice" in shown
