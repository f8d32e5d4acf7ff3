"""The weight budget that all runs of a stack share, as one of them sees it. No locks, no waiting.

Runs overlap (a tick, a sweep, Lambda's retry, shards), each in a process of its own, and Binance counts what
they send together, by clock minute. So a run takes weight from a shared counter before it sends.

The scheduled run that is the first to begin accounts in a minute has that minute of the group to itself: no
other begins any, so no two runs renew the same account. A killed run holds up others for its minute only.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from ..aws.counter import WeightCounter
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

    `taken` by this process; `free`: in hand. `used_up`: there is no more to take. `foreign`: another run's.
    `closed`: Binance says that the address is near its limit, no matter who used it.
    """

    number: int
    taken: int = 0
    free: int = 0
    used_up: bool = False
    foreign: bool = False
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
        """Begin a run, which asks the counter whatever the last one was told."""
        self.trouble: str | None = None
        for minute in self._minutes.values():
            minute.foreign = False

    def minute(self) -> int:
        """Return the number of the current clock minute, UTC."""
        return int(self._clock.now().timestamp() // 60)

    def now(self, group: str) -> Minute:
        """Return the group's current minute."""
        number = self.minute()
        minute = self._minutes.get(group)
        if minute is None or minute.number != number:
            minute = self._minutes[group] = Minute(number)
        return minute

    def ends_in(self) -> float:
        """Return the seconds until nothing more is sent in this minute: its last second is the edge."""
        return 60.0 - EDGE - self._clock.now().timestamp() % 60

    def next_minute(self) -> float:
        """Return the monotonic time at which the next minute begins, and not a rounding error before."""
        return self._clock.monotonic() + self.ends_in() + EDGE + 0.01

    def opens_at(self, group: str) -> float:
        """Return from when (monotonic) a request may go for which there is weight."""
        return _NOW if self.ends_in() > 0 and not self.now(group).closed else self.next_minute()

    def take(self, group: str, minute: int, weight: int, run_id: str | None = None) -> int | None:
        """Take a minute's weight, see WeightCounter; all of it where the counter fails. In any thread."""
        if not self.trouble:
            try:
                return self._counter.take(group, minute, weight, self.caps[group], run_id)
            except Unavailable as error:
                self.trouble = str(error)
                _log.warning("budget", extra={"trouble": self.trouble})
        return weight

    def taken(self, group: str, minute: int, weight: int, got: int | None) -> None:
        """Note what came of taking weight in that minute."""
        own = self.now(group)
        if own.number != minute:
            return
        if got is None:
            own.foreign = True
            return
        own.taken += got
        own.free += got
        own.used_up = got < weight or own.taken >= self.caps[group]

    def observe(self, group: str, used_weight: int) -> None:
        """Close the minute if Binance says that the IP address is near its limit."""
        if used_weight >= GROUP_WEIGHT[group] * _CEILING:
            self.now(group).closed = True

    def give_back(self, group: str, leave: bool) -> None:
        """Return the weight in hand, and `leave` the minute to other runs. Best effort."""
        minute = self.now(group)
        weight, minute.free = minute.free, 0
        if self.trouble or not minute.taken or not (weight or leave):
            return
        minute.taken -= weight
        minute.used_up = False
        try:
            self._counter.give_back(group, minute.number, weight, leave and not minute.foreign)
        except Unavailable as error:
            _log.warning("budget", extra={"trouble": str(error)})
