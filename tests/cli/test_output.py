"""What the commands' output is made of: errors that are said once, names that are cut, arguments."""

from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from listenkey_keeper.cli import samconfig
from listenkey_keeper.cli.errors import CliError
from listenkey_keeper.cli.group import number
from listenkey_keeper.cli.output import Columns, Problems, abbreviate, show
from listenkey_keeper.cli.rows import attributes


def test_each_error_is_said_once_with_at_most_100_names(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"a{number:03}" for number in range(101)]
    found: list[tuple[str, str | None, str | None]] = [(name, "NO_REMEDY", "no\x1b") for name in names[:100]]
    show(Problems([*found, ("bob", None, "wait"), ("carol", None, None)]))
    listed = ", ".join(names[:100])
    assert capsys.readouterr().out.splitlines() == [
        "NO_REMEDY: no?", f"  100 accounts: {listed}", "Wait.", "  bob", "  carol",
    ]  # fmt: skip
    show(Problems([*found, (names[100], "NO_REMEDY", "no\x1b")]))
    assert capsys.readouterr().out.splitlines()[1] == f"  101 accounts: {listed} and 1 more"


def test_what_to_do_about_a_code_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        ("bob", "IP_BANNED", "418"),
        ("carol", "IP_BANNED", "not tried"),
        ("dave", "SECRET_NOT_FOUND", "no"),
    ]
    show(Problems([*found, ("erin", "SECRET_NOT_FOUND", "gone")]))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  - Wait, and find what else uses this address") for line in lines) == 1
    assert lines[lines.index("IP_BANNED: not tried") + 1] == "  carol"
    assert [name in "".join(lines) for name in ("--replace dave", "--replace erin")] == [True, True]


def test_in_a_terminal_errors_are_apart_coloured_and_their_names_cut() -> None:
    console = Console(width=20, force_terminal=True, color_system="standard", no_color=False)
    with console.capture() as captured:
        console.print(Problems([("x" * 18, "ONE", "no"), ("y" * 17, "TWO", "no")]))
    assert captured.get().splitlines() == [
        "\x1b[31mONE\x1b[0m: no", f"  \x1b[1m{'x' * 8}…{'x' * 8}\x1b[0m", "",
        "\x1b[31mTWO\x1b[0m: no", f"  \x1b[1m{'y' * 17}\x1b[0m",
    ]  # fmt: skip
    short = [
        line.markup for line in Problems([("a", "ONE", "no"), ("b", None, None), ("c", None, None)]).short()
    ]
    assert short == ["a: [red]ONE[/red]: no", "2 accounts: "]


@pytest.mark.parametrize(
    ("width", "mark", "shown"),
    [
        (9, "…", "alice-bob"),
        (8, "…", "alic…bob"),
        (7, "…", "ali…bob"),
        (8, "...", "ali...ob"),
        (1, "…", "a…"),
    ],
)
def test_a_name_keeps_its_ends(width: int, mark: str, shown: str) -> None:
    assert abbreviate("alice-bob", width, mark) == shown


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (15, ["one    two  six", "aaaaa  b      c"]),
        (14, ["one    six", "aaaaa    c"]),
        (10, ["one    six", "aaaaa    c"]),
        (9, ["six", "  c"]),
    ],
)
def test_columns_are_left_out_in_their_order(columns: int, shown: list[str]) -> None:
    table = Columns("one", "two", "six", right=("six",), optional=("two", "one"))
    table.add(*map(Text, ("aaaaa", "b", "c")))
    console = Console(width=columns, color_system=None)
    with console.capture() as captured:
        console.print(table)
    assert captured.get().splitlines() == shown


def test_numbers_are_read_from_the_least_to_the_most() -> None:
    read, whole = number("--every", 1, 60), number("--limit", 1, 10, whole=True)
    assert [read("1"), read("60"), read("1.5"), whole("1"), whole("10")] == [1, 60, 1.5, 1, 10]
    for text, of, what in (("0.9", read, "number"), ("60.1", read, "number"), ("2.0", whole, "whole number")):
        with pytest.raises(CliError, match=f"must be a {what} from 1 to"):
            of(text)


def test_what_the_options_of_a_row_set() -> None:
    assert attributes(None, None) == {}
    assert attributes(False, "default", "demo") == {
        "createIfMissing": {"BOOL": False}, "renewAfterMinutes": None, "environment": {"S": "demo"},
    }  # fmt: skip
    assert [attributes(None, text)["renewAfterMinutes"] for text in ("1", "01", "38")] == [
        {"N": "1"}, {"N": "1"}, {"N": "38"},
    ]  # fmt: skip


def test_what_samconfig_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (samconfig.location(), samconfig.parameter_overrides()) == ({}, {})
    Path("samconfig.toml").write_bytes(b"\xff")  # not UTF-8
    assert (samconfig.location(), samconfig.parameter_overrides()) == ({}, {})
    Path("samconfig.toml").write_text(
        '[default.global.parameters]\nstack_name = "one"\nregion = "r"\nprofile = 7\n'
        '[default.deploy.parameters]\nstack_name = "two"\nprofile = "p"\n'
        'parameter_overrides = ["A=1 B=x=y", "no pair", "C="]\n'
    )
    assert samconfig.location() == {"stack_name": "two", "region": "r", "profile": "p"}
    assert samconfig.parameter_overrides() == {"A": "1", "B": "x=y", "C": ""}
