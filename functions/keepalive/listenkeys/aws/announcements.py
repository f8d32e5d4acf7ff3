"""Events on the default event bus: a key changed, is failing, or has recovered. None contains a listenKey.

An event is sent at least once. Copies have the same `id` in their detail. An announcement is recorded with
the account first (`unannounced`), then sent, then cleared: a run that dies in between, or a bus that does not
answer, delays it but does not lose it. It is cleared only after people were sent the run's digests.
"""

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import Unavailable
from ..model import SUCCESSES, Outcome, Result, iso
from ..view.remedies import REMEDIES, remedy
from .accounts import ID_CHARACTERS
from .clients import EventBridge, call

SOURCE = "listenkey-keeper"
CHANGED = "Listen Key Changed"
FAILING = "Listen Key Failing"
RECOVERED = "Listen Key Recovered"
REPLACED = "Listen Keys Replaced"
DIGESTS = {FAILING: "Listen Keys Failing", RECOVERED: "Listen Keys Recovered", CHANGED: REPLACED}
COMPLETED = "Keepalive Run Completed"
Event = tuple[str, dict[str, Any]]  # its detail-type and detail
NAMED = 20  # accounts in a digest
_NAMES, _REMEDIES = 400, 5  # limits on its text (names in characters): Discord accepts 2,000 in all
_BATCH = 10  # PutEvents' limit


def news(result: Result) -> list[str]:
    """Return the announcements of a result, as JSON texts to record with it."""
    before, kinds = result.before, []
    first = not before.consecutive_failures or (result.outcome is Outcome.REJECTED and not before.rejected)
    if result.outcome in SUCCESSES:
        # Also if no key was recorded: a run that created it may have died, or be late, before it records it.
        if result.outcome is not Outcome.EXTENDED or not before.listen_key:
            kinds.append(CHANGED)
        if before.consecutive_failures and not result.late:
            kinds.append(RECOVERED)
    elif first and not result.late:
        kinds.append(FAILING)
    if not kinds:
        return []
    # An invalid id must not break JSON: "EventBridge does not escape values" (guide, input transformation).
    id_ = re.sub(f"[^{ID_CHARACTERS}]", "?", result.account_id)[:64]
    early = not result.late and before.product in (None, result.product)  # else the row's product was changed
    detail = {
        "accountId": id_,
        "product": result.product,
        "outcome": result.outcome,
        "errorCode": result.error_code,
        "expiresAt": iso(result.expires_at) if result.expires_at else None,
        "diedEarly": CHANGED in kinds and early and (before.expires_at or result.at) > result.at,
        **({"remedy": remedy(result.error_code, id_)} if result.error_code else {}),
    }
    at = iso(result.at)  # so an event's id stays the same however often it is recorded or sent
    return [
        json.dumps({"detailType": kind, "detail": {"id": f"{id_}/{at}/{kind.rpartition(' ')[2]}", **detail}})
        for kind in kinds
    ]


def digests(texts: Iterable[str], results: Sequence[Result], scheduled: bool) -> list[Event]:
    """Return the events that tell people of these announcements: at most one of each kind, with its detail.

    While a host is down, each run tries a few more of its accounts. People already know an error that another
    account has had since it began to fail: `results`, those of the whole run, show which. These are left out,
    and the keys that a manual run (`scheduled` is false) has replaced itself: who asked for it sees them.
    """
    deferred = {result.account_id for result in results if result.outcome is Outcome.DEFERRED}
    told = {r.before.only_error for r in results if deferred and not r.before.unannounced}
    seen = set() if scheduled else {text for result in results for text in result.unannounced}
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in DIGESTS}
    for text in texts:
        kind, detail = _recorded(text)
        known = detail.get("outcome") == Outcome.FAILED and detail.get("errorCode") in told
        known |= kind == CHANGED and (text in seen or not detail.get("diedEarly"))
        if kind in DIGESTS and "accountId" in detail and not known:
            found[kind][detail["accountId"]] = detail
    for id_ in {*found[FAILING]} & {*found[RECOVERED]}:  # it failed since people were last told
        if str(found[FAILING][id_].get("id")) < str(found[RECOVERED].pop(id_).get("id")):
            del found[FAILING][id_]  # and that is over
    renewed = sum(r.outcome in SUCCESSES and r.account_id not in found[RECOVERED] for r in results)
    died = [result.account_id for result in results if result.outcome is Outcome.RECREATED]
    others = {FAILING: (len(deferred - {*found[FAILING]}), []), RECOVERED: (renewed, died), CHANGED: (0, [])}
    return [(DIGESTS[kind], _digest(kind, [*of.values()], *others[kind])) for kind, of in found.items() if of]


