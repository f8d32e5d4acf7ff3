"""The page of accounts: what stands in it, in which order, and what never does."""

from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from listenkeys.model import Account, Current
from listenkeys.view.page import SHOWN, page
from listenkeys.view.status import AccountStatus
from local.document import document

NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
HOSTILE = "<b>\"&'</td><script>alert(1)</script>"


def row(name: str, left: float | None = 50, enabled: bool = True, **current: str) -> AccountStatus:
    return AccountStatus(Account(name, "usdm", enabled=enabled), Current(**current), left, 3)


class Read(HTMLParser):
    """What a browser finds: tags with their attributes, and the text outside of the style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags[-1][0] != "style":
            self.texts.append(data)

    def rows(self) -> list[str]:
        """Return the names of the accounts, as they stand."""
        text = iter(self.texts)
        names = [tag for tag, attributes in self.tags if attributes.get("class") == "who"]
        assert names == ["th"] * len(names)
        return [t for t in text if t.startswith("account-")]


def test_every_text_is_escaped() -> None:
    hostile = AccountStatus(
        Account(HOSTILE, HOSTILE), Current(error_code=HOSTILE, error_message=HOSTILE, outcome=HOSTILE), 50, 3
    )
    read = Read(page([hostile], NOW))
    assert read.texts.count(HOSTILE) == 4  # the name, the product, the outcome, the code
    assert f" {HOSTILE}" in read.texts
    assert {tag for tag, _ in read.tags} == {tag for tag, _ in Read(page([row("a")], NOW)).tags} | {"code"}
    assert Read(document(HOSTILE, "")).texts == [HOSTILE]


def test_nothing_in_it_runs_or_is_fetched() -> None:
    rows = [row("a", 5, error_code="TIMEOUT"), row("b", None), row("c", enabled=False)]
    read = Read(document("accounts", page(rows, NOW)))
    assert not {tag for tag, _ in read.tags} & {"script", "iframe", "img", "link", "object", "use", "base"}
    names = {name for _, attributes in read.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "href", "action"}
    assert "@import" not in page(rows, NOW)
    assert "url(" not in page(rows, NOW)


def test_its_style_touches_nothing_outside() -> None:
    style = page([], NOW).partition("<style>")[2].partition("</style>")[0]
    for rule in style.replace("\n", "").replace("}", "}\n").splitlines():
        selectors = rule.rpartition("{")[0].rpartition("{")[2].split(",")
        assert all(selector.startswith(".lk") for selector in selectors if selector), rule


def test_it_contains_no_listen_key() -> None:
    assert "CANARY" not in page([AccountStatus(Account("a"), Current(listen_key="CANARY"), 50, 1)], NOW)


def test_trouble_comes_first_and_then_what_expires_soonest() -> None:
    rows = [
        row("account-well", 40),
        row("account-disabled", None, enabled=False),
        row("account-next", 30),
        row("account-failing", 45, error_code="TIMEOUT"),
        row("account-risk", 14.9),
        row("account-new", None),
        row("account-dead", -3),
    ]
    names = ["dead", "new", "risk", "failing", "next", "well", "disabled"]
    assert Read(page(rows, NOW)).rows() == [f"account-{name}" for name in names]


def test_of_thousands_the_most_urgent_are_shown_and_the_others_counted() -> None:
    rows = [row(f"account-{number}", 21 + number / 100) for number in range(3000)]
    rows += [row(f"account-dead{number}", -1) for number in range(60)]
    read = Read(page(rows, NOW))
    assert len(read.rows()) == SHOWN
    assert all(name.startswith("account-dead") for name in read.rows())
    assert read.texts[-1] == "And 3,010 accounts more: 10 without a live listenKey, 3,000 ok."
    assert "Action needed: 60 of 3,060 accounts" in read.texts


def test_ten_thousand_accounts_in_trouble_fit_into_cloudwatch() -> None:
    trouble = {"error_code": "SECRET_INVALID", "error_message": "&" * 1000, "outcome": "REJECTED"}
    rows = [row(f"{number:064}", 5, **trouble) for number in range(10_000)]
    assert len(page(rows, NOW, action=lambda _: "x" * 500).encode()) < 500_000


@pytest.mark.parametrize(
    ("rows", "said", "worst"),
    [
        ([], "No accounts yet", "disabled"),
        ([row("a"), row("b")], "OK: every listenKey is alive", "ok"),
        ([row("a", 0), row("b")], "Action needed: 1 of 2 accounts", "dead"),
        ([row("a", 14)], "Action needed: 1 of 1 account", "risk"),
        ([row("a", enabled=False)], "Every account is disabled", "disabled"),
    ],
    ids=["none", "ok", "one", "alone", "disabled"],
)
def test_the_first_line_says_whether_anybody_is_needed(
    rows: list[AccountStatus], said: str, worst: str
) -> None:
    html = page(rows, NOW)
    assert Read(html).texts[0].startswith(said)
    assert f'<p class="sum {worst}">' in html
    assert ("the last attempt was 3 min ago" in Read(html).texts) is bool(rows)


@pytest.mark.parametrize(
    ("left", "shown", "width"),
    [
        (None, "no listenKey", 0.0), (-4, "expired 4 min ago", 0.0), (0, "expired just now", 0.0),
        (34.4, "34 min", 57.3), (75, "75 min", 100.0),
    ],
)  # fmt: skip
def test_the_minutes_are_said_in_words_beside_the_bar(left: float | None, shown: str, width: float) -> None:
    read = Read(page([row("a", left)], NOW))
    assert shown in read.texts
    assert ("i", {"style": f"width:{width}%"}) in read.tags


def test_a_dead_key_is_never_shown_as_ok() -> None:
    dead = row("a", 0, outcome="EXTENDED")
    assert dead.state == "dead"
    assert '<tr class="dead">' in page([dead], NOW)


def test_a_row_says_what_to_do() -> None:
    refused = row("a", 34, error_code="INVALID_API_KEY", error_message="Binance refused it")
    texts = Read(page([refused], NOW)).texts
    assert " Binance refused it" in texts
    assert any(text.startswith("Check at Binance that the API key exists") for text in texts)


@pytest.mark.parametrize("theme", ["light", "dark", "auto", "neon"])
def test_the_theme_is_one_that_there_is(theme: str) -> None:
    html = page([], NOW, theme)
    shown = theme if theme in ("light", "dark") else "auto"
    assert Read(html).tags[0][1]["class"] == f"lk cwdb-no-default-styles {shown}"


def test_a_disabled_account_has_no_button() -> None:
    html = page([row("a"), row("b", enabled=False)], NOW, action=lambda row: f"<button>{row.account.id}")
    assert html.count("<button>") == 1
