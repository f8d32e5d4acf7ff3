"""The table of `listenkeys status`, as markup: its text, and which parts have which colour."""

import re

import pytest
from rich.console import Console

from listenkey_keeper.cli.status import StatusTable
from listenkeys.model import Account, Current
from listenkeys.view.status import AccountStatus


def status(name: str, left: float | None, tried: float | None = 1.0, **account: object) -> AccountStatus:
    return AccountStatus(Account(name, "usdm", **account), Current(outcome="EXTENDED"), left, tried)  # type: ignore[arg-type]


def failing(name: str, left: float) -> AccountStatus:
    current = Current(outcome="FAILED", error_code="TIMEOUT", error_message="late")
    return AccountStatus(Account(name, "coinm"), current, left, 30.0)


LONG = "carol-with-a-name-of-26-abc"
ROWS = [
    status("alice", 60.0), status("bob", 47.5, 12.5), failing(LONG, 30.0), status("dave", 0.0, 60.0),
    status("erin", None, None), status("fred", 0.5, 59.5, environment="demo"),
    status("gina", 20.0, enabled=False), status("hugo", 59.0, renew_after=5),
]  # fmt: skip


def lines(rows: list[AccountStatus], columns: int, run_id: str | None = None) -> list[str]:
    table = StatusTable(rows, run_id)
    options = Console(width=columns, force_terminal=True, legacy_windows=False).options
    return [line.text.markup for line in table.lines(options, table.rows)]


def test_the_accounts_are_grouped_coloured_and_summed_up() -> None:
    bold = [f"[bold]{name}[/bold]" for name in (
        "account                      ", "product  ", "outcome ", "  left", "last try  ", "renew after",
    )]  # fmt: skip
    assert lines(ROWS, 110) == [
        "  ".join(bold[:4]) + " " * 24 + "  ".join(bold[4:]),
        "[red]without a live listenKey (2)[/red]",
        "  dave                         usdm       [red]EXTENDED[/red]  [red]  dead[/red]  "
        "[red]····················[/red]  [dim]60 min ago[/dim]  [dim]-[/dim]",
        "  erin                         usdm       [red]EXTENDED[/red]  [red]  none[/red]  "
        "[red]····················[/red]  [dim]-         [/dim]  [dim]-[/dim]",
        "[red]with less than 15 min left (1)[/red]",
        "  fred                         usdm demo  [red]EXTENDED[/red]  [red]<1 min[/red]  "
        "[red]▏···················[/red]  [dim]60 min ago[/dim]  [dim]-[/dim]",
        "[yellow]failing, listenKey not yet expired (1)[/yellow]",
        f"  {LONG}  coinm      [yellow]FAILED  [/yellow]  [yellow]30 min[/yellow]  "
        "[yellow]██████████··········[/yellow]  [dim]30 min ago[/dim]  [dim]-[/dim]",
        "[green]ok (3)[/green]",
        "  bob                          usdm       [green]EXTENDED[/green]  [green]47 min[/green]  "
        "[green]███████████████▉····[/green]  [dim]12 min ago[/dim]  [dim]-[/dim]",
        "  hugo                         usdm       [green]EXTENDED[/green]  [green]59 min[/green]  "
        "[green]███████████████████▋[/green]  [dim]1 min ago [/dim]  [dim]5 min[/dim]",
        "  alice                        usdm       [green]EXTENDED[/green]  [green]60 min[/green]  "
        "[green]████████████████████[/green]  [dim]1 min ago [/dim]  [dim]-[/dim]",
        "[dim]disabled (1)[/dim]",
        "  gina                         usdm       [dim]DISABLED[/dim]  [dim]20 min[/dim]  "
        "[dim]██████▋·············[/dim]  [dim]1 min ago [/dim]  [dim]-[/dim]",
    ]
    assert StatusTable(ROWS).sum().markup == (
        "8 accounts: 3 ok[red], 3 at risk[/red] (dave, erin, fred)"
        "[yellow], 1 failing[/yellow] (carol-with-a…e-of-26-abc)[dim], 1 disabled[/dim]"
    )


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (105, LONG + "  coinm      FAILED    30 min  ██████████··········  30 min ago  -"),
        (104, LONG + "  coinm      FAILED    30 min  █████████▌·········  30 min ago  -"),
        (90, LONG + "  coinm      FAILED    30 min  ██▌··  30 min ago  -"),
        (89, LONG + "  coinm      FAILED    30 min  30 min ago  -"),
        (82, "carol-with-a-…me-of-26-abc  coinm      FAILED    30 min  30 min ago  -"),
        (66, "carol…-abc  coinm      FAILED    30 min  30 min ago  -"),
        (65, "carol-with-…-of-26-abc  coinm      FAILED    30 min  30 min ago"),
        (53, "carol…-abc  coinm      FAILED    30 min  30 min ago"),
        (52, "carol-with…-of-26-abc  coinm      FAILED    30 min"),
        (41, "carol…-abc  coinm      FAILED    30 min"),
        (40, "carol-with…of-26-abc  FAILED    30 min"),
        (23, "c…c  FAILED    30 min"),
    ],
)
def test_the_bar_shrinks_then_goes_then_ids_then_columns(columns: int, shown: str) -> None:
    table = StatusTable(ROWS)
    options = Console(width=columns, force_terminal=True, legacy_windows=False).options
    [line] = [each.text.plain for each in table.lines(options, table.rows) if each.row is ROWS[2]]
    assert line == "  " + shown


