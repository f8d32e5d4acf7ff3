"""The page in a real browser: it fits, it reads, it can be operated, and it follows the world."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from listenkeys.view.page import SHOWN
from listenkeys.view.status import AccountStatus, read_status
from local.browser import picture
from local.clock import VirtualClock
from local.front import Controls
from local.page_server import BUTTONS, PageServer
from local.world import World

from .conftest import PICTURES, Open, accounts, violations

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
KEY = "a" * 20


@pytest.fixture
def serve(clock: VirtualClock) -> Iterator[Callable[[list[AccountStatus]], str]]:
    """Serve accounts and return the address."""
    servers: list[PageServer] = []

    def serve(rows: list[AccountStatus]) -> str:
        servers.append(PageServer(lambda: rows, clock.now, lambda *_: "done", lambda _: "done", list))
        return servers[-1].url

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture
def server(world: World, clock: VirtualClock) -> Iterator[PageServer]:
    """A world with alice, and its page."""
    world.add_account("alice", KEY)
    world.exchange.handle("POST", "/fapi/v1/listenKey", {"X-MBX-APIKEY": KEY})
    world.put_current("alice", str(world.exchange.live_key(KEY, "usdm")), clock.now())

    def read() -> list[AccountStatus]:
        tables = world.aws.outputs["AccountsTableName"], world.aws.outputs["ListenKeysTableName"]
        return read_status(world.aws.client("dynamodb"), *tables, clock.now())

    with PageServer(read, clock.now, Controls(world).do, lambda name: f"{name} was renewed", list) as made:
        yield made


@pytest.mark.parametrize("count", [3, 3000])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 400])
def test_it_fits_and_reads_at_any_width_in_any_light(
    show: Open, serve: Callable[[list[AccountStatus]], str], width: int, theme: str, count: int
) -> None:
    page = show(serve(accounts(count)), width, theme)

    assert page.locator(".lk tbody tr").count() == min(count, SHOWN)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".lk .who").filter(has_text="<b>").inner_text().startswith("<b>")
    assert page.locator(".who b").count() == 0
    dark = (
        page.evaluate("getComputedStyle(document.querySelector('.lk')).backgroundColor")
        != "rgb(255, 255, 255)"
    )
    assert dark == (theme == "dark")
    assert violations(page) == []
    page.screenshot(path=PICTURES / f"page-{count}-{width}-{theme}.png", full_page=count == 3)


def test_what_cannot_be_read_or_has_no_name_would_be_seen(
    show: Open, serve: Callable[[list[AccountStatus]], str]
) -> None:
    page = show(serve(accounts(3)))
    page.evaluate("""
        document.querySelector('.lk').style.setProperty('--text', '#ccc');
        document.querySelector('button').replaceChildren();
    """)
    assert {found.partition(":")[0] for found in violations(page)} == {"color-contrast", "button-name"}


@pytest.mark.parametrize("width", [1000, 400])
def test_no_word_is_cut_and_nothing_overlaps(
    show: Open, serve: Callable[[list[AccountStatus]], str], width: int
) -> None:
    page = show(serve(accounts(7)), width)
    cut = page.evaluate("""[...document.querySelectorAll('.lk td, .lk th, .lk p, .lk li')]
        .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).clipPath === 'none'
                     && !e.closest('thead')).map(e => e.outerHTML)""")
    assert cut == []
    overlaps = page.evaluate("""[...document.querySelectorAll('.lk tbody tr')].flatMap(row => {
        const boxes = [...row.children].map(e => e.getBoundingClientRect()).filter(b => b.height);
        return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => a.left < b.right - 1 &&
            b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1).map(() => row.outerHTML));
    })""")
    assert overlaps == []


def test_every_control_does_what_it_says(show: Open, server: PageServer, world: World) -> None:
    page = show(server.url)
    said = page.locator("#said")

    def press(name: str) -> str:
        page.get_by_role("button", name=name, exact=True).click()
        return said.inner_text()

    def answers() -> int:
        return world.exchange.handle("PUT", "/fapi/v1/listenKey", {"X-MBX-APIKEY": KEY}).status

    assert answers() == 200
    assert press("Forget listenKey") == "Binance has forgotten alice's listenKey"
    assert answers() == 400
    assert press("Revoke API key") == "Binance no longer knows alice's API key"
    assert answers() == 401
    assert press("Restore API key") == "Binance accepts alice's API key"
    assert press("Stop Binance") == "Binance answers every request with 503"
    assert answers() == 503
    assert press("Start Binance") == "Binance answers again"
    assert answers() == 400
    dead = "alice has no live listenKey: `.local/listenkeys renew --force alice` makes one"
    assert press("Place order") == f"alice has order 1: 0 streams received it ({dead})"
    assert press("Renew alice") == "alice was renewed"


def test_it_can_be_operated_by_the_keyboard_alone(show: Open, server: PageServer, world: World) -> None:
    world.add_account("bob", "b" * 20)
    page = show(server.url)

    def focused() -> str:
        return page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText")  # type: ignore[no-any-return]

    stops = []
    for _ in range(page.locator("button, select").count()):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert set(BUTTONS) | {"account", "renew-bob", "renew-alice"} == set(stops)
    assert stops[-2:] == ["renew-bob", "renew-alice"]  # as they stand: bob has no key

    page.locator("select").focus()
    page.keyboard.type("bob")
    for _ in range(stops.index("revoke") - stops.index("account")):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("Binance no longer knows bob's API key").wait_for()
    # It goes on from there: the same button, the same account.
    assert (focused(), page.locator("select").input_value()) == ("Revoke API key", "bob")
    for _ in range(stops.index("restore") - stops.index("revoke")):
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.get_by_text("Binance accepts bob's API key").wait_for()


def test_it_follows_the_world_and_the_keyboard_stays_where_it_is(
    show: Open, server: PageServer, world: World, clock: VirtualClock
) -> None:
    page = show(server.url)
    button = page.get_by_role("button", name="Renew alice")
    button.focus()
    first = button.element_handle()
    clock.advance(minutes=50)
    page.get_by_text("10 min", exact=True).wait_for()
    assert page.locator("tr.risk .who").inner_text().startswith("alice")
    assert not first.evaluate("e => e.isConnected")
    assert page.evaluate("document.activeElement.id") == "renew-alice"


def test_it_says_when_the_world_is_down(show: Open, server: PageServer) -> None:
    page = show(server.url, may_complain=True)  # the browser's console: no connection
    server.stop()
    page.get_by_text("The local environment has stopped.").wait_for()


def test_a_picture_of_the_accounts_is_as_wide_as_asked_for(
    browser: Browser, clock: VirtualClock, tmp_path: Path
) -> None:
    pictured = tmp_path / "accounts.png"
    picture(browser, accounts(7), clock.now(), pictured, 600, "dark")
    signature, width = struct.unpack(">8s8xI", pictured.read_bytes()[:20])
    assert (signature, width) == (b"\x89PNG\r\n\x1a\n", 600)
