"""Debian's headless Chromium, driven by Playwright (`make browser` installs it), and pictures of the page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from listenkeys.view.page import page
from listenkeys.view.status import AccountStatus
from local.document import document

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# No sandbox, because CI runs as root. No requests that a browser makes by itself.
_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync", "--no-first-run",
    "--no-proxy-server", "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser that CHROMIUM names, or Debian's, and close it when the block ends."""
    from playwright.sync_api import sync_playwright  # imported here: nothing else needs it

    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        started = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield started
        started.close()


def picture(
    browser: Browser,
    rows: Sequence[AccountStatus],
    now: datetime,
    path: Path,
    width: int = 1000,
    theme: Literal["light", "dark"] = "light",
) -> None:
    """Write a PNG of the accounts as the page and the widget show them, `width` pixels wide."""
    shown = browser.new_page(viewport={"width": width, "height": 100}, color_scheme=theme)
    shown.set_content(document("accounts", page(rows, now)))
    shown.locator(".lk").screenshot(path=path)
    shown.close()
