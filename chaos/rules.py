"""The rules that must hold on every day. They see only the program's tables, its events and its output.

A rule raises Violation if it is broken.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chaos.plan import LONGEST, MINUTE

SUCCESSES = {"EXTENDED", "CHANGED", "CREATED", "RECREATED"}
# Error codes of failures that are caused by a request for the account itself.
OF_A_REQUEST = {"TIMEOUT", "CONNECTION", "SERVER_ERROR", "BAD_RESPONSE", "WAF_BLOCKED"}
FRESH = 5 * MINUTE
ASKED = 30.0  # seconds: a run that a bot has asked for may come this soon after an attempt
DEAD_AT_MOST = 45 * MINUTE  # how long an account whose key died early may be without another


class Violation(AssertionError):
    """A rule is broken. `about` are words to select the lines of its story, which ends at `until`."""

    def __init__(self, rule: str, why: str, *about: str, until: float = float("inf")) -> None:
        super().__init__(f"{rule}: {why}")
        self.rule = rule
        self.about = about
        self.until = until
        self.story: list[str] = []


@dataclass(slots=True)
class Ask:
    """A request to Binance.

    `fate` is what the plan did to it. `effect`: it has renewed or created a key. `clean`: it succeeded, and
    an intact answer named the key.
    """

    at: float
    account: str
    method: str
    fate: str
    status: int
    clean: bool
    effect: bool
    delivered: float = float("inf")


@dataclass(slots=True)
class Run:
    """An invocation. `name` is unique; shards, copies and retries of an event share the `id`."""

    id: str
    name: str
    trigger: str
    began: float
    forced: bool = False
    asks: list[Ask] = field(default_factory=list)
    calls: int = 0
    fresh: dict[str, float] = field(default_factory=dict)  # accounts renewed just before it began, and when
    ended: float | None = None
    killed: bool = False
    raised: str = ""
    output: str = ""
    undone: set[str] = field(default_factory=set)  # accounts whose results it could not record, as it says
    alone_since: float | None = (
        None  # when the weight counter did not answer: from then on it counts only its own weight
    )


def instant(text: str) -> float:
    """Return a time of a record (ISO 8601) in epoch seconds."""
    return datetime.fromisoformat(text).timestamp()


def asked_too_often(run: Run) -> None:
    """Check that a run sends no request for an account after a success, or if it was renewed just before."""
    asks: dict[str, list[Ask]] = defaultdict(list)
    for ask in run.asks:
        asks[ask.account].append(ask)
    for account, own in asks.items():
        clean = next((place for place, ask in enumerate(own) if ask.clean), None)
        if clean is not None and clean < len(own) - 1:
            raise Violation(
                "asked too often", f"{account} again after a success in {run.name}", account, run.name
            )
        if account in run.fresh and not run.forced:
            ago = own[0].at - run.fresh[account]
            if ago < (ASKED if run.trigger == "asked" else FRESH):
                why = (
                    f"{account} by {run.name}, {ago:.0f} s after a success that was recorded before it began"
                )
                raise Violation("asked too often", why, account, run.name)


def near_its_limit(run: Run, group_of: Mapping[str, str]) -> None:
    """Check that a run stops for the rest of the minute when Binance says that the weight limit is near."""
    for told in (ask for ask in run.asks if ask.fate == "near" and ask.clean):
        minute, group = told.at // 60, group_of[told.account]
        for ask in run.asks:
            if ask.at > told.delivered and ask.at // 60 == minute and group_of[ask.account] == group:
                why = f"{run.name} asks for {ask.account} {ask.at - told.delivered:.2f} s after it was told"
                raise Violation("near its limit", why, run.name)


def within_the_cap(
    weights: Mapping[str, Mapping[int, int]],
    caps: Mapping[str, int],
    runs: Iterable[Run],
    group_of: Mapping[str, str],
) -> None:
    """Check that all processes together send at most the cap in each clock minute.

    A run that cannot reach the counter keeps the cap by itself, as documented, so each such run adds one cap.
    """
    alone: Counter[tuple[str, int]] = Counter()
    for run in runs:
        if run.alone_since is not None:
            minutes = {(group_of[a.account], int(a.at // 60)) for a in run.asks if a.at >= run.alone_since}
            alone.update(minutes)
    for group, cap in caps.items():
        for minute, weight in weights[group].items():
            if weight > cap * (1 + alone[group, minute]):
                at = datetime.fromtimestamp(minute * 60, UTC)
                raise Violation("weight", f"{weight} of {cap} to {group} in the minute {at:%d %H:%M}", group)


def true_record(
    account: str, record: Mapping[str, Any], lease_ends: float | None, died: float | None
) -> None:
    """Check that expiresAt is not later than the true expiry, unless the key died early since."""
    if "expiresAt" not in record or "renewedAt" not in record:
        return
    if died is not None and instant(record["renewedAt"]) <= died:
        return
    if lease_ends is None or instant(record["expiresAt"]) > lease_ends + 0.001:
        raise Violation(
            "expiresAt", f"{account}: {record['expiresAt']}, and the truth is {lease_ends}", account
        )


def newest_record(account: str, record: Mapping[str, Any], asks: Iterable[Ask]) -> None:
    """Check that a record is not older than the last success. Call it only while no run is in progress."""
    clean = max((ask.at for ask in asks if ask.clean), default=None)
    if clean is None or not record:
        return
    if record.get("outcome") in SUCCESSES:
        if instant(record["renewedAt"]) < clean - 2.0:  # sent at renewedAt, arrived at `clean`
            why = f"{account}: recorded {record['renewedAt']}, a later success at {clean:.3f}"
            raise Violation("older record", why, account)
    elif record.get("errorCode") in OF_A_REQUEST:
        failed = max((ask.at for ask in asks if not ask.clean), default=0.0)
        if failed < clean:
            raise Violation(
                "older record", f"{account}: a failure over a success that was sent later", account
            )


def announced(
    account: str, events: list[dict[str, Any]], entries: list[dict[str, Any]], failing: bool
) -> int:
    """Check that each trouble has one Failing and one Recovered, and each key one Changed.

    Return how many events were copies of others (with the same id).
    """
    seen: set[str] = set()
    kinds: list[str] = []
    for event in events:
        detail = event["detail"]
        id_ = str(detail.get("id"))
        if id_ not in seen:
            seen.add(id_)
            kinds.append(event["detail-type"].removeprefix("Listen Key "))
    troubles = [kind for kind in kinds if kind in ("Failing", "Recovered")]
    for place, kind in enumerate(troubles):
        if kind != ("Failing", "Recovered")[place % 2]:
            before = troubles[place - 1] if place else "nothing"
            raise Violation("announcements", f"{account}: {kind} after {before} ({place + 1}th)", account)
    if bool(len(troubles) % 2) != failing:
        raise Violation(
            "announcements", f"{account}: the last is {troubles[-1:]}, failing is {failing}", account
        )
    keys = {entry["listenKeyFingerprint"] for entry in entries if entry["outcome"] in SUCCESSES}
    if kinds.count("Changed") != len(keys):
        why = f"{account}: {kinds.count('Changed')} times Changed for {len(keys)} keys"
        raise Violation("announcements", why, account)
    return len(events) - len(seen)


def in_the_ledger(
    runs: Iterable[Run], entries: Mapping[str, list[dict[str, Any]]], changes_only: bool
) -> None:
    """Check that every attempt is in the ledger, unless a later one overtook it before it was recorded."""
    written = {(e["runId"], account) for account, own in entries.items() for e in own}
    runs = list(runs)
    for run in runs:
        if run.killed or run.ended is None:
            continue
        for account in {ask.account for ask in run.asks} - run.undone:
            own = [ask for ask in run.asks if ask.account == account]
            if (run.id, account) in written or (changes_only and own[-1].clean):
                continue
            overlapping = any(
                other is not run and other.began <= (run.ended or 0) and ask.at >= own[0].at
                for other in runs for ask in other.asks if ask.account == account
            )  # fmt: skip
            if not overlapping:
                why = f"no entry for {account} of {run.name}"
                raise Violation("ledger", why, account, run.name, until=run.ended + MINUTE)


def alive(account: str, ends: float, now: float, died: float | None, outages: float) -> None:
    """Check that no key expires, and that a key that died early is replaced in time."""
    if now < ends:
        return
    if died is None:
        raise Violation("lost", f"{account}'s key died {now - ends:.0f} s ago", account)
    if now - died > DEAD_AT_MOST + outages + LONGEST:
        raise Violation("lost", f"{account}'s key died {now - died:.0f} s ago and did not come back", account)


def nothing_secret(where: str, text: str, secrets: Iterable[str]) -> None:
    """Check that a text contains no API key and no listenKey, nor the first or last 20 characters of one."""
    for secret in secrets:
        for part in (secret, secret[:20], secret[-20:]):
            if part in text:
                raise Violation("secret", f"{part[:6]}... is in {where}", where)
