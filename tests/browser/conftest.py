"""A real browser: headless Chromium, driven by Playwright, with axe-core to check accessibility."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from listenkeys.errors import Rejected
from listenkeys.model import Account, Current
from listenkeys.view.status import AccountStatus
from local.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURES = Path(".browser/pictures")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with chromium() as started:
        yield started


Open = Callable[..., "Page"]


@pytest.fixture
def show(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Open a page with a width and a theme. At the end of the test, the console must have no errors."""
    # Set up the servers first, so that they end after the pages: a page whose server is gone logs an error.
    for name in {"serve", "server"}.intersection(request.fixturenames):
        request.getfixturevalue(name)
    pages: list[Any] = []
    complaints: list[str] = []

    def show(
        url: str = "about:blank", width: int = 1000, theme: Any = "light", may_complain: bool = False
    ) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=theme)
        page.set_default_timeout(20_000)
        pages.append(page)
        if not may_complain:
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None
            )
        page.goto(url)
        return page

    yield show
    for page in pages:
        page.close()
    assert complaints == []


def violations(page: Page, within: str = "html") -> list[str]:
    """Return the rules of axe-core that a page violates, each with the elements that violate it."""
    page.evaluate(Path(os.environ["AXE"]).read_text())
    found = page.evaluate("within => axe.run(within)", within)["violations"]
    return [f"{rule['id']}: {[node['html'][:200] for node in rule['nodes']]}" for rule in found]


def _status(name: str, left: float | None, tried: float | None = 5, **current: str) -> AccountStatus:
    return AccountStatus(Account(name, "usdm"), Current(**({"outcome": "EXTENDED"} | current)), left, tried)


def accounts(count: int) -> list[AccountStatus]:
    """Return `count` accounts: one called `<b>`, then one with each other kind of trouble, then ok ones."""
    invalid = Rejected("INVALID_ACCOUNT", "AccountsTable row: accountId must be 1 to 64 of A-Z a-z 0-9 . _ -")
    refused = "Binance refused the API key (HTTP 401, code -2015: Invalid API-key, IP, or permissions)"
    some = [
        AccountStatus(Account("<b>", problem=invalid), Current(), None),
        _status("carol", 11, 1, outcome="FAILED", error_code="EXCHANGE_DOWN", error_message="not attempted"),
        _status("a-name-of-sixty-four-characters-" + "x" * 32, 48),
        _status("bob", 34, 2, outcome="REJECTED", error_code="INVALID_API_KEY", error_message=refused),
        _status("frank", -200, 260, outcome="RECREATED"),
        _status("gina", 21, 39),
        AccountStatus(Account("hal", "portfolio", enabled=False), Current(), None),
    ]
    return [*some, *(_status(f"account-{number:04}", 25 + number % 35) for number in range(count))][:count]
