"""Events on the default event bus: a key changed, is failing, or has recovered. At least once, never the key.

Copies of an event have the same `id` in their detail.

An announcement is recorded with the account first (`unannounced`), then sent, then cleared: a run that dies
in between, or a bus that does not answer, delays it but does not lose it.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import Unavailable
from ..model import SUCCESSES, Outcome, Result
from ..view.remedies import remedy
from .accounts import ID_CHARACTERS
from .calls import AwsError, error_code
from .items import iso

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

SOURCE = "listenkey-keeper"
CHANGED = "Listen Key Changed"
FAILING = "Listen Key Failing"
RECOVERED = "Listen Key Recovered"
_BATCH = 10  # PutEvents' limit


def news(result: Result) -> list[str]:
    """Return the announcements that a result calls for, as JSON texts to be recorded with it."""
    before, kinds = result.before, []
    if result.outcome in SUCCESSES:
        if result.outcome is not Outcome.EXTENDED:
            kinds.append(CHANGED)
        if before.consecutive_failures and not result.late:
            kinds.append(RECOVERED)
    elif not before.consecutive_failures and not result.late:
        kinds.append(FAILING)
    if not kinds:
        return []
    # A row with an invalid id must not break the JSON that a rule's input transformer makes:
    # "EventBridge does not escape values" (User Guide, "Amazon EventBridge input transformation").
    id_ = re.sub(f"[^{ID_CHARACTERS}]", "?", result.account_id)[:64]
    detail = {
        "accountId": id_,
        "product": result.product,
        "outcome": result.outcome,
        "errorCode": result.error_code,
        "expiresAt": iso(result.expires_at) if result.expires_at else None,
    }
    if result.error_code:
        detail["remedy"] = remedy(result.error_code, id_)
    # The same however often it is recorded or sent.
    ids = [f"{id_}/{iso(result.at)}/{kind.rpartition(' ')[2]}" for kind in kinds]
    return [
        json.dumps({"detailType": kind, "detail": {"id": event, **detail}})
        for kind, event in zip(kinds, ids, strict=True)
    ]


class Announcer:
    """The default event bus. Each event names ListenKeysTable: other stacks use this bus, too."""

    def __init__(self, events: "EventBridgeClient", table: str) -> None:
        self._events = events
        self._table = table

    def send(self, unannounced: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
        """Send each account's announcements; return those of the accounts for whom all of them went out.

        Raises Unavailable when EventBridge did not answer at all; what went out before is sent again.
        """
        entries = [
            (id_, entry)
            for id_, texts in unannounced.items()
            for text in texts
            if (entry := self._entry(text))
        ]
        failed: set[str] = set()
        why = ""
        for start in range(0, len(entries), _BATCH):
            batch = entries[start : start + _BATCH]
            try:
                answer = self._events.put_events(Entries=[entry for _, entry in batch])
            except AwsError as error:
                why = error_code(error)
                break
            sent = zip(batch, answer["Entries"], strict=True)
            failed |= {id_ for (id_, _), entry in sent if entry.get("ErrorCode")}
        if why:
            raise Unavailable(f"EventBridge did not take the announcements: {why}")
        return {id_: texts for id_, texts in unannounced.items() if id_ not in failed}

    def _entry(self, text: str) -> Any:
        """Return what to send, None for a text that no version of this program has recorded."""
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            recorded = json.loads(text)
            kind, detail = recorded["detailType"], recorded["detail"]
            if kind and isinstance(kind, str) and isinstance(detail, dict):
                detail["listenKeysTable"] = self._table
                return {"Source": SOURCE, "DetailType": kind, "Detail": json.dumps(detail)}
        return None
