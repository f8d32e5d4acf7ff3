"""The weight budget that all runs of a stack share: a counter in ListenKeysTable, one item a minute.

Runs overlap (a tick, a sweep, Lambda's retry, shards), each in a process of its own, and Binance counts
what they send together. So a run takes weight before it sends, a portion at a time, and in the same write
says for which accounts: two runs over the same accounts then do not ask for the same one twice.

    accountId "#weight:<group>", which no account can be called; record "2026-11-24T09:31Z", a clock minute
    in UTC, as Binance counts; used (N); claimed (SS), short hashes of account ids; ttl (N)

In no clock minute do all runs together send more than the cap to a group.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..clock import Clock
from ..products import GROUP_WEIGHT
from .calls import AwsError, Deadline, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# What is sent in a minute's last second may be counted in the next: it waits for the next.
EDGE = 1.0
# Leave a twentieth of what the IP address has to whatever else is behind it.
_CEILING = 0.95
_KEEP_SECONDS = 3600  # of a counter, until DynamoDB removes it
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Minute:
    """A group's weight in one clock minute: taken here, not yet spent, free of it, and whether all is gone.

    What is in hand and not free is promised to accounts that have been admitted.
    """

    number: int
    taken: int = 0
    in_hand: int = 0
    free: int = 0
    full: bool = False


class Budget:
    """At most the cap of weight in any clock minute to each group, by all runs of a stack together.

    `per_minute` is the cap of the futures group; the others' caps are the same share of their limits.
    Not thread-safe: whoever hands out requests asks under its own lock.
    """

    def __init__(
        self, dynamodb: "DynamoDBClient", table: str, per_minute: int, clock: Clock, deadline: Deadline
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._clock = clock
        self._deadline = deadline
        share = per_minute / GROUP_WEIGHT["futures"]
        self.caps: Mapping[str, int] = {g: max(1, int(limit * share)) for g, limit in GROUP_WEIGHT.items()}
        self._minutes: dict[str, _Minute] = {}
        self.trouble: str | None = None

    def begin(self) -> None:
        """Begin a run: try the counter again, even if it could not be reached in the last one."""
        self.trouble = None

    def minute(self) -> int:
        """Return the number of the clock minute that it is now, UTC."""
        return int(self._clock.now().timestamp() // 60)

    def opens_at(self, group: str, promised: bool) -> float:
        """Return the monotonic time from which one more request may go; long ago where it may go now.

        `promised`: of an account that still has weight from its admission.
        """
        second = self._clock.now().timestamp() % 60
        minute = self._now(group)
        if second < 60.0 - EDGE and (promised or minute.free or not minute.full):
            return float("-inf")
        return self._clock.monotonic() + 60.0 - second + 0.01  # not a rounding error too early

    def spend(self, group: str) -> None:
        """Count one request of weight 1 that goes now, of what is in hand."""
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

        `weights` says how much each takes, by account id. Return how many accounts there is weight for (0:
        try in the next minute), and which of them another run has claimed in this minute.
        """
        ids, minute = list(weights), self._now(group)
        while ids:
            needed = sum(weights[id_] for id_ in ids)
            granted, left, claimed = self._take(minute, group, max(0, needed - minute.free), ids)
            if granted:
                minute.free -= needed
                return len(ids), claimed
            # Another run may take from it in between: each turn asks for fewer.
            left += minute.free
            fitting = 0
            while fitting < len(ids) - 1 and weights[ids[fitting]] <= left:
                left -= weights[ids[fitting]]
                fitting += 1
            ids = ids[:fitting]
        minute.full = True
        return 0, set()

    def _take(
        self, minute: _Minute, group: str, weight: int, ids: Sequence[str]
    ) -> tuple[bool, int, set[str]]:
        """Take exactly so much; return whether there was room, else how much is left, and who is claimed.

        All of that is the minute's that was asked for, which may be over when the answer comes.
        Where the counter cannot be reached, the run goes on within the same cap on its own, and `trouble`
        says so.
        """
        cap = self.caps[group]
        hashes = {_short(id_): id_ for id_ in ids}
        item: Any = {}
        added = minute.taken + weight <= cap
        left = cap - minute.taken
        if added and not self.trouble:
            try:
                with self._deadline.brief():
                    added, item = self._add(group, minute.number, weight, hashes)
            except AwsError as error:
                self.trouble = f"the weight counter could not be reached: {error_code(error)}"
                _log.warning("budget", extra={"trouble": self.trouble})
            used = item.get("used", {"N": "0"}).get("N", "")
            if used.isdecimal():
                left = min(left, cap - int(used))
            else:
                added, self.trouble = True, "the weight counter does not hold a number"
        if not added:
            minute.full = left <= 0
            return False, max(0, left), set()
        minute.taken += weight
        minute.in_hand += weight
        minute.free += weight
        return True, 0, {hashes[short] for short in item.get("claimed", {}).get("SS", ()) if short in hashes}

    def observe(self, group: str, used_weight: int) -> None:
        """Heed what Binance says the IP address used in this minute, whatever used it."""
        if used_weight >= GROUP_WEIGHT[group] * _CEILING:
            minute = self._now(group)
            minute.full, minute.in_hand, minute.free = True, 0, 0

    def give_back(self, group: str, unrenewed: Iterable[str] = ()) -> None:
        """Return what is in hand, and let other runs ask for the accounts that this one did not renew.

        Best effort: what a run does not return, it has taken for this minute only.
        """
        minute = self._now(group)
        hashes = {_short(id_) for id_ in unrenewed}
        if self.trouble or not minute.taken or not (minute.in_hand or hashes):
            return
        values: dict[str, Any] = {":back": {"N": str(-minute.in_hand)}}
        expression = "ADD used :back"
        if hashes:
            values[":ids"] = {"SS": sorted(hashes)}
            expression += " DELETE claimed :ids"
        minute.taken -= minute.in_hand
        minute.in_hand = minute.free = 0
        try:
            self._update(group, minute.number, expression, values)
        except AwsError as error:
            _log.warning("budget", extra={"trouble": f"weight not returned: {error_code(error)}"})

    def _add(
        self, group: str, minute: int, weight: int, hashes: Iterable[str]
    ) -> tuple[bool, dict[str, Any]]:
        """Add to a minute's counter; return whether there was room, and the item as it was before."""
        values: dict[str, Any] = {
            ":weight": {"N": str(weight)},
            ":room": {"N": str(self.caps[group] - weight)},
            ":ttl": {"N": str(minute * 60 + _KEEP_SECONDS)},
        }
        add = "ADD used :weight"
        if hashes:
            values[":ids"] = {"SS": sorted(hashes)}
            add += ", claimed :ids"
        try:
            answer = self._update(
                group,
                minute,
                f"{add} SET #ttl = :ttl",
                values,
                ConditionExpression="attribute_not_exists(used) OR used <= :room",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ReturnValues="ALL_OLD",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException as refused:
            refusal: Any = refused.response
            return False, refusal.get("Item", {})
        return True, answer.get("Attributes", {})

    def _update(self, group: str, minute: int, expression: str, values: Any, **more: Any) -> Any:
        at = datetime.fromtimestamp(minute * 60, UTC)
        return self._dynamodb.update_item(
            TableName=self._table,
            Key={"accountId": {"S": f"#weight:{group}"}, "record": {"S": f"{at:%Y-%m-%dT%H:%MZ}"}},
            UpdateExpression=expression,
            ExpressionAttributeValues=values,
            **more,
        )

    def _now(self, group: str) -> _Minute:
        number = self.minute()
        minute = self._minutes.get(group)
        if minute is None or minute.number != number:
            minute = self._minutes[group] = _Minute(number)
        return minute


def _short(account_id: str) -> str:
    """Return eight characters that stand for an account: the item stays small with thousands of claims."""
    return hashlib.blake2b(account_id.encode(), digest_size=4).hexdigest()
