"""The weight budget that all runs of a stack share.

Runs overlap (a tick, a sweep, Lambda's retry, shards), each in a process of its own, and Binance counts what
they send together. So a run takes weight from a shared counter before it sends, a portion at a time, and in
the same write claims the accounts it is for: in a clock minute, two runs don't renew the same one.

Claims end with their minute, so that Lambda's retry renews what a killed run had claimed. The next minute's
runs go by the records. An answer that is not recorded by then is asked for again, which does no harm.

In no clock minute do all runs together send more than the cap to a group.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..clock import Clock
from ..errors import Unavailable
from ..products import GROUP_WEIGHT
from .counter import WeightCounter

# Binance may count a request that is sent in a minute's last second in the next one, so it waits for that.
EDGE = 1.0
# Leave a twentieth of what the IP address has to whatever else is behind it.
_CEILING = 0.95
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Minute:
    """A group's weight in one clock minute: taken by this run, not yet spent, free, and whether all is gone.

    What is in hand and not free is promised to accounts that have been admitted.
    """

    number: int
    taken: int = 0
    in_hand: int = 0
    free: int = 0
    full: bool = False


class Budget:
    """At most the cap of weight in any clock minute to each group, by all runs of a stack together.

    `per_minute` is the cap of the futures group; the others' caps are the same share of their limits. A run
    that cannot reach the counter goes on within the same cap on its own, and `trouble` says so.
    Not thread-safe: the dispatcher calls it under its own lock.
    """

    def __init__(self, counter: WeightCounter, per_minute: int, clock: Clock) -> None:
        self._counter = counter
        self._clock = clock
        share = per_minute / GROUP_WEIGHT["futures"]
        self.caps: Mapping[str, int] = {g: max(1, int(limit * share)) for g, limit in GROUP_WEIGHT.items()}
        self._minutes: dict[str, _Minute] = {}
        self.trouble: str | None = None

    def begin(self) -> None:
        """Begin a run: try the counter again, even if it could not be reached in the last one."""
        self.trouble = None

    def minute(self) -> int:
        """Return the number of the current clock minute, UTC."""
        return int(self._clock.now().timestamp() // 60)

    def opens_at(self, group: str, needed: int) -> float:
        """Return the monotonic time from which one more request may go; minus infinity if now.

        `needed` is the weight it still has to get, 0 if it was admitted with it.
        """
        second = self._clock.now().timestamp() % 60
        minute = self._now(group)
        if second < 60.0 - EDGE and (minute.free >= needed or not minute.full):
            return float("-inf")
        return self._clock.monotonic() + 60.0 - second + 0.01  # not a rounding error too early

    def spend(self, group: str) -> None:
        """Count one request of weight 1 that is sent now, out of what is in hand."""
        self._now(group).in_hand -= 1

    def take(self, group: str) -> bool:
        """Take weight for one more request of an admitted account; return whether there was any."""
        minute = self._now(group)
        if not minute.free and not self._take(minute, group, 1, ())[0]:
            minute.full = True
            return False
        minute.free -= 1
        return True

    def release(self, group: str, weight: int) -> None:
        """Free weight that an admitted account turned out not to need."""
        minute = self._now(group)
        minute.free = min(minute.free + weight, minute.in_hand)

    def admit(self, group: str, weights: Mapping[str, int]) -> tuple[int, set[str]]:
        """Take this minute's weight for as many of these accounts as it lasts for, in this order.

        `weights` says how much each needs, by account id. Return how many accounts got it (0: try in the
        next minute), and which of them another run has claimed in this minute.
        """
        ids, minute = list(weights), self._now(group)
        while ids:
            needed = sum(weights[id_] for id_ in ids)
            granted, left, claimed = self._take(minute, group, max(0, needed - minute.free), ids)
            if granted:
                minute.free -= needed
                return len(ids), claimed
            # Another run may take some in between, so each attempt asks for fewer.
            left += minute.free
            fitting = 0
            while fitting < len(ids) - 1 and weights[ids[fitting]] <= left:
                left -= weights[ids[fitting]]
                fitting += 1
            ids = ids[:fitting]
        minute.full = True
        return 0, set()

    def observe(self, group: str, used_weight: int) -> None:
        """Heed what Binance says the IP address used in this minute, whatever used it."""
        if used_weight >= GROUP_WEIGHT[group] * _CEILING:
            minute = self._now(group)
            minute.full, minute.in_hand, minute.free = True, 0, 0

    def give_back(self, group: str, unrenewed: Iterable[str] = ()) -> None:
        """Return what is in hand, and the claims on the accounts that this run did not renew.

        Best effort: weight that is not returned is lost for this minute only.
        """
        minute, accounts = self._now(group), list(unrenewed)
        if self.trouble or not minute.taken or not (minute.in_hand or accounts):
            return
        back = minute.in_hand
        minute.taken -= back
        minute.in_hand = minute.free = 0
        try:
            self._counter.give_back(group, minute.number, back, accounts)
        except Unavailable as error:
            _log.warning("budget", extra={"trouble": str(error)})

    def _take(
        self, minute: _Minute, group: str, weight: int, ids: Sequence[str]
    ) -> tuple[bool, int, set[str]]:
        """Take exactly this weight; return whether there was room, else how much is left, and who is claimed.

        It belongs to the minute that was asked for, which may be over when the answer comes.
        """
        cap = self.caps[group]
        granted, left, claimed = minute.taken + weight <= cap, cap - minute.taken, set[str]()
        if granted and not self.trouble:
            try:
                taken = self._counter.take(group, minute.number, weight, cap, ids)
            except Unavailable as error:
                self.trouble = str(error)
                _log.warning("budget", extra={"trouble": self.trouble})
            else:
                granted, claimed, left = taken.granted, taken.claimed, min(left, cap - taken.used)
        if not granted:
            minute.full = left <= 0
            return False, max(0, left), set()
        minute.taken += weight
        minute.in_hand += weight
        minute.free += weight
        return True, 0, claimed

    def _now(self, group: str) -> _Minute:
        number = self.minute()
        minute = self._minutes.get(group)
        if minute is None or minute.number != number:
            minute = self._minutes[group] = _Minute(number)
        return minute