def _digest(kind: str, details: list[dict[str, Any]], others: int, died: list[str]) -> dict[str, Any]:
    details.sort(key=lambda detail: detail.get("expiresAt") or "")  # the most urgent are named
    named, names, left = details[:NAMED], defaultdict(list), _NAMES
    for detail in named:
        name = f"{detail['accountId']} ({detail.get('product') or '?'})"
        if (left := left - len(name)) > 0:
            names[detail.get("errorCode")].append(name)
    count, total = len(details), len(details) + (others if kind == FAILING else 0)
    whose = details[0]["accountId"] if count == 1 else "NAME"
    words = f"{DIGESTS[kind].rpartition(' ')[2].upper()} {total:,} account{'s' * (total != 1)}"
    more = ", {:,} of them not tried yet." if kind == FAILING else "; {:,} other{} renewed too."
    words += more.format(others, " was" if others == 1 else "s were") if others > 0 else "."
    for number, (code, who) in enumerate(names.items()):
        todo = f" What to do: {remedy(code, whose)}." if code in REMEDIES and number < _REMEDIES else ""
        words += f" {code + ': ' if code else ''}{', '.join(who)}.{todo}"
    if unnamed := count - sum(map(len, names.values())):
        words += f" And {unnamed:,} more."
    if died:
        some = ", ".join(died[:5]) + ", ..." * (len(died) > 5)
        words += f" RECREATED {len(died)} ({some}): bots missed events, or the API key is another account's."
    see = "The old listenKey died early. See docs/alarms.md" if kind == CHANGED else "See `listenkeys status`"
    return {"count": count, "accounts": named, "text": f"{words} {see}."}


@dataclass(frozen=True, slots=True)
class Announcer:
    """Sends events to the default event bus. Each names ListenKeysTable, as other stacks use the bus, too.

    `heartbeat`: whether to send an event for a completed tick. It costs a cold tick another TLS connection.
    """

    events: EventBridge
    table: str
    heartbeat: bool = False

    def send(self, unannounced: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
        """Send the announcements. Return those of accounts for which all were sent. Raises Unavailable."""
        events = [
            (id_, event) for id_, texts in unannounced.items() for event in map(_recorded, texts) if event[0]
        ]
        taken = self._put([event for _, event in events])
        failed = {id_ for (id_, _), was_taken in zip(events, taken, strict=True) if not was_taken}
        return {id_: texts for id_, texts in unannounced.items() if id_ not in failed}

    def tell(self, events: Sequence[Event]) -> None:
        """Send events that are not recorded. Raises Unavailable if one of them was not accepted."""
        if not all(self._put(events)):
            raise Unavailable("EventBridge did not take all of the run's events")

    def _put(self, events: Sequence[Event]) -> list[bool]:
        """Send events. Return for each whether the bus accepted it."""
        to, taken = {"listenKeysTable": self.table}, list[bool]()
        entries: Any = [{"Source": SOURCE, "DetailType": k, "Detail": json.dumps(d | to)} for k, d in events]
        for start in range(0, len(entries), _BATCH):
            batch = entries[start : start + _BATCH]
            answer = call("EventBridge did not take the announcements", self.events.put_events, Entries=batch)
            taken += [not entry.get("ErrorCode") for entry in answer["Entries"]]
        return taken


def _recorded(text: str) -> Event:
    """Return an announcement's kind and detail; the kind is empty if the text is not an announcement."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        recorded = json.loads(text)
        kind, detail = recorded["detailType"], recorded["detail"]
        if isinstance(kind, str) and isinstance(detail, dict):
            return kind, detail
    return "", {}
