"""The accounts as HTML, with its styles: no script, no listenKey, all text escaped."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from ..timing import AT_RISK_MINUTES, LEASE_MINUTES
from .status import STATES, AccountStatus, ago, by_urgency

SHOWN = 50
_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def page(
    rows: Sequence[AccountStatus],
    now: datetime,
    theme: str = "auto",
    action: Callable[[AccountStatus], str] | None = None,
) -> str:
    """Return one `div`: totals, the SHOWN most urgent, a summary of the rest. `action`: HTML of one cell."""
    ordered = by_urgency(rows)
    shown, rest = ordered[:SHOWN], ordered[SHOWN:]
    theme = theme if theme in ("light", "dark") else "auto"
    style = f"{_STYLE}.lk{{--at-risk:{100 * AT_RISK_MINUTES / LEASE_MINUTES:g}%}}"
    table = ""
    if shown:
        heads = ["Account", f"Minutes left (line at {AT_RISK_MINUTES})", "Last try", "Why, and what to do"]
        if action:
            heads.append("Renew")
        heading = "".join(f'<th scope="col">{head}</th>' for head in heads)
        body = "".join(_row(row, now, action) for row in shown)
        table = f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"
    return (
        f'<div class="lk cwdb-no-default-styles {theme}"><style>{style}</style>{_top(rows, now)}{table}'
        f"{_rest(rest)}</div>"
    )


def _top(rows: Sequence[AccountStatus], now: datetime) -> str:
    counts = Counter(row.state for row in rows)
    enabled = len(rows) - counts["disabled"]
    trouble = counts["dead"] + counts["risk"] + counts["failing"]
    if not rows:
        text = "No accounts yet: add one with listenkeys accounts add"
    elif trouble:
        text = f"Action needed: {trouble:,} of {_accounts(enabled)}"
    else:
        text = "OK: every listenKey is alive" if enabled else "Every account is disabled"
    totals = "".join(
        f'<li class="{name}"><b>{counts[name]:,}</b> {words}</li>'
        for name, words in STATES.items()
        if counts[name]
    )
    read = f"<li>made at {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC</li>"
    tried = [row.tried_minutes_ago for row in rows if row.tried_minutes_ago is not None]
    if tried:
        read += f"<li>the last attempt was {ago(max(0.0, min(tried)))}</li>"
    worst = next((name for name in STATES if counts[name]), "disabled")
    return f'<p class="sum {worst}">{text}</p><ul class="totals">{totals}{read}</ul>'


def _row(row: AccountStatus, now: datetime, action: Callable[[AccountStatus], str] | None) -> str:
    kind, minutes = row.state, row.minutes_left or 0.0
    left = {"disabled": "not kept alive", "dead": "no listenKey"}.get(kind, f"{int(minutes)} min")
    if kind == "dead" and row.minutes_left is not None:
        left = f"expired {ago(-minutes)}"
    width = 100 * min(1.0, max(0.0, minutes / LEASE_MINUTES))
    bar = "" if kind == "disabled" else f'<span class="bar"><i style="width:{width:.1f}%"></i><u></u></span>'
    tried = "never" if row.tried_minutes_ago is None else ago(row.tried_minutes_ago)
    why = ""
    if row.problem and kind != "disabled":
        code, message = row.problem
        why = f"<code>{escape(code)}</code> {escape(message)}"
    if remedy := row.to_do:
        why += f'<p class="do">{escape(remedy[0].upper() + remedy[1:])}.</p>'
    cells = (
        f'<th scope="row" class="who">{escape(row.account.id)}'
        f"<small>{escape(row.account.product)}</small></th>"
        f'<td class="left"><b>{left}</b>{bar}</td>'
        f"<td>{escape(row.outcome)}<small>{tried}</small></td>"
        f'<td class="why">{why}</td>'
    )
    if action:
        cells += f'<td class="act">{action(row) if row.account.enabled else ""}</td>'
    return f'<tr class="{kind}">{cells}</tr>'


def _rest(rest: Sequence[AccountStatus]) -> str:
    if not rest:
        return ""
    counts = Counter(row.state for row in rest)
    told = ", ".join(f"{counts[name]:,} {words}" for name, words in STATES.items() if counts[name])
    return f'<p class="rest">And {_accounts(len(rest))} more: {told}.</p>'


def _accounts(count: int) -> str:
    return f"{count:,} account{'s' * (count != 1)}"
