"""The accounts as HTML, with its styles: no script, no listenKey, all text escaped."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from ..timing import AT_RISK_MINUTES, LEASE_MINUTES
from .remedies import what_to_do
from .status import LATE_MINUTES, AccountStatus, ago

SHOWN = 50
# Trouble first. The name is the row's CSS class, the words are for the totals.
STATES = {
    "dead": "without a live key",
    "risk": f"with less than {AT_RISK_MINUTES} min left",
    "failing": "failing, key still alive",
    "ok": "ok",
    "disabled": "disabled",
}
_STYLE = f"""
.lk{{--text:#16191f;--dim:#545b64;--ground:#fff;--line:#d5dbdb;--rail:#e9ebed;--accent:#0a5da8;
--bad:#b0000f;--badbg:#fdf0f0;--late:#855900;--good:#1a6b2d;
font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;color:var(--text);
background:var(--ground);padding:12px;container-type:inline-size;text-align:left}}
.lk.dark{{--text:#e9ebed;--dim:#a9b4bf;--ground:#16202c;--line:#3b4754;--rail:#2d3946;--accent:#7cc0ff;
--bad:#ff8f87;--badbg:#33201f;--late:#f2c469;--good:#7fd894;color-scheme:dark}}
.lk p,.lk ul{{margin:0;padding:0}}
.lk .sum{{font-size:18px;font-weight:600;margin-bottom:8px;color:var(--c)}}
.lk .totals{{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 20px;list-style:none;
margin-bottom:12px;color:var(--dim)}}
.lk .totals b{{color:var(--c,var(--text));font-size:16px}}
.lk .dead,.lk .risk{{--c:var(--bad)}}.lk .ok{{--c:var(--good)}}.lk .disabled{{--c:var(--dim)}}
.lk .failing,.lk .late{{--c:var(--late)}}
.lk table{{border-collapse:collapse;width:100%}}
.lk th,.lk td{{padding:7px 16px 7px 0;border-top:1px solid var(--line);vertical-align:top;font-weight:400;
text-align:left}}
.lk thead th{{border:0;color:var(--dim);font-size:12px;padding-top:0}}
.lk tr.dead>*,.lk tr.risk>*{{background:var(--badbg)}}
.lk tr>:first-child{{padding-left:12px;border-left:4px solid transparent}}
.lk tbody tr>:first-child{{border-left-color:var(--c)}}
.lk .who{{width:20%;font-weight:600;overflow-wrap:anywhere}}
.lk small{{display:block;font-size:12px;font-weight:400;color:var(--dim)}}
.lk .left{{width:22%}}.lk .left b{{color:var(--c)}}
.lk .bar{{display:block;position:relative;height:8px;margin-top:5px;background:var(--rail)}}
.lk .bar i{{position:absolute;top:0;bottom:0;left:0;background:var(--c)}}
.lk .bar u{{position:absolute;top:-3px;bottom:-3px;left:{100 * AT_RISK_MINUTES / LEASE_MINUTES:g}%;
border-left:2px solid var(--dim)}}
.lk .why{{width:40%;overflow-wrap:anywhere}}
.lk .why code{{font-size:12px;color:var(--c)}}
.lk .do{{font-weight:600}}
.lk button{{font:inherit;color:var(--accent);background:var(--ground);border:1px solid currentColor;
border-radius:4px;padding:2px 12px;cursor:pointer}}
.lk button:hover{{text-decoration:underline}}.lk button:focus-visible{{outline:3px solid var(--accent);
outline-offset:2px}}
.lk .rest{{color:var(--dim);padding:10px 0 0}}
@container (max-width:720px){{
.lk thead{{position:absolute;clip-path:inset(50%);height:1px;overflow:hidden}}
.lk tbody tr{{display:grid;grid-template-columns:1fr auto;border-top:1px solid var(--line);
border-left:4px solid var(--c);padding:6px 0}}
.lk tbody tr.dead,.lk tbody tr.risk{{background:var(--badbg)}}
.lk tbody tr>:nth-child(n){{border:0;padding:2px 10px;width:auto;grid-column:1/3}}
.lk tbody tr>.who{{grid-column:1}}.lk tbody tr>.act{{grid-area:1/2}}
.lk td small{{display:inline;margin-left:8px}}
}}
"""
_DARK = _STYLE.partition(".lk.dark{")[2].partition("}")[0]


def page(
    rows: Sequence[AccountStatus],
    now: datetime,
    theme: str = "auto",
    action: Callable[[AccountStatus], str] | None = None,
) -> str:
    """Return one `div`: the totals, the SHOWN most urgent, what the rest is. `action` returns HTML."""
    ordered = by_urgency(rows)
    shown, rest = ordered[:SHOWN], ordered[SHOWN:]
    style = _STYLE
    if theme not in ("light", "dark"):
        theme = "auto"
        style += f"@media (prefers-color-scheme:dark){{.lk.auto{{{_DARK}}}}}"
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


def state(row: AccountStatus) -> str:
    """Return which of STATES an account is in."""
    if not row.account.enabled:
        return "disabled"
    if row.minutes_left is None or row.minutes_left <= 0:
        return "dead"
    if row.at_risk:
        return "risk"
    return "failing" if row.problem else "ok"


def by_urgency(rows: Iterable[AccountStatus]) -> list[AccountStatus]:
    """Return the accounts, trouble first, then what expires soonest; the same minutes stay as they come."""
    order = list(STATES)
    return sorted(rows, key=lambda row: (order.index(state(row)), int(row.minutes_left or 0)))


def _top(rows: Sequence[AccountStatus], now: datetime) -> str:
    counts = Counter(map(state, rows))
    enabled = len(rows) - counts["disabled"]
    trouble = counts["dead"] + counts["risk"] + counts["failing"]
    if not rows:
        text = "No accounts yet: add one with listenkeys accounts add"
    elif trouble:
        text = f"Action needed: {trouble:,} of {_accounts(enabled)}"
    else:
        text = "OK: every key is alive" if enabled else "Every account is disabled"
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
    kind = state(row)
    minutes = row.minutes_left or 0.0
    late = " late" if kind == "ok" and minutes < LATE_MINUTES else ""
    left = {"disabled": "not kept alive", "dead": "no key"}.get(kind, f"{int(minutes)} min")
    if kind == "dead" and row.minutes_left is not None:
        left = f"expired {ago(-minutes)}"
    width = 100 * min(1.0, max(0.0, minutes / LEASE_MINUTES))
    bar = "" if kind == "disabled" else f'<span class="bar"><i style="width:{width:.1f}%"></i><u></u></span>'
    tried = "never" if row.tried_minutes_ago is None else ago(row.tried_minutes_ago)
    why = ""
    if row.problem and kind != "disabled":
        code, message = row.problem
        why = f"<code>{escape(code)}</code> {escape(message)}"
    if remedy := what_to_do(row):
        why += f'<p class="do">{escape(remedy[0].upper() + remedy[1:])}.</p>'
    cells = (
        f'<th scope="row" class="who">{escape(row.account.id)}'
        f"<small>{escape(row.account.product)}</small></th>"
        f'<td class="left"><b>{left}</b>{bar}</td>'
        f"<td>{escape(row.outcome())}<small>{tried}</small></td>"
        f'<td class="why">{why}</td>'
    )
    if action:
        cells += f'<td class="act">{action(row) if row.account.enabled else ""}</td>'
    return f'<tr class="{kind}{late}">{cells}</tr>'


def _rest(rest: Sequence[AccountStatus]) -> str:
    if not rest:
        return ""
    counts = Counter(map(state, rest))
    told = ", ".join(f"{counts[name]:,} {words}" for name, words in STATES.items() if counts[name])
    return f'<p class="rest">And {_accounts(len(rest))} more: {told}.</p>'


def _accounts(count: int) -> str:
    return f"{count:,} account{'s' * (count != 1)}"
