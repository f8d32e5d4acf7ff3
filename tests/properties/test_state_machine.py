"""The whole program under any sequence of troubles: what it promises must hold after every step.

The program is the real one, over sockets to the stand-in and over boto3 to moto (in this process: there are
many calls). Time is virtual and the workers take turns, so that what fails can be played again. What is
checked is the promise: the record against the exchange's own truth, the ledger against the requests that
arrived, the events against the ledger. A tick with nothing down must put every good account right.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import boto3
import pytest
import requests
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from moto.core.botocore_stubber import BotocoreStubber

from listenkeys.aws.accounts import Accounts
from listenkeys.aws.announcements import Announcer
from listenkeys.aws.budget import Budget
from listenkeys.aws.calls import Deadline
from listenkeys.aws.counter import WeightCounter
from listenkeys.aws.credentials import Credentials
from listenkeys.aws.records import Records
from listenkeys.binance.client import BinanceClient
from listenkeys.keeper import Keeper
from listenkeys.products import GROUP_WEIGHT, PRODUCTS
from listenkeys.report import Report
from listenkeys.trigger import SWEEP, TICK, Trigger
from local.aws.stack import REGION, LocalAws
from local.binance.exchange import Exchange
from local.clock import VirtualClock
from local.world import World
from simulation.schedules import without_threads

# More with `make test-deep`, fewer with `make dynamodb`.
EXAMPLES, STEPS = (400, 60) if os.environ.get("DEEP") else (25, 25)
if os.environ.get("DYNAMODB_LOCAL"):
    EXAMPLES, STEPS = 5, 15
# The others' PUT answers {}. That a key was replaced before its time was over, by another process or by a run
# that died before it recorded it, cannot be told from that; so with these it only happens in time.
TOLD = ("usdm", "coinm")
FRESH = timedelta(minutes=5)
MOST_PROBES = 24  # to a host and group that is down: a key at risk is tried for until the run ends
SUCCESSES = {"EXTENDED", "CHANGED", "CREATED", "RECREATED"}
NEW_KEY = {"CHANGED", "CREATED", "RECREATED"}
HOST_FAULTS: dict[str, dict[str, Any]] = {
    "5xx": {"status": 503},
    "5xx to every POST": {"status": 503, "method": "POST"},
    "5xx, but it took effect": {"kind": "after", "status": 503},
    "429": {"status": 429, "headers": {"Retry-After": "30"}},
    "429 without Retry-After": {"status": 429},
    "418": {"status": 418},
    "403": {"status": 403},
    "reset": {"kind": "reset"},
    "not JSON": {"status": 200, "body": "<html>"},
}
AWS_FAULTS = {
    "Secrets Manager": {"BatchGetSecretValue"},
    "DynamoDB reads": {"Scan", "BatchGetItem"},
    "DynamoDB writes": {"TransactWriteItems"},
    "EventBridge": {"PutEvents"},
}


class Killed(BaseException):
    """The process is no more."""


class Life:
    """How long a process lives: `left` calls out of it, for ever if None."""

    left: int | None = None

    def is_over(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0


class Wire(BinanceClient):
    """The client of a process that may die: after that nothing it sends arrives."""

    def __init__(self, life: Life, *args: Any) -> None:
        super().__init__(*args)
        self._life = life

    def _exchange(self, method: str, product: str, api_key: str) -> tuple[int, Mapping[str, str], bytes]:
        if self._life.is_over():
            raise requests.ConnectionError
        return super()._exchange(method, product, api_key)


class _Raw(io.BytesIO):
    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


@dataclass
class Subject:
    """An account, and what a test knows of it."""

    name: str
    api_key: str
    product: str
    enabled: bool = True
    known: bool = True  # to Binance
    tampered: datetime | None = None  # when its key was last expired or rotated behind our back


class WholeProgram(RuleBasedStateMachine):
    """Rules are what happens to the program; invariants are what it promises."""

    aws: LocalAws

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.aws.reset()
        self.world = World(exchange=Exchange(now=self.clock.timestamp), aws=self.aws)
        self._moto = BotocoreStubber()
        self._moto.enabled = True
        self.life = Life()
        self.meanwhile_in = 0
        self.down: set[str] = set()
        self.clients = {name: self._client(name) for name in ("dynamodb", "secretsmanager", "events")}
        self.keeper = self._new_process()
        self.subjects: dict[str, Subject] = {}
        self.current: dict[str, dict[str, Any]] = {}
        self.ledger: dict[str, list[dict[str, Any]]] = {}
        self.runs = 0

    def _client(self, service: str) -> Any:
        client = boto3.client(
            service,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
            endpoint_url=(service == "dynamodb" and self.aws.dynamodb_url) or None,
        )
        client.meta.events.register_first("before-send", self._before_send)
        return client

    def _before_send(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        if self.life.is_over():
            raise Killed
        self.meanwhile_in -= 1
        if self.meanwhile_in == 0:
            self.meanwhile()
        operation = event_name.rpartition(".")[2]
        if any(operation in AWS_FAULTS[fault] for fault in self.down):
            body = json.dumps({"__type": "InternalServerError", "message": "no"})
            return AWSResponse(request.url, 500, {}, _Raw(body.encode()))
        if self.aws.dynamodb_url and ".dynamodb." in event_name:
            return None  # it is sent
        return self._moto(event_name, request)

    def _new_process(self) -> Keeper:
        outputs = self.aws.outputs
        self.life.left = None
        dynamodb, sleep = self.clients["dynamodb"], self.clock.sleep
        deadline = Deadline(self.clock.monotonic)
        return Keeper(
            accounts=Accounts(dynamodb, outputs["AccountsTableName"], outputs["SecretPrefix"], sleep),
            credentials=Credentials(self.clients["secretsmanager"]),
            binance=Wire(self.life, self.clock.now, self.world.binance_url),
            records=Records(dynamodb, outputs["ListenKeysTableName"], "all", 30, sleep),
            announcer=Announcer(self.clients["events"], outputs["ListenKeysTableName"]),
            clock=self.clock.clock,
            budget=Budget(
                WeightCounter(dynamodb, outputs["ListenKeysTableName"], deadline), 1200, self.clock.clock
            ),
            overdue=lambda minutes: timedelta(minutes=minutes or 31),
            max_concurrency=1,
            aws_deadline=deadline,
        )

    def teardown(self) -> None:
        try:
            self.everything_is_well_again()
        finally:
            for client in self.clients.values():
                client.close()
            self.world.close()

    @initialize()
    def accounts_of_all_kinds(self) -> None:
        self.add("alice", "usdm")
        self.add("carol", "coinm")
        self.add("paul", "portfolio")
        self.world.add_account("badkey", "unknown".ljust(64, "0"), known=False)
        self.world.put_row("badrow", product="spot")
        self.world.put_row("nosecret")

    def add(self, name: str, product: str) -> None:
        subject = self.subjects[name] = Subject(name, name.ljust(64, "0"), product)
        self.world.add_account(name, subject.api_key, product=product)

    # What happens

    @rule(rule_name=st.sampled_from([TICK, TICK, SWEEP]), minutes=st.sampled_from([0, 1, 4, 5, 6, 26, 31]))
    def run(self, rule_name: str, minutes: float) -> None:
        self.clock.advance(1, minutes=minutes)
        due_before = self.due_on_a_tick()
        first = len(self.world.exchange.requests)
        self.runs += 1
        report = self.keeper.run(Trigger(rule_name), f"run{self.runs}", 300.0)
        self.read_records()
        self.check_requests(first)
        if "DynamoDB writes" not in self.down:
            self.check_ledger(first)
        if "DynamoDB reads" in self.down:
            assert report.accounts_unread, "what cannot be read is not nothing"
        if not self.down:
            assert not any("unannounced" in self.current.get(s.name, {}) for s in self.enabled())
        if rule_name == TICK and not self.down and not self.host_is_down():
            self.check_all_well(report, due_before)

    @rule()
    def tick_twice(self) -> None:
        self.run(TICK, 6)
        well = not self.down and not self.host_is_down()
        first = len(self.world.exchange.requests)
        self.run(TICK, 0)
        asked_again = {request.api_key for request in self.world.exchange.requests[first:]}
        if well:
            assert asked_again.isdisjoint(s.api_key for s in self.good()), "a duplicate costs nothing"

    @rule(rule_name=st.sampled_from([TICK, SWEEP]), calls=st.integers(0, 14))
    def run_that_is_killed(self, rule_name: str, calls: int) -> None:
        self.clock.advance(1, minutes=6)
        first = len(self.world.exchange.requests)
        self.life.left = calls
        self.runs += 1
        with suppress(Killed):
            self.keeper.run(Trigger(rule_name), f"run{self.runs}", 300.0)
        self.life.left = None
        self.read_records()
        self.check_requests(first)
        self.keeper = self._new_process()

    @rule(calls=st.integers(1, 7))
    def run_that_is_overtaken(self, calls: int) -> None:
        self.clock.advance(1, minutes=6)
        first = len(self.world.exchange.requests)
        self.meanwhile_in = calls
        self.keeper.run(Trigger(TICK), "overtaken", 300.0)
        self.meanwhile_in = 0
        self.read_records()
        self.check_requests(first, runs=2)

    def meanwhile(self) -> None:
        """Do a whole run of another process between two calls of a run that is under way."""
        self.clock.advance(1)
        self._new_process().run(Trigger(TICK), "overtakes", 300.0)

    @rule(minutes=st.integers(1, 70))
    def time_passes(self, minutes: int) -> None:
        self.clock.advance(minutes=minutes)

    @precondition(lambda self: not self.host_is_down())
    @rule(fault=st.sampled_from(sorted(HOST_FAULTS)))
    def binance_fails(self, fault: str) -> None:
        self.fault = fault
        self.world.exchange.fault(**HOST_FAULTS[fault])

    @precondition(lambda self: self.host_is_down())
    @rule()
    def binance_recovers(self) -> None:
        self.fault = ""
        self.world.exchange.clear_faults()

    @rule(fault=st.sampled_from(sorted(AWS_FAULTS)))
    def aws_fails(self, fault: str) -> None:
        self.down.add(fault)

    @precondition(lambda self: self.down)
    @rule()
    def aws_recovers(self) -> None:
        self.down.clear()

    @rule(data=st.data(), fault=st.sampled_from([*sorted(HOST_FAULTS), *sorted(AWS_FAULTS)]))
    def one_tick_goes_wrong(self, data: st.DataObject, fault: str) -> None:
        """Let a key be forgotten, a tick meet a fault, and a sweep come when it is over."""
        self.key_expires_at_binance(data)
        self.binance_recovers()
        self.aws_recovers()
        if fault in HOST_FAULTS:
            self.binance_fails(fault)
        else:
            self.aws_fails(fault)
        self.run(TICK, 6)
        self.binance_recovers()
        self.aws_recovers()
        self.run(SWEEP, 1)

    @rule(data=st.data())
    def key_expires_at_binance(self, data: st.DataObject) -> None:
        subject = self.one(data, TOLD)
        self.world.exchange.expire(subject.api_key, subject.product)
        subject.tampered = self.clock.now()

    @rule(data=st.data())
    def key_is_rotated_by_another_process(self, data: st.DataObject) -> None:
        subject = self.one(data, TOLD)
        self.world.exchange.rotate(subject.api_key, subject.product)
        subject.tampered = self.clock.now()

    @rule(data=st.data())
    def api_key_is_revoked_or_restored(self, data: st.DataObject) -> None:
        subject = self.one(data)
        subject.known = not subject.known
        if subject.known:
            self.world.exchange.add_account(subject.api_key)
        else:
            self.world.exchange.revoke(subject.api_key)

    @rule(data=st.data())
    def account_is_disabled_or_enabled(self, data: st.DataObject) -> None:
        subject = self.one(data)
        subject.enabled = not subject.enabled
        self.world.put_row(subject.name, product=subject.product, enabled=subject.enabled)

    @precondition(lambda self: len(self.subjects) < 5)
    @rule(product=st.sampled_from(["usdm", "options"]))
    def account_is_added(self, product: str) -> None:
        self.add(f"new{len(self.subjects)}", product)

    @rule()
    def everything_is_well_again(self) -> None:
        self.binance_recovers()
        self.aws_recovers()
        self.run(TICK, 6)
        self.check_announced()

    # What is promised

    def read_records(self) -> None:
        """Read the table, and compare it with what it was."""
        before, self.current, self.ledger = self.current, {}, defaultdict(list)
        for item in self.aws.items("ListenKeysTable"):
            plain = {
                name: int(value) if kind == "N" else value
                for name, typed in item.items()
                for kind, value in typed.items()
            }
            if plain["accountId"].startswith("#"):
                continue  # a weight counter
            if plain["record"] == "CURRENT":
                self.current[plain["accountId"]] = plain
            else:
                self.ledger[plain["accountId"]].append(plain)
        for name, entries in self.ledger.items():
            newest = max(entry["record"] for entry in entries)
            assert self.current[name]["attemptedAt"] >= newest, "an older attempt took a newer one's place"
        for name, last in before.items():
            record = self.current[name]
            for field in ("attemptedAt", "renewedAt", "expiresAt"):
                assert record.get(field, "") >= last.get(field, ""), f"{field} moved backwards"
            assert record.get("listenKey") or not last.get("listenKey"), "a known key became nothing"

    @invariant()
    def records_are_true(self) -> None:
        now = self.clock.now()
        for subject in self.subjects.values():
            record = self.current.get(subject.name, {})
            if "renewedAt" not in record:
                continue
            renewed_at, expires_at = moment(record["renewedAt"]), moment(record["expiresAt"])
            assert expires_at - renewed_at == timedelta(minutes=60)
            live = self.world.exchange.live_key(subject.api_key, subject.product)
            if live == record["listenKey"]:
                truth = self.world.exchange.expires_at(subject.api_key, subject.product)
                assert truth is not None
                assert expires_at.timestamp() <= truth + 0.001, "later than the truth"
            elif subject.tampered is None or subject.tampered < renewed_at:
                assert expires_at <= now, "recorded as alive, and it is not"

    def check_requests(self, first: int, runs: int = 1) -> None:
        """The requests of a run are few, never a DELETE, and at most one POST for each account."""
        sent = self.world.exchange.requests[first:]
        assert {request.method for request in sent} <= {"PUT", "POST"}
        # A request that meets a connection gone stale is sent once more on a new one.
        most = runs * (2 if self.fault == "reset" else 1)
        posts = Counter((request.api_key, request.path) for request in sent if request.method == "POST")
        assert max(posts.values(), default=0) <= most
        assert len(sent) <= most * max(len(GROUP_WEIGHT) * MOST_PROBES, 4 * (len(self.subjects) + 1))

    def check_ledger(self, first: int) -> None:
        """Every request of a run is in the ledger, as an attempt of its account."""
        sent = Counter(request.api_key for request in self.world.exchange.requests[first:])
        for subject in self.subjects.values():
            entries = [e for e in self.ledger[subject.name] if e["runId"] == f"run{self.runs}"]
            attempts = sum(entry["attempts"] for entry in entries)
            assert len(entries) <= 1
            most = 2 if self.fault == "reset" else 1
            assert attempts <= sent[subject.api_key] <= most * attempts

    def check_all_well(self, report: Report, due: set[str]) -> None:
        """After a tick with nothing down, every good account that was due has the exchange's live key."""
        for subject in self.good():
            if subject.name in due:
                record = self.current[subject.name]
                live = self.world.exchange.live_key(subject.api_key, subject.product)
                assert live is not None
                assert record["listenKey"] == live
                assert record["outcome"] in SUCCESSES
                assert moment(record["expiresAt"]) > self.clock.now() + timedelta(minutes=55)
        assert report.incomplete() is None

    def check_announced(self) -> None:
        """What the ledger says changed has been announced; nothing is left to announce."""
        told = Counter((e["detail-type"], e["detail"]["accountId"]) for e in self.aws.sent_events())
        # What a disabled account has to tell waits until it is enabled.
        for name in [*(subject.name for subject in self.enabled()), "badkey", "badrow", "nosecret"]:
            happened: Counter[str] = Counter()
            failing = False
            for entry in sorted(self.ledger[name], key=lambda entry: entry["record"]):
                well = entry["outcome"] in SUCCESSES
                happened["Listen Key Changed"] += entry["outcome"] in NEW_KEY
                happened["Listen Key Failing"] += not well and not failing
                happened["Listen Key Recovered"] += well and failing
                failing = not well
            for kind, times in happened.items():
                assert told[kind, name] >= times, (kind, name)
            assert "unannounced" not in self.current[name]

    # What a test knows

    fault = ""

    def host_is_down(self) -> bool:
        return bool(self.fault)

    def one(self, data: st.DataObject, products: Collection[str] = PRODUCTS) -> Subject:
        names = sorted(s.name for s in self.subjects.values() if s.product in products)
        return self.subjects[data.draw(st.sampled_from(names))]

    def enabled(self) -> list[Subject]:
        return [subject for subject in self.subjects.values() if subject.enabled]

    def good(self) -> list[Subject]:
        return [subject for subject in self.enabled() if subject.known]

    def due_on_a_tick(self) -> set[str]:
        fresh = {
            name
            for name in self.subjects
            if (record := self.current.get(name, {})).get("renewedAt")
            and self.clock.now() - moment(record["renewedAt"]) < FRESH
        }
        return set(self.subjects) - fresh


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.slow
@pytest.mark.timeout(3600 if os.environ.get("DEEP") else 120)
def test_the_promise_holds_under_any_sequence_of_troubles(aws: LocalAws) -> None:
    WholeProgram.aws = aws
    with without_threads():
        run_state_machine_as_test(
            WholeProgram,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=not os.environ.get("DEEP"),
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
