"""What has to hold on every day. Knows the program by its tables, its events and what it prints."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chaos.plan import LONGEST, MINUTE

SUCCESSES = {"EXTENDED", "CHANGED", "CREATED", "RECREATED"}
# What a failure is called that a request of this account has brought about.
OF_A_REQUEST = {"TIMEOUT", "CONNECTION", "SERVER_ERROR", "BAD_RESPONSE", "WAF_BLOCKED"}
FRESH = 5 * MINUTE
ASKED = 30.0  # seconds: what a bot asks for may come so soon after an attempt
DEAD_AT_MOST = 45 * MINUTE  # a key that died early, until somebody has made another one


class Violation(AssertionError):
    """A rule that does not hold; `about` are words that its story is looked up by, which ends at `until`."""

    def __init__(self, rule: str, why: str, *about: str, until: float = float("inf")) -> None:
        super().__init__(f"{rule}: {why}")
        self.rule = rule
        self.about = about
        self.until = until
        self.story: list[str] = []


@dataclass(slots=True)
class Ask:
    """A request to Binance: `fate` is what the plan did to it; `clean`: it has extended a key and said so."""

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
    """An invocation. `name` tells it from others with its `id`: shards, copies and retries of an event."""

    id: str
    name: str
    trigger: str
    began: float
    forced: bool = False
    asks: list[Ask] = field(default_factory=list)
    calls: int = 0
    fresh: dict[str, float] = field(default_factory=dict)  # accounts with a success just before, and when
    ended: float | None = None
    killed: bool = False
    raised: str = ""
    output: str = ""
    undone: set[str] = field(default_factory=set)  # accounts whose results it says it could not record
    alone_since: float | None = (
        None  # when the counter of weight did not answer: now it has the cap to itself
    )


def instant(text: str) -> float:
    """Return a recorded time in epoch seconds."""
    return datetime.fromisoformat(text).timestamp()


def asked_too_often(run: Run) -> None:
    """No account is asked more often than its faults explain, nor when it was renewed a moment ago."""
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
    """What Binance says of the address's use ends the minute for the run that hears it."""
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
    """In no clock minute do all processes together send more than the cap.

    A run that cannot reach the counter keeps the cap on its own, as documented.
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
    """expiresAt is never later than the truth, but where a key has died early since it was recorded."""
    if "expiresAt" not in record or "renewedAt" not in record:
        return
    if died is not None and instant(record["renewedAt"]) <= died:
        return
    if lease_ends is None or instant(record["expiresAt"]) > lease_ends + 0.001:
        raise Violation(
            "expiresAt", f"{account}: {record['expiresAt']}, and the truth is {lease_ends}", account
        )


def newest_record(account: str, record: Mapping[str, Any], asks: Iterable[Ask]) -> None:
    """A record is never older than a success that was sent after it. While no run is under way."""
    clean = max((ask.at for ask in asks if ask.clean), default=None)
    if clean is None or not record:
        return
    if record.get("outcome") in SUCCESSES:
        if instant(record["renewedAt"]) < clean - 2.0:  # it is sent before it arrives
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
    """One Failing and one Recovered for each trouble, a Changed for each key; return the copies."""
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
    """Every attempt is in the ledger, but what a later one has superseded before it could be recorded."""
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
    """No key that was alive when an outage of at most 25 minutes began dies; what died early comes back."""
    if now < ends:
        return
    if died is None:
        raise Violation("lost", f"{account}'s key died {now - ends:.0f} s ago", account)
    if now - died > DEAD_AT_MOST + outages + LONGEST:
        raise Violation("lost", f"{account}'s key died {now - died:.0f} s ago and did not come back", account)


def nothing_secret(where: str, text: str, secrets: Iterable[str]) -> None:
    """No API key and no listenKey shows."""
    for secret in secrets:
        for part in (secret, secret[:20], secret[-20:]):
            if part in text:
                raise Violation("secret", f"{part[:6]}... is in {where}", where)
