"""One run's view of the weight budget that all runs of a stack share. No locks, no waiting.

Runs overlap (a tick, a sweep, Lambda's retry, shards), each in a process of its own, and Binance counts what
they send together, by clock minute. So a run takes weight from a shared counter before it sends.

The first scheduled run that begins accounts of a group in a minute reserves that minute. The others wait, so
that no two runs renew the same account. A run that is killed blocks the others for that minute only.
"""

import logging
from dataclasses import dataclass

from ..aws.counter import WeightCounter
from ..clock import Clock
from ..errors import Unavailable
from ..products import GROUP_WEIGHT
from ..timing import EDGE, NOW

# Leave a twentieth of the IP address's limit to other programs that use it.
_CEILING = 0.95
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Minute:
    """A group's weight in one clock minute. `number`: minutes since 1970. `free`: taken and not used yet.

    `room`: what may still be taken, as far as is known. `mine`: whether this run may begin accounts, None
    before it has asked the counter. `closed`: Binance says that the address is near its limit.
    """

    number: int
    room: int
    free: int = 0
    mine: bool | None = None
    closed: bool = False


class Budget:
    """Keeps all runs of a stack together under each group's cap per minute. Only `take` is thread-safe."""

    def __init__(self, counter: WeightCounter, per_minute: int, clock: Clock) -> None:
        self._counter, self._clock = counter, clock
        share = per_minute / GROUP_WEIGHT["futures"]
        self._caps = {group: max(1, int(limit * share)) for group, limit in GROUP_WEIGHT.items()}
        self._minutes: dict[str, Minute] = {}
        self.begin(None)

    def begin(self, run_id: str | None) -> None:
        """Start a run, which asks the counter again. Without an id it shares every minute with other runs."""
        self._run_id = run_id
        self.trouble: str | None = None
        self.used_weight = 0  # the most that Binance has reported
        self.began = self.minute()
        for minute in self._minutes.values():
            minute.mine = None

    def minute(self) -> int:
        """Return the number of the current clock minute, UTC."""
        return int(self._clock.now().timestamp() // 60)

    def now(self, group: str) -> Minute:
        """Return the group's current minute."""
        number = self.minute()
        minute = self._minutes.get(group)
        if minute is None or minute.number != number:
            minute = self._minutes[group] = Minute(number, self._caps[group])
        return minute

    def ends_in(self) -> float:
        """Return the seconds until EDGE before the minute's end, when sending stops; negative after that."""
        return 60.0 - EDGE - self._clock.now().timestamp() % 60

    def next_minute(self) -> float:
        """Return the monotonic time at which the next minute begins, with a margin for rounding."""
        return self._clock.monotonic() + self.ends_in() + EDGE + 0.01

    def opens_at(self, group: str) -> float:
        """Return when (monotonic) a request may be sent, if there is weight for it."""
        return NOW if self.ends_in() > 0 and not self.now(group).closed else self.next_minute()

    def take(self, group: str, minute: int, weight: int, own: bool) -> int | None:
        """Take weight from a minute and, with `own`, reserve the minute for this run. May run in any thread.

        Return how much is under the cap (all, if the counter fails), or None if another run has the minute.
        """
        if not self.trouble:
            try:
                used = self._counter.add(group, minute, weight, self._run_id if own else None)
                return None if used is None else max(0, min(weight, self._caps[group] - used + weight))
            except Unavailable as error:
                self.trouble = str(error)
                _log.warning("budget", extra={"trouble": self.trouble})
        return weight

    def taken(self, group: str, minute: int, weight: int, got: int | None) -> None:
        """Note what `take` returned for this minute."""
        now = self.now(group)
        if now.number == minute:
            now.mine = got is not None and now.mine is not False
            now.free += got or 0
            if got is not None:
                now.room = now.room - got if got == weight else 0

    def observe(self, group: str, used_weight: int) -> None:
        """Close the minute if Binance says that the IP address is near its limit."""
        self.used_weight = max(self.used_weight, used_weight)
        if used_weight >= GROUP_WEIGHT[group] * _CEILING:
            self.now(group).closed = True

    def end(self, leave: bool) -> None:
        """Give back unused weight and, with `leave`, let other runs have the minutes. Only logs errors."""
        for group in self._minutes:
            minute = self.now(group)
            weight, minute.free = minute.free, 0
            mine = leave and self._run_id is not None and minute.mine is True
            minute.room += weight
            if self.trouble or not (weight or mine):
                continue
            try:
                self._counter.add(group, minute.number, -weight, leave=mine)
            except Unavailable as error:
                _log.warning("budget", extra={"trouble": str(error)})
