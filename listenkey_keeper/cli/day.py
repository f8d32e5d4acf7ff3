"""An account's last 24 hours as one line of blocks: when its key was renewed, failing or dead."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from listenkeys.model import LEASE, SUCCESSES

DAY = timedelta(hours=24)
_BLOCK_MINUTES = (15, 20, 30, 60)
# The blocks differ in height too, for terminals without colour.
_BLOCKS = {
    "renewed": ("█", "green"), "failed": ("▄", "yellow"), "dead": ("▁", "red"), "not known": ("·", "dim"),
}  # fmt: skip
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Day:
    """The 24 hours before `now`: the spans when the key was dead, and those when renewing it failed.

    Nothing is known of the time before `known_since`. `had_key` says whether there was a listenKey at all.
    """

    now: datetime
    known_since: datetime
    dead: Sequence[Span]
    failed: Sequence[Span]
    had_key: bool = True

    def block(self, start: datetime, end: datetime) -> str:
        """Return the worst state between `start` and `end`, as a key of _BLOCKS."""
        if end <= self.known_since:
            return "not known"
        for name, spans in (("dead", self.dead), ("failed", self.failed)):
            if any(since < end and start < until for since, until in spans):
                return name
        return "renewed"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        minutes = next((m for m in _BLOCK_MINUTES if 1440 // m <= options.max_width), _BLOCK_MINUTES[-1])
        size, begin = timedelta(minutes=minutes), self.now - DAY
        blocks = [self.block(begin + n * size, begin + (n + 1) * size) for n in range(1440 // minutes)]
        dead = sum((end - start).total_seconds() for start, end in self.dead) / 60
        heading, legend = Text(f"24 hours, the worst of each {minutes} min:"), Text()
        for name, (block, style) in _BLOCKS.items():
            if name in blocks:
                said = (
                    f"{name if self.had_key else 'no listenKey'} ({dead:.0f} min)" if name == "dead" else name
                )
                legend.append(f"  {block} {said}", style)
        if len(heading) + len(legend) > options.max_width:
            yield heading
            heading = Text()
        yield heading.append_text(legend)
        yield Text.assemble(*(_BLOCKS[block] for block in blocks), no_wrap=True)
        ends = f"{begin:%m-%d %H:%M}", f"{self.now:%m-%d %H:%M}"
        yield Text(ends[0] + ends[1].rjust(len(blocks) - len(ends[0])), style="dim")


def day_of(entries: Iterable[dict[str, Any]], now: datetime, renewed_until: datetime | None = None) -> Day:
    """Return the day that the ledger's entries describe.

    With LedgerMode `changes`, pass the recorded key's expiry as `renewed_until`. The ledger then has only the
    first of several EXTENDED in a row. So after a success the key counts as alive until the expiry that the
    next entry has or, after the last entry, until `renewed_until`.
    """
    found = [(at, entry) for entry in entries if (at := _moment(entry["attemptedAt"]))]
    tries = sorted(found, key=lambda one: one[0])
    ends = [*(_moment(entry["expiresAt"]) for _, entry in tries), renewed_until]
    alive: list[Span] = []
    for number, (at, entry) in enumerate(tries):
        until = ends[number]
        if renewed_until and entry["outcome"] in SUCCESSES:
            until = ends[number + 1] or until
        if until:
            alive.append((min(at, until - LEASE), until))
    known_since = max(now - DAY, min([*(at for at, _ in tries), *(start for start, _ in alive)], default=now))
    afterwards = [*(at for at, _ in tries[1:]), now]
    failed = [
        (at, then)
        for (at, entry), then in zip(tries, afterwards, strict=False)
        if entry["outcome"] not in SUCCESSES
    ]
    return Day(now, known_since, list(_gaps(alive, known_since, now)), failed, bool(alive))


def _gaps(alive: Iterable[Span], begin: datetime, end: datetime) -> Iterator[Span]:
    """Yield the spans between `begin` and `end` that no span of `alive` covers."""
    for start, until in sorted(alive):
        if start > begin:
            yield begin, min(start, end)
        begin = max(begin, until)
        if begin >= end:
            return
    yield begin, end


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
        return moment if moment.tzinfo else None
    except ValueError:
        return None
