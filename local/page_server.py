"""The local environment in a browser: the accounts as the dashboard's widget shows them, and buttons.

Listens on 127.0.0.1 only. The Host header of a request must be this server's, so that another site cannot
point its own name here (DNS rebinding). A request that changes something must have this page's Origin.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

from listenkeys.view.page import page
from listenkeys.view.status import AccountStatus
from local.document import document
from local.service import Service

BUTTONS = {
    "down": "Stop Binance",
    "up": "Start Binance",
    "drop": "Drop websockets",
    "forget": "Forget listenKey",
    "delete": "Delete listenKey",
    "revoke": "Revoke API key",
    "restore": "Restore API key",
    "newkey": "New API key",
    "order": "Place order",
    "fill": "Fill order",
}
_FOR_ALL = ("down", "up", "drop")
_MAX_FORM = 4096  # bytes
_STYLE = """<style>
:root{color-scheme:light dark}
body{max-width:1200px;margin:0 auto;padding:12px;font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,
Arial,sans-serif;color:#16191f;background:#f2f3f3}
h1,h2{font-size:20px;margin:4px 0 12px}h2{font-size:15px}
form{display:flex;flex-wrap:wrap;gap:8px;align-items:center}
fieldset{display:flex;flex-wrap:wrap;gap:8px;border:1px solid #879596;border-radius:4px;
padding:8px 12px;margin:0}
button,select{font:inherit;padding:3px 10px;color:inherit;background:#fff;border:1px solid #545b64;
border-radius:4px}
select{max-width:14em}
button:focus-visible,select:focus-visible{outline:3px solid #0a5da8;outline-offset:2px}
output{display:block;min-height:1.45em;margin:10px 0;font-weight:600}
pre{margin:0;padding:10px 12px;overflow-x:auto;white-space:pre-wrap;background:#fff;font-size:12px}
#accounts{margin-bottom:16px}
@media(prefers-color-scheme:dark){body{color:#e9ebed;background:#0f141a}
button,select,pre{background:#16202c}button:focus-visible,select:focus-visible{outline-color:#7cc0ff}}
</style>"""
# Each refresh replaces the buttons, so the script gives the focus back to the button that had it.
_SCRIPT = """
const live = document.getElementById('live');
async function refresh() {
  try {
    const answer = await fetch('/live');
    const html = await answer.text(), id = document.activeElement?.id;
    live.innerHTML = html;
    if (id && document.activeElement?.id !== id) document.getElementById(id)?.focus();
  } catch {
    document.getElementById('said').textContent = 'The local environment has stopped.';
  }
  setTimeout(refresh, 1000);
}
setTimeout(refresh, 1000);
"""


class PageServer(Service):
    """Serves the page at a free port of 127.0.0.1 until `stop`.

    read     returns the status of all accounts
    now      returns the environment's time
    change   changes the stand-in, by command and account: `Controls.do`; None if there is no stand-in
    renew    renews an account, by its id
    runs     returns the lines of the last runs

    `change` and `renew` return one line to show, or raise ValueError with one.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[AccountStatus]],
        now: Callable[[], datetime],
        change: Callable[[str, str], str] | None,
        renew: Callable[[str], str],
        runs: Callable[[], Sequence[str]],
    ) -> None:
        self._read, self._now, self._change, self._renew, self._runs = read, now, change, renew, runs
        self._said = self._pressed = self._account = ""
        serve = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not self._is_for_us():
                    self._answer(403, "wrong host name")
                elif self.path == "/":
                    nonce = secrets.token_urlsafe()
                    self._answer(200, serve.whole(nonce), nonce)
                elif self.path == "/live":
                    self._answer(200, serve.live())
                else:
                    self._answer(404, "no such page")

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length") or ""
                origin = f"http://{self.headers.get('Host')}"
                if not self._is_for_us() or self.headers.get("Origin") != origin:
                    self._answer(403, "the request is not from this page")
                elif self.path != "/do" or not length.isdecimal() or int(length) > _MAX_FORM:
                    self._answer(400, "no such form")
                else:
                    form = parse_qs(self.rfile.read(int(length)).decode(errors="replace"))
                    serve.do({name: values[0] for name, values in form.items()})
                    self.send_response(303)
                    self.send_header("Location", "/")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def _is_for_us(self) -> bool:
                return self.headers.get("Host") in (
                    serve.url[7:],
                    serve.url[7:].replace("127.0.0.1", "localhost"),
                )

            def _answer(self, status: int, html: str, nonce: str = "none") -> None:
                body = html.encode()
                self.send_response(status)
                for name, value in {
                    "Content-Type": "text/html; charset=utf-8",
                    "Content-Length": str(len(body)),
                    "Cache-Control": "no-store",
                    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
                    f"script-src 'nonce-{nonce}'; connect-src 'self'; form-action 'self'; "
                    "base-uri 'none'; frame-ancestors 'none'",
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(Handler)

    def do(self, form: Mapping[str, str]) -> None:
        """Perform the action of a submitted form. The page then shows the result."""
        verb, account = form.get("do", ""), form.get("account", "")
        self._pressed = f"renew-{account}" if verb == "renew" else verb
        if verb not in _FOR_ALL:
            self._account = account
        try:
            if verb == "renew":
                self._said = self._renew(account)
            elif self._change:
                self._said = self._change(verb, account)
        except ValueError as error:
            self._said = str(error)

    def live(self) -> str:
        """Return the HTML that the page replaces every second: the accounts and the last runs."""
        lines = "\n".join(self._runs()) or "none yet"
        accounts = page(self._read(), self._now(), action=_renew_button)
        return f'<div id="accounts">{accounts}</div><h2>Last runs</h2><pre>{escape(lines)}</pre>'

    def whole(self, nonce: str) -> str:
        """Return the whole page. Its script carries the nonce of the Content-Security-Policy."""
        body = (
            f"<main><h1>listenkey-keeper: local environment</h1>{self._controls()}"
            f'<output id="said">{escape(self._said)}</output><div id="live">{self.live()}</div></main>'
            f'<script nonce="{nonce}">{_SCRIPT}</script>'
        )
        if self._pressed:  # keep the keyboard focus on the button that was pressed
            button = f'id="{escape(self._pressed)}"'
            body = body.replace(button, f"{button} autofocus", 1)
        return document("listenkey-keeper: local environment", body, _STYLE)

    def _controls(self) -> str:
        if not self._change:
            return ""
        options = "".join(
            f"<option{' selected' * (row.account.id == self._account)}>{escape(row.account.id)}</option>"
            for row in self._read()
        )
        return (
            '<form method="post" action="/do"><fieldset><legend>Binance</legend>'
            f"{_buttons(*_FOR_ALL)}</fieldset><fieldset><legend>One account at Binance</legend>"
            f'<label>Account <select name="account">{options}</select></label>'
            f"{_buttons(*(verb for verb in BUTTONS if verb not in _FOR_ALL))}</fieldset></form>"
        )


def _buttons(*verbs: str) -> str:
    return "".join(f'<button id="{v}" name="do" value="{v}">{BUTTONS[v]}</button>' for v in verbs)


def _renew_button(row: AccountStatus) -> str:
    name = escape(row.account.id)
    return (
        f'<form method="post" action="/do"><input type="hidden" name="account" value="{name}">'
        f'<button id="renew-{name}" name="do" value="renew" aria-label="Renew {name}">Renew</button></form>'
    )
