"""The accounts' status, as a table for the terminal and as JSON."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from listenkeys.errors import ErrorCode
from listenkeys.model import LEASE, iso
from listenkeys.products import LIVE
from listenkeys.view.status import STATES, AccountStatus, ago, by_urgency

from .output import MOST_LISTED, Problems, abbreviate, can_draw, ellipsis, plain, some_of

_LEASE_MINUTES = LEASE.total_seconds() / 60
_BAR_CELLS, _LEAST_BAR = 20, 5
_LEAST_ID = 12
_DUE_MINUTES = 30  # a tick should have renewed a key that has no more than this left
# Binance refuses the address, so no account will be renewed, due or not.
_OF_THE_ADDRESS = (ErrorCode.IP_BANNED, ErrorCode.WAF_BLOCKED, ErrorCode.RESTRICTED_LOCATION)
_EIGHTHS = " ▏▎▍▌▋▊▉"
_COLUMNS = ("account", "product", "outcome", "left", "bar", "last try", "renew after")
_AT_RISK = "at risk"  # what the totals call the first two of STATES
_COLOURS = {"dead": "red", "risk": "red", "failing": "yellow", "ok": "green", "disabled": "dim"}


class Line(NamedTuple):
    """A line of the table; `row` is the account that it shows, None for a heading."""

    text: Text
    row: AccountStatus | None = None


class StatusTable:
    """A table of the accounts, the most urgent first; then each error once with its accounts; then a summary.

    With a run's id, an enabled account that the run did not try is shown as SKIPPED. Accounts that are ok are
    only counted if `everything` is false. If it is None and there are many accounts, only the first of each
    other state are listed, too: in an outage the errors would be far below.
    """

    def __init__(
        self, rows: Sequence[AccountStatus], run_id: str | None = None, everything: bool | None = None
    ) -> None:
        self.rows = by_urgency(rows)
        self.run_id = run_id
        self.not_ok = everything is False
        self._whole = len(rows) <= MOST_LISTED if everything is None else everything
        self.listed = [row for row in self.rows if self._whole or row.state != "ok"]
        if everything is None and not self._whole:
            states = [[row for row in self.listed if row.state == state] for state in STATES]
            self.listed = [row for rows in states for row in rows[:MOST_LISTED]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if self.listed:
            yield from (line.text for line in self.lines(options, self.listed))
            yield ""
        if problems := self.problems():
            yield problems
            yield ""
        yield self.sum()

    def lines(self, options: ConsoleOptions, rows: Sequence[AccountStatus]) -> list[Line]:
        """Return the table's lines, fitted to the terminal's width.

        The bar shrinks and is dropped first; then ids are shortened; then columns are dropped. In a pipe, a
        line is a record: nothing is shortened, and there are no headings and no bar.
        """
        counts, whole = Counter(row.state for row in rows), Counter(row.state for row in self.rows)
        capped = any(count < whole[state] for state, count in counts.items())
        grouped = options.is_terminal and (len(counts) > 1 or capped)
        cells = [_cells(row, self.run_id) for row in rows]
        absent = {"bar"} if any(row.account.renew_after for row in rows) else {"bar", "renew after"}
        wide = {
            name: max([len(name), *(len(each[name]) for each in cells)])
            for name in _COLUMNS
            if name not in absent
        }
        indent = "  " if grouped else ""
        wide["account"] += len(indent)
        shown = _fit(wide, options)
        lines = [Line(_line({name: Text(name, style="bold") for name in shown} | {"bar": Text()}, shown))]
        before = None
        for row, each in zip(rows, cells, strict=True):
            if grouped and row.state != before:
                before = row.state
                count = f"{counts[before]}"
                if counts[before] < whole[before]:
                    count += f" of {whole[before]}, --not-ok lists them"
                lines.append(Line(Text(f"{STATES[before]} ({count})", style=_COLOURS[before])))
            if "bar" in shown:
                each["bar"] = Text(_bar(row.minutes_left or 0, shown["bar"]), style=each["left"].style)
            name = abbreviate(row.account.id, shown["account"] - len(indent), ellipsis(options))
            lines.append(Line(_line(each | {"account": Text(indent + name)}, shown), row))
        return lines

    def problems(self) -> Problems | None:
        """Return what is wrong with the enabled accounts, or None if nothing is."""
        found = [
            (row.account.id, *(row.problem or (None, _not_tried(row))))
            for row in self.rows
            if row.state not in ("ok", "disabled")
        ]
        most = len(found) if self._whole else MOST_LISTED
        rest = " (listed above)" if self.not_ok else " (`listenkeys status --not-ok` lists them)"
        return Problems(found, most, rest) if found else None

    def sum(self) -> Text:
        """Return one line: how many accounts there are, and which are in trouble."""
        if not self.rows:
            return Text("no accounts yet: `listenkeys accounts add NAME` adds one")
        enabled = [row for row in self.rows if row.account.enabled]
        danger = [row.account.id for row in enabled if row.at_risk]
        failing = [row.account.id for row in enabled if row.state == "failing"]
        ok = len(enabled) - len(danger) - len(failing)
        text = Text(f"{len(self.rows)} account{'s' * (len(self.rows) != 1)}: {ok} ok")
        said = []
        met = Counter(row.current.error_code for row in enabled)
        if left := [error for row in enabled if row.state == "ok" and (error := _hindered_by(row, met))]:
            said.append((f"{len(left)} not tried since {', '.join(sorted(set(left)))}", "yellow"))
        if ok and not self._whole:
            said.append(("--all lists them", "dim"))
        if said:
            text.append(" (").append_text(Text("; ").join(Text(*each) for each in said)).append(")")
        for what, ids, style in ((_AT_RISK, danger, "red"), ("failing", failing, "yellow")):
            if ids:
                names = some_of([abbreviate(id_, 24) for id_ in ids])
                text.append(f", {len(ids)} {what}", style=style).append(f" ({names})")
        if len(self.rows) > len(enabled):
            text.append(f", {len(self.rows) - len(enabled)} disabled", style="dim")
        return text


def is_new(row: AccountStatus) -> bool:
    """Return whether no run has tried the account yet, and its row is valid."""
    return row.problem is None and row.tried_minutes_ago is None


def counted(rows: Sequence[AccountStatus]) -> str:
    """Return how many of these accounts are in each state, in the words of `StatusTable.sum`."""
    counts = Counter(_AT_RISK if row.at_risk else row.state for row in rows)
    return ", ".join(f"{counts[name]} {name}" for name in (_AT_RISK, *STATES) if counts[name])


def status_json(rows: Sequence[AccountStatus]) -> dict[str, Any]:
    """Return what `status --json` prints: the overall status, the accounts at risk, and every account."""
    accounts = [_account(row) for row in rows]
    words = {account["status"] for account in accounts}
    return {
        "status": next((word for word in ("action needed", "unknown") if word in words), "ok"),
        "atRisk": [row.account.id for row in rows if row.at_risk],
        "accounts": accounts,
    }


def _account(row: AccountStatus) -> dict[str, Any]:
    current, problem = row.current, row.problem or (None, None)
    untried = row.account.enabled and is_new(row)
    status = row.state if row.state in ("ok", "disabled") else "action needed"
    times = {
        "expiresAt": current.expires_at,
        "renewedAt": current.renewed_at,
        "attemptedAt": current.attempted_at,
    }
    return {
        "accountId": row.account.id,
        "product": row.account.product or None,
        "environment": row.account.environment,
        "enabled": row.account.enabled,
        "status": "unknown" if untried else status,  # no run has tried the account yet
        "renewAfterMinutes": row.account.renew_after,
        "outcome": row.outcome,
        "atRisk": row.at_risk,
        "minutesLeft": None if row.minutes_left is None else round(max(0.0, row.minutes_left), 1),
        **{name: iso(moment) if moment else None for name, moment in times.items()},
        "consecutiveFailures": current.consecutive_failures,
        "errorCode": problem[0],
        "errorMessage": problem[1],
    }


def _hindered_by(row: AccountStatus, met: Counter[str | None]) -> str | None:
    """Return the error of other accounts that keeps an account from being renewed, or None.

    `met` says how many accounts have met each error: one that a single account has met may be a blip.
    """
    late = (row.minutes_left or 0) <= _DUE_MINUTES
    stays = met[row.host_error] > 1 or row.host_error in _OF_THE_ADDRESS
    return row.host_error if late or stays else None


def _not_tried(row: AccountStatus) -> str | None:
    """Return what to do about an account that is not ok but has no error: its outcome does not explain it."""
    if row.tried_minutes_ago is None:
        return row.to_do
    what = "the listenKey has died" if (row.minutes_left or 0) <= 0 else "the listenKey is old"
    return f"{what}, and no run has tried it since its last renewal: {row.to_do}"


def _fit(wide: dict[str, int], options: ConsoleOptions) -> dict[str, int]:
    """Return the columns that fit, each with its width."""
    ids, least = wide["account"], min(wide["account"], _LEAST_ID)
    for dropped in (
        (),
        ("renew after",),
        ("renew after", "last try"),
        ("renew after", "last try", "product"),
    ):
        shown = {name: wide[name] for name in _COLUMNS if name in wide and name not in dropped}
        room = options.max_width - sum(width + 2 for name, width in shown.items() if name != "account")
        if room >= least:
            break
    bar = min(_BAR_CELLS, room - ids - 2)
    if can_draw(options) and bar >= _LEAST_BAR and not dropped:
        shown = {
            name: bar if name == "bar" else wide[name] for name in _COLUMNS if name == "bar" or name in wide
        }
    return shown | {"account": max(1, min(ids, room))}


def _cells(row: AccountStatus, run_id: str | None) -> dict[str, Text]:
    kind, outcome = row.state, row.outcome
    if run_id and row.account.enabled and row.current.run_id != run_id:
        outcome = "SKIPPED"  # the last attempt was another run's
    colour = _COLOURS[kind]
    product, environment = row.account.product or "-", row.account.environment
    return {
        "account": Text(plain(row.account.id)),
        "product": Text(product if environment == LIVE else f"{product} {environment}"),
        # The colour is that of the account's state: a dead key is not green, even if its last try succeeded.
        "outcome": Text(plain(outcome), style="dim" if outcome == "SKIPPED" and kind == "ok" else colour),
        "left": Text(_minutes(row), style=colour),
        "last try": Text("-" if row.tried_minutes_ago is None else ago(row.tried_minutes_ago), style="dim"),
        "renew after": Text(
            f"{row.account.renew_after} min" if row.account.renew_after else "-", style="dim"
        ),
    }


def _line(cells: dict[str, Text], shown: dict[str, int]) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for name, width in shown.items():
        cell = cells[name].copy()
        cell.align("right" if name == "left" else "left", width)
        line.append("  " if line else "").append_text(cell)
    line.rstrip()
    return line


def _minutes(row: AccountStatus) -> str:
    if row.minutes_left is None or row.minutes_left <= 0:
        missing = "none" if row.minutes_left is None else "dead"
        return missing if row.account.enabled else "-"  # nobody renews it
    return f"{int(row.minutes_left)} min" if row.minutes_left >= 1 else "<1 min"


def _bar(minutes: float, cells: int) -> str:
    eighths = round(min(1.0, max(0.0, minutes / _LEASE_MINUTES)) * cells * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip().ljust(cells, "·")