def test_a_table_without_some_columns_has_no_bar_and_one_state_no_heading() -> None:
    for columns, end in ((60, "  [dim]1 min ago[/dim]  [dim]5 min[/dim]"), (50, "  [dim]1 min ago[/dim]")):
        assert lines([ROWS[7]], columns)[1:] == [
            f"hugo     usdm     [green]EXTENDED[/green]  [green]59 min[/green]{end}"
        ]


def test_an_account_that_a_run_left_alone_is_skipped_and_dim_only_if_ok() -> None:
    shown = "".join(lines([ROWS[0], ROWS[3], ROWS[6]], 60, "a run"))
    assert re.findall(r"\[\w+\](?:SKIPPED|DISABLED) ?\[/\w+\]", shown) == [
        "[red]SKIPPED [/red]",
        "[dim]SKIPPED [/dim]",
        "[dim]DISABLED[/dim]",
    ]


def test_the_summary_names_five_and_counts_the_rest() -> None:
    five = [status(f"a{number}", 5.0) for number in range(5)]
    assert StatusTable(five).sum().plain == "5 accounts: 0 ok, 5 at risk (a0, a1, a2, a3, a4)"
    six = [*five, status("a5", 5.0)]
    assert StatusTable(six).sum().plain == "6 accounts: 0 ok, 6 at risk (a0, a1, a2, a3, a4 and 1 more)"
    untried = AccountStatus(Account("zoe", "usdm"), Current(outcome="EXTENDED"), 30, 30, "TIMEOUT")
    late = AccountStatus(Account("yves", "usdm"), Current(outcome="EXTENDED"), 31, 29, "TIMEOUT")
    assert StatusTable([untried, late]).sum().markup == (
        "2 accounts: 2 ok ([yellow]1 not tried since TIMEOUT[/yellow])"
    )
    assert StatusTable([untried, late], everything=False).sum().plain == (
        "2 accounts: 2 ok (1 not tried since TIMEOUT; --all lists them)"
    )
    banned = AccountStatus(Account("yves", "usdm"), Current(outcome="EXTENDED"), 59, 1, "IP_BANNED")
    assert StatusTable([banned]).sum().plain == "1 account: 1 ok (1 not tried since IP_BANNED)"
    down = AccountStatus(Account("yves", "usdm"), Current(outcome="EXTENDED"), 59, 1, "TIMEOUT")
    assert StatusTable([failing("a", 30.0), down]).sum().plain == "2 accounts: 1 ok, 1 failing (a)"
    assert StatusTable([failing("a", 30.0), failing("b", 30.0), down]).sum().plain == (
        "3 accounts: 1 ok (1 not tried since TIMEOUT), 2 failing (a, b)"
    )


def test_more_than_20_accounts_are_listed_only_where_they_are_not_ok() -> None:
    rows = [status(f"a{number}", 50.0) for number in range(20)]
    assert len(StatusTable(rows).listed) == 20
    rows.append(status("bob", 5.0))
    few = StatusTable(rows)
    assert [row.account.id for row in few.listed] == ["bob"]
    assert few.sum().markup == (
        "21 accounts: 20 ok ([dim]--all lists them[/dim])[red], 1 at risk[/red] (bob)"
    )
    assert len(StatusTable(rows, everything=True).listed) == 21
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(StatusTable([*rows[:20], status("zoe", 50.0)]))
    assert captured.get() == "21 accounts: 21 ok (--all lists them)\n"


def test_of_more_than_20_accounts_with_one_error_20_are_named() -> None:
    rows = [failing(f"a{number:02}", 30.0) for number in range(23)]
    shown = {}
    for everything in (None, True, False):
        console = Console(width=1000, force_terminal=True, color_system=None)
        with console.capture() as captured:
            console.print(StatusTable(rows, everything=everything).problems())
        shown[everything] = captured.get().splitlines()[-1].strip()
    names = [row.account.id for row in rows]
    more = "and 3 more (`listenkeys status --not-ok` lists them)"
    assert shown[None] == f"23 accounts: {', '.join(names[:20])} {more}"
    assert shown[True] == f"23 accounts: {', '.join(names)}"
    assert shown[False] == f"23 accounts: {', '.join(names[:20])} and 3 more (listed above)"


def test_in_an_outage_the_cause_is_not_below_hundreds_of_accounts() -> None:
    rows = [failing(f"a{number:03}", 30.0) for number in range(300)]
    for everything, listed in ((None, 20), (False, 300), (True, 300)):
        console = Console(width=80, force_terminal=True, color_system=None)
        with console.capture() as captured:
            console.print(StatusTable(rows, everything=everything))
        lines = captured.get().splitlines()
        assert sum(line.strip().startswith("a") and "min" in line for line in lines) == listed, lines[:5]
        heading = "failing, listenKey not yet expired (20 of 300, --not-ok lists them)"
        assert (heading in lines) == (everything is None)
