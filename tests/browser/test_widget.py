"""The widget on a dashboard: cleaned as CloudWatch cleans it, amid the console's own styles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from listenkeys.view.page import page as render
from local.clock import VirtualClock
from local.page_server import PageServer
from local.world import World
from tests.leaks import WatchedFunction
from tests.widget import RENEW, event_of, load_widget

from .conftest import PICTURES, Open, accounts, violations

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
CONSOLE = Path(__file__).with_name("console.html").as_uri()


def dashboard(show: Open, html: str, width: int, theme: str = "light") -> Page:
    """Return a dashboard with the widget's answer on it, of which nothing had to be removed."""
    page = show(CONSOLE, width, theme)
    assert page.evaluate("html => show(html)", html) == []
    return page


def picture(page: Page, width: int) -> bytes:
    """Return a picture of the accounts, moved to where both pages have the same fractions of a pixel."""
    page.add_style_tag(content=f".lk {{ position: absolute; top: 0; left: 0; width: {width - 24}px }}")
    height = page.evaluate("Math.floor(document.querySelector('.lk').getBoundingClientRect().height)")
    return page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})


def test_what_cloudwatch_removes_would_be_seen(show: Open) -> None:
    page = show(CONSOLE)
    html = """<p onclick="x()">a</p><script>x()</script><iframe></iframe><svg><use href="#a"></use></svg>
        <a href="javascript:x()">b</a><style>@import "x"</style><img src="https://example.invalid/a.png">"""
    removed = page.evaluate("html => show(html)", html)
    assert sorted(removed) == ["href", "iframe", "onclick", "script", "src", "style", "use"]


@pytest.mark.parametrize("count", [3, 3000])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 400])
def test_it_looks_as_the_local_page_does(
    show: Open, clock: VirtualClock, width: int, theme: str, count: int
) -> None:
    rows = accounts(count)
    with PageServer(lambda: rows, clock.now, None, lambda _: "", list) as server:
        page = show(server.url, width, theme)
        local = picture(page, width)
        page.close()
    # The dashboard's own theme decides, whatever the browser prefers.
    html = render(rows, clock.now(), theme, lambda row: "<button>Renew</button><cwdb-action>{}</cwdb-action>")
    page = dashboard(show, html, width, "dark" if theme == "light" else "light")
    there = picture(page, width)
    (PICTURES / f"widget-{count}-{width}-{theme}.png").write_bytes(there)
    (PICTURES / f"local-{count}-{width}-{theme}.png").write_bytes(local)

    assert there == local
    assert violations(page, ".lk") == []


def test_its_button_renews_the_account_after_a_question(
    show: Open, world: World, clock: VirtualClock, function: WatchedFunction
) -> None:
    world.add_account("alice", "a" * 20)
    world.add_account("bob", "b" * 20)
    widget = load_widget(world, clock)
    page = show(CONSOLE)
    questions: list[str] = []

    def invoke(call: dict[str, Any]) -> Any:
        assert call["endpoint"] == RENEW
        return function.invoke(call["event"] | {"widgetContext": event_of()["widgetContext"]}).report

    def answer(dialog: Any) -> None:
        questions.append(dialog.message)
        dialog.accept()

    page.expose_function("invoke", invoke)
    page.on("dialog", answer)
    assert page.evaluate("html => show(html)", widget(event_of())) == []
    page.get_by_role("button", name="Renew bob").press("Enter")
    page.get_by_text('"created": 1').wait_for()
    assert questions == ["Renew bob now?"]
    page.evaluate("html => show(html)", widget(event_of()))
    assert "60 min" in page.locator("tr", has_text="bob").inner_text()
    assert "no listenKey" in page.locator("tr", has_text="alice").inner_text()
