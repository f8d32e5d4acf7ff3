"""The weight budget that all runs of a stack share, as one of them sees it. No locks, no waiting.

Runs overlap (a tick, a sweep, Lambda's retry, shards), each in a process of its own, and Binance counts what
they send together, by clock minute. So a run takes weight from a shared counter before it sends, and in the
same write claims the accounts it is for: in a clock minute, two runs don't renew the same one.

Claims end with their minute, so that a killed run holds up nobody for longer. A run that is at work when the
minute ends claims what it is still at in the next minute, too.
"""

import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..aws.counter import Taken, WeightCounter
from ..clock import Clock
from ..errors import Unavailable
from ..products import GROUP_WEIGHT
from ..timing import EDGE

# Leave a twentieth of what the IP address has to whatever else is behind it.
_CEILING = 0.95
_NOW = float("-inf")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Minute:
    """A group's weight in one clock minute, by its number.

    `taken` by this process; `free`: in hand, and promised to no account; `room`: what may still be taken, as
    far as is known. `closed`: Binance says that the address is near its limit, no matter who used it.
    """

    number: int
    room: int
    taken: int = 0
    free: int = 0
    closed: bool = False


class Budget:
    """Keeps all runs of a stack under the cap of each group in a clock minute. Only `take` is thread-safe."""

    def __init__(self, counter: WeightCounter, per_minute: int, clock: Clock) -> None:
        self._counter, self._clock = counter, clock
        share = per_minute / GROUP_WEIGHT["futures"]
        self.caps: Mapping[str, int] = {g: max(1, int(limit * share)) for g, limit in GROUP_WEIGHT.items()}
        self._minutes: dict[str, Minute] = {}
        self.begin()

    def begin(self) -> None:
        """Begin a run: it has claims of its own, and tries the counter even if the last one could not."""
        self._mark = uuid.uuid4().bytes[:3]
        self.trouble: str | None = None

    def minute(self) -> int:
        """Return the number of the current clock minute, UTC."""
        return int(self._clock.now().timestamp() // 60)

    def now(self, group: str) -> Minute:
        """Return the group's current minute."""
        number = self.minute()
        minute = self._minutes.get(group)
        if minute is None or minute.number != number:
            minute = self._minutes[group] = Minute(number, self.caps[group])
        return minute

    def ends_in(self) -> float:
        """Return the seconds until nothing more is sent in this minute: its last second is the edge."""
        return 60.0 - EDGE - self._clock.now().timestamp() % 60

    def next_minute(self) -> float:
        """Return the monotonic time at which the next minute begins, and not a rounding error before."""
        return self._clock.monotonic() + self.ends_in() + EDGE + 0.01

    def opens_at(self, group: str, needed: int) -> float:
        """Return from when (monotonic) a request may go that still needs so much weight."""
        minute, left = self.now(group), self.ends_in()
        if left > 0 and not minute.closed and minute.free + minute.room >= needed:
            return _NOW
        return self.next_minute()

    def take(self, group: str, minute: int, weight: int, accounts: Iterable[str] = ()) -> Taken | Unavailable:
        """Ask the counter for a minute's weight, and claim these accounts. In any thread."""
        try:
            return self._counter.take(group, minute, weight, self.caps[group], self._mark, accounts)
        except Unavailable as error:
            return error

    def taken(self, group: str, minute: int, weight: int, taken: Taken | Unavailable) -> bool:
        """Note what the counter said of that minute; return whether the weight is in hand."""
        own = self.now(group)
        if isinstance(taken, Unavailable):
            self.trouble = str(taken)
            _log.warning("budget", extra={"trouble": self.trouble})
            taken = Taken(True, own.taken, set())
        if own.number != minute:
            return False
        if not taken.granted:
            own.room = max(0, min(own.room, self.caps[group] - taken.used))
            return False
        own.taken += weight
        own.free += weight
        own.room = max(0, min(self.caps[group] - own.taken, self.caps[group] - taken.used - weight))
        return True

    def observe(self, group: str, used_weight: int) -> None:
        """Close the minute if Binance says that the IP address is near its limit: no promise holds then."""
        if used_weight >= GROUP_WEIGHT[group] * _CEILING:
            self.now(group).closed = True

    def give_back(self, group: str, unrenewed: Iterable[str]) -> None:
        """Return the weight in hand, and the claims on accounts that this run did not renew. Best effort."""
        minute, accounts = self.now(group), list(unrenewed)
        weight, minute.free = minute.free, 0
        if self.trouble or not minute.taken or not (weight or accounts):
            return
        minute.taken -= weight
        minute.room += weight
        try:
            self._counter.give_back(group, minute.number, weight, self._mark, accounts)
        except Unavailable as error:
            _log.warning("budget", extra={"trouble": str(error)})
