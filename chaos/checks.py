"""Checks the rules of a day whenever a run has ended and at the end, and collects the violations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from chaos import rules
from chaos.accounts import ACCOUNTS, GROUPS, api_key_of
from chaos.plan import MINUTE
from chaos.rules import Run, Violation
from chaos.traffic import Traffic
from chaos.world import ChaosWorld

NEVER = "9999-01-01T00:00:00Z"


class Found(Exception):
    """A rule in `Checks.awaited` was broken."""


class Checks:
    """Checks the rules and collects `violations`.

    `runs` are all runs so far. `copies` counts events that were sent twice. If a rule in `awaited` is broken,
    Found is raised, which ends the day.
    """

    def __init__(self, world: ChaosWorld, traffic: Traffic, runs: list[Run]) -> None:
        self.world, self.traffic, self.runs = world, traffic, runs
        self.violations: list[Violation] = []
        self.copies = 0
        self.awaited: tuple[str, ...] = ()

    def holds(self, rule: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return rule(*arguments)
        except Violation as violation:
            self.violated(violation)
            return None

    def violated(self, violation: Violation) -> None:
        """Record a violation with its story, unless the same rule was broken about the same words."""
        known = {(each.rule, each.about) for each in self.violations}
        if (violation.rule, violation.about) not in known:
            self.world.tell(f"VIOLATION of {violation}")
            violation.story = list(self.world.story_of(violation.about, violation.until))
            self.violations.append(violation)
            if violation.rule in self.awaited:
                raise Found

    def check(self) -> None:
        """Check the rules that hold whenever a run has ended."""
        now, current = self.world.keeper.now(), self.world.current()
        ends, died = dict(self.world.ends), dict(self.world.died)
        recent = int(now // 60) - 10
        weights = {
            group: {minute: w for minute, w in self.world.exchange.weight(group).items() if minute >= recent}
            for group in self.world.caps
        }
        live = {a.name: self.world.exchange.live_key(api_key_of(a.name), a.product) for a in ACCOUNTS}
        self.holds(rules.within_the_cap, weights, self.world.caps, self.runs[-100:], GROUPS)
        for account in (account for account in ACCOUNTS if account.promised):
            name, record = account.name, current.get(account.name, {})
            self.holds(rules.true_record, name, record, ends.get(name), died.get(name))
            if name in ends and (account.creates or name not in died):
                self.holds(rules.alive, name, ends[name], now, died.get(name), 0.0)
            if self.traffic.running:
                continue
            # The effect is unknown if a run was killed or could not record its result.
            asks = [(ask, run.killed or name in run.undone) for run in self.runs[-60:] for ask in run.asks]
            asks = [(ask, unknown) for ask, unknown in asks if ask.account == name]
            self.holds(rules.newest_record, name, record, [ask for ask, unknown in asks if not unknown])
            last, unknown = max(
                (each for each in asks if each[0].effect), key=lambda each: each[0].at, default=(None, True)
            )
            known = record.get("outcome") in rules.SUCCESSES and record.get("listenKey") == live[name]
            true_once = name in died and rules.instant(record.get("renewedAt", NEVER)) <= died[name]
            sure = last is not None and last.clean and not unknown
            if record.get("outcome") in rules.SUCCESSES and not known and not true_once and sure:
                why = f"{name}: the recorded key is not the live one"
                self.violated(Violation("another key", why, name))

    def check_at_the_end(self) -> None:
        """Check the rules that hold for a whole day, after a last hour without troubles."""
        self.check()
        current, entries = self.world.current(), self.world.entries()
        now = self.world.keeper.now()
        for account in ACCOUNTS:
            record = current.get(account.name, {})
            if account.promised:
                if record.get("outcome") not in rules.SUCCESSES or record["consecutiveFailures"]:
                    self.violated(
                        Violation("stuck", f"{account.name} is {record.get('outcome')}", account.name)
                    )
                if now - rules.instant(record["renewedAt"]) > 37 * MINUTE:
                    self.violated(
                        Violation("stuck", f"{account.name} was renewed {record['renewedAt']}", account.name)
                    )
            if record.get("unannounced"):
                self.violated(Violation("stuck", f"{account.name} has something to announce", account.name))
        events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self.world.aws.sent_events():
            self.holds(rules.nothing_secret, "an event", json.dumps(event), self.world.secrets)
            if event["detail-type"] in ("Listen Key Changed", "Listen Key Failing", "Listen Key Recovered"):
                told = {"detail-type": event["detail-type"], "detail": event["detail"]}
                events[event["detail"]["accountId"]].append(told)
                self.world.counts[event["detail-type"]] += 1
        for account in ACCOUNTS:
            failing = bool(current.get(account.name, {}).get("consecutiveFailures"))
            own, entered = events[account.name], entries[account.name]
            self.copies += self.holds(rules.announced, account.name, own, entered, failing) or 0
        self.holds(rules.in_the_ledger, self.runs, entries, self.world.parameters["LedgerMode"] == "changes")
        for name, own in entries.items():
            self.holds(rules.nothing_secret, f"the ledger of {name}", json.dumps(own), self.world.secrets)
