"""`listenkeys status --watch` on a screen that is a text; tests/cli/test_terminal.py has a real one."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from rich.console import Console, RenderableType

from listenkey_keeper.cli import watch as watching
from listenkey_keeper.cli.status import StatusTable
from listenkey_keeper.cli.watch import Screen
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

    def read() -> StatusTable:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return StatusTable(answer)

    watching.watch(
        Console(file=screen, force_terminal=True, width=100, height=24), lambda: "title", read, 7.0
    )

    shown = screen.getvalue()
    assert pauses == [7.0, 7.0, 7.0, 7.0]
    for warning in ("ListenKeysTable: AWS answered throttled: try again", "reached (ReadTimeoutError)"):
        assert re.search(rf"\x1b\[33m[^\x1b]*{re.escape(warning)}", shown)
    assert "failing, listenKey not yet expired (20)" in shown
    assert re.search(r"account0: \S*TIMEOUT\S*: trouble number 0", shown)
    *screens, left = shown.split("\x1b[?1049l")
    assert len(screens) == 1
    left = re.sub(r"\x1b\[\d+m", "", left)
    assert left.splitlines() == ["title", "", *plain(StatusTable([status("alice")]), 100)]


def plain(what: RenderableType, columns: int, rows: int = 25) -> list[str]:
    console = Console(width=columns, height=rows, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(what, end="")
    return captured.get().splitlines()


LATE = [{"error_code": code, "error_message": "late"} for code in ("ONE", "TWO", "TWO", "THREE")]
SHORT = ["bad0: ONE: late", "2 accounts: TWO: late", "bad3: THREE: late"]
WHOLE = [
    *("ONE: late", "  bad0", "", "TWO: late", "  2 accounts: bad1, bad2"),
    *("", "THREE: late", "  bad3"),
]


@pytest.mark.parametrize(
    ("rows", "accounts", "more", "errors"),
    [
        (24, 10, [], WHOLE),
        (22, 7, ["... 3 more: 3 ok"], WHOLE),
        (21, 10, [], SHORT),
        (19, 10, [], SHORT),
        (18, 8, ["... 2 more: 2 ok"], SHORT),
        (14, 4, ["... 5 more: 2 failing, 3 ok"], SHORT),
        (12, 3, ["... 6 more: 3 failing, 3 ok"], [SHORT[0], "... 2 more errors"]),
        (10, 2, ["... 7 more: 4 failing, 3 ok"], ["... 3 more errors"]),
        (3, 0, ["... 7 more: 4 failing, 3 ok"], ["... 3 more errors"]),
    ],
)
def test_a_screen_shows_the_most_urgent_accounts_and_each_error(
    rows: int, accounts: int, more: list[str], errors: list[str]
) -> None:
    table = StatusTable(
        [*(status(f"bad{n}", **error) for n, error in enumerate(LATE)), *(status(f"a{n}") for n in range(3))]
    )
    whole = plain(table, 60)
    end = "7 accounts: 3 ok, 4 failing (bad0, bad1, bad2, bad3)"
    assert plain(Screen("title", table, "careful"), 60, rows) == [
        "careful", "title", "", *whole[:accounts], *more, "", *errors, "", end
    ]  # fmt: skip


def test_a_screen_without_errors_or_a_warning_has_room_for_the_accounts() -> None:
    table = StatusTable([status(f"a{n}") for n in range(4)])
    whole, end = plain(table, 60), ["", "4 accounts: 4 ok"]
    assert plain(Screen("title", table), 60, 9) == ["title", "", *whole]
    not_ok = StatusTable([*table.rows, status("bad", **LATE[0])], everything=False)
    listed = plain(Screen("title", not_ok), 60, 12)
    assert [line.split()[0] for line in listed if line] == [
        "title", "account", "bad", "ONE:", "bad", "5",
    ]  # fmt: skip
    assert listed[-1] == "5 accounts: 4 ok (--all lists them), 1 failing (bad)"
    assert plain(Screen("title", table), 60, 8) == ["title", "", *whole[:3], "... 2 more: 2 ok", *end]
