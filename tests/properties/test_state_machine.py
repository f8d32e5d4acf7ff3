"""The whole program under any sequence of troubles: what it promises must hold after every step.

It is the real program, with sockets to the stand-in, and with boto3 to moto (in this process, because there
are many calls). Time is virtual and the workers take turns, so that a failure can be reproduced. The test
compares the records with the exchange's state, the ledger with the requests that arrived, and the events with
the ledger. After a tick with nothing down, every good account must have a live key.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from hypothesis import HealthCheck, Phase, settings
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
from listenkeys.aws.clients import Deadline
from listenkeys.aws.counter import WeightCounter
from listenkeys.aws.credentials import Credentials
from listenkeys.aws.records import Records
from listenkeys.binance.client import BinanceClient
from listenkeys.errors import ErrorCode, Transient
from listenkeys.keeper import Keeper
from listenkeys.model import RETRYABLE
from listenkeys.products import PRODUCTS
from listenkeys.report import Report
from listenkeys.sending.weight import Budget
from listenkeys.trigger import SWEEP, TICK, Trigger
from local.aws.stack import REGION, LocalAws
from local.binance.exchange import Exchange, Fault
from local.clock import VirtualClock
from local.world import World
from simulation.schedules import Inline
from tests.faults.refusals import Raw

# `make test-deep` runs more examples, `make dynamodb` fewer.
EXAMPLES, STEPS = (400, 60) if os.environ.get("DEEP") else (25, 25)
if os.environ.get("DYNAMODB_LOCAL"):
    EXAMPLES, STEPS = 5, 15
FRESH = timedelta(minutes=5)
RUN_SECONDS = 300.0
# Small, so that runs have to wait. An account for options may need two requests, so it takes a whole minute.
CAPS = {"futures": 12, "portfolio": 30, "options": 2}
MOST_OPTIONS = 3
MOST_PROBES = 24  # the most probes of one group of hosts that fit into a run
SUCCESSES = {"EXTENDED", "CHANGED", "CREATED", "RECREATED"}
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
    "DynamoDB writes hang": {"TransactWriteItems", "UpdateItem"},
    "the weight counter": {"UpdateItem"},
    "EventBridge": {"PutEvents"},
}
HANGS, READ_TIMEOUT = "DynamoDB writes hang", 5.0
NO_COUNTER = {HANGS, "the weight counter"}


# For two runs at once: whether the other run continues at each call, in reverse order; or one run overtakes
# the other at one call.
ORDERS = st.lists(st.booleans(), max_size=60) | st.integers(0, 6).map(lambda calls: [True, *[False] * calls])


class Killed(BaseException):
    """The process has been killed."""


class Life:
    """How long a process lives: for `left` more calls to AWS or Binance, or without a limit if it is None."""

    left: int | None = None

    def is_over(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0


class Turns:
    """Two runs that take turns: at each call that one makes to AWS or Binance, the other may continue."""

    def __init__(self, order: Collection[bool]) -> None:
        self._order = list(order)
        self._turn = (threading.Semaphore(0), threading.Semaphore(0))
        self._over = [False, False]
        self._here = threading.local()
        self._failure: BaseException | None = None

    def play(self, *runs: Callable[[], object]) -> None:
        threads = [threading.Thread(target=self._play, args=one) for one in enumerate(runs)]
        for thread in threads:
            thread.start()
        self._turn[0].release()
        for thread in threads:
            thread.join()
        if self._failure:
            raise self._failure

    def call(self) -> None:
        """Let the other run continue if it is its turn."""
        number = getattr(self._here, "number", None)
        if number is not None and self._order and self._order.pop() and not self._over[1 - number]:
            self._turn[1 - number].release()
            self._turn[number].acquire()

    def _play(self, number: int, run: Callable[[], object]) -> None:
        self._turn[number].acquire()
        self._here.number = number
        try:
            run()
        except BaseException as failure:  # noqa: BLE001 - raised by `play`
            self._failure = self._failure or failure
        finally:
            self._over[number] = True
            self._turn[1 - number].release()


class Wire(BinanceClient):
    """The Binance client of a process that may die. After that, nothing that it sends arrives."""

    def __init__(self, machine: WholeProgram, *args: Any) -> None:
        super().__init__(*args)
        self._machine = machine

    def _exchange(self, method: str, product: str, api_key: str) -> tuple[int, Mapping[str, str], bytes]:
        if self._machine.life.is_over():
            raise Transient(ErrorCode.CONNECTION, "no connection")
        answer = super()._exchange(method, product, api_key)
        # Only after the request: the other run may move the clock, and this request was allowed at this time.
        self._machine.turns.call()
        return answer


@dataclass
class Subject:
    """An account, and what the test knows about it."""

    name: str
    api_key: str
    product: str
    enabled: bool = True
    known: bool = True  # to Binance
    refused: Fault | None = None  # by the firewall
    tampered: datetime | None = None  # when its key at Binance last changed without the program


class WholeProgram(RuleBasedStateMachine):
    """The rules are what can happen to the program; the invariants are what it promises."""

    aws: LocalAws

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.aws.reset()
        self.world = World(exchange=Exchange(now=self.clock.timestamp), aws=self.aws)
        self._moto = BotocoreStubber()
        self._moto.enabled = True
        self.life = Life()
        self.turns = Turns(())
        self.running = threading.local()
        self.uncounted: set[int] = set()  # minutes in which a run could not reach the weight counter
        self.down: set[str] = set()
        self.clients = {name: self._client(name) for name in ("dynamodb", "secretsmanager", "events")}
        self.keeper = self.latest = self._new_process()
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
        self.turns.call()
        if self.life.is_over():
            raise Killed
        # Secrets are read in threads of their own.
        getattr(self.running, "keeper", self.latest).aws_deadline.check()
        operation = event_name.rpartition(".")[2]
        if HANGS in self.down and operation in AWS_FAULTS[HANGS]:
            self.clock.advance(READ_TIMEOUT)
            raise ReadTimeoutError(endpoint_url=request.url)
        if any(operation in AWS_FAULTS[fault] for fault in self.down):
            body = json.dumps({"__type": "InternalServerError", "message": "no"})
            return AWSResponse(request.url, 500, {}, Raw(body.encode()))
        if self.aws.dynamodb_url and ".dynamodb." in event_name:
            return None  # send the request to DynamoDB Local
        return self._moto(event_name, request)

    def _new_process(self) -> Keeper:
        outputs = self.aws.outputs
        self.life.left = None
        dynamodb, sleep, table = self.clients["dynamodb"], self.clock.sleep, outputs["ListenKeysTableName"]
        deadline = Deadline(self.clock.monotonic)
        return Keeper(
            accounts=Accounts(dynamodb, outputs["AccountsTableName"], outputs["SecretPrefix"], sleep),
            credentials=Credentials(self.clients["secretsmanager"]),
            binance=Wire(self, self.clock.now, self.world.binance_url),
            records=Records(dynamodb, table, outputs["LedgerTableName"], "all", 30, sleep),
            announcer=Announcer(self.clients["events"], table),
            budget=Budget(WeightCounter(dynamodb, table, deadline), CAPS["futures"], self.clock.clock),
            clock=self.clock.clock,
            overdue=lambda minutes: timedelta(minutes=minutes or 31),
            max_concurrency=1,
            aws_deadline=deadline,
            pool=Inline,
        )

    def _run(self, keeper: Keeper, trigger: str, run_id: str) -> Report:
        """Do a run in this process, with the time that Lambda allows."""
        outer = getattr(self.running, "keeper", None)
        self.running.keeper = self.latest = keeper
        began = self.minute()
        try:
            return keeper.run(Trigger(trigger), run_id, RUN_SECONDS)
        finally:
            self.running.keeper = outer
            if self.down & NO_COUNTER:
                self.uncounted.update(range(began, self.minute() + 1))

    def minute(self) -> int:
        return int(self.clock.timestamp() // 60)

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
        self.add("olga", "options")
        self.world.add_account("badkey", "unknown".ljust(64, "0"), known=False)
        self.world.put_row("badrow", product="spot")
        self.world.put_row("nosecret")

    def add(self, name: str, product: str) -> None:
        subject = self.subjects[name] = Subject(name, name.ljust(64, "0"), product)
        self.world.add_account(name, subject.api_key, product=product)

    # What can happen

    @rule(rule_name=st.sampled_from([TICK, TICK, SWEEP]), minutes=st.sampled_from([0, 1, 4, 5, 6, 26, 31]))
    def run(self, rule_name: str, minutes: float) -> None:
        self.clock.advance(1, minutes=minutes)
        due_before = self.due_on_a_tick()
        first = len(self.world.exchange.requests)
        self.runs += 1
        began = self.clock.monotonic()
        report = self._run(self.keeper, rule_name, f"run{self.runs}")
        assert self.clock.monotonic() - began <= RUN_SECONDS - 5, "it ends before Lambda ends it"
        self.read_records()
        self.check_requests(first)
        if not self.down & {"DynamoDB writes", HANGS}:
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
            self._run(self.keeper, rule_name, f"run{self.runs}")
        self.life.left = None
        self.read_records()
        self.check_requests(first)
        self.keeper = self._new_process()

    @rule(order=ORDERS, names=st.sampled_from([(TICK, SWEEP), (TICK, TICK)]))
    def two_runs_at_once(self, order: list[bool], names: tuple[str, str]) -> None:
        self.clock.advance(1, minutes=6)
        first = len(self.world.exchange.requests)
        self.turns = Turns(order)
        one, two = (
            partial(self._run, self._new_process(), name, f"{n} of two") for n, name in enumerate(names)
        )
        self.turns.play(one, two)
        self.turns = Turns(())
        self.read_records()
        self.check_requests(first, runs=2)

    @rule(minutes=st.integers(1, 70))
    def time_passes(self, minutes: int) -> None:
        self.clock.advance(minutes=minutes)

    @precondition(lambda self: not self.host_is_down())
    @rule(fault=st.sampled_from(sorted(HOST_FAULTS)))
    def binance_fails(self, fault: str) -> None:
        self.fault = fault
        self.host_fault = self.world.exchange.fault(**HOST_FAULTS[fault])

    @precondition(lambda self: self.host_is_down())
    @rule()
    def binance_recovers(self) -> None:
        self.fault = ""
        self.host_fault.clear()

    @precondition(lambda self: not self.refused())
    @rule(data=st.data())
    def the_firewall_refuses_one_account(self, data: st.DataObject) -> None:
        subject = self.one(data)
        subject.refused = self.world.exchange.fault(status=403, api_key=subject.api_key)
        self.run(TICK, 31)

    @precondition(lambda self: self.refused())
    @rule()
    def the_firewall_lets_everybody_in(self) -> None:
        for subject in self.refused():
            assert subject.refused
            subject.refused.clear()
            subject.refused = None

    @rule(fault=st.sampled_from(sorted(AWS_FAULTS)))
    def aws_fails(self, fault: str) -> None:
        self.down.add(fault)

    @precondition(lambda self: self.down)
    @rule()
    def aws_recovers(self) -> None:
        self.down.clear()

    @rule(
        data=st.data(),
        host_fault=st.sampled_from(["", *sorted(HOST_FAULTS)]),
        aws_fault=st.sampled_from(["", *sorted(AWS_FAULTS)]),
    )
    def one_tick_goes_wrong(self, data: st.DataObject, host_fault: str, aws_fault: str) -> None:
        """Let Binance forget a key, run a tick with faults, and run a sweep after they are over."""
        self.key_expires_at_binance(data)
        self.all_recovers()
        if host_fault:
            self.binance_fails(host_fault)
        if aws_fault:
            self.aws_fails(aws_fault)
        self.run(TICK, 6)
        self.all_recovers()
        self.run(SWEEP, 1)

    @rule(data=st.data())
    def key_expires_at_binance(self, data: st.DataObject) -> None:
        subject = self.one(data)
        self.world.exchange.expire(subject.api_key, subject.product)
        subject.tampered = self.clock.now()

    @rule(data=st.data())
    def key_is_rotated_by_another_process(self, data: st.DataObject) -> None:
        subject = self.one(data)
        self.world.exchange.rotate(subject.api_key, subject.product)
        subject.tampered = self.clock.now()

    @rule(data=st.data(), product=st.sampled_from(sorted(PRODUCTS)), alive=st.booleans())
    def product_of_a_row_changes(self, data: st.DataObject, product: str, alive: bool) -> None:
        subject = self.one(data)
        if product == subject.product or (product == "options" and self.full_of_options()):
            return
        subject.product, subject.tampered = product, self.clock.now()
        if alive:
            self.world.exchange.rotate(subject.api_key, product)
        self.put_row(subject)

    @rule(data=st.data(), alive=st.booleans())
    def secret_gets_the_key_of_another_account(self, data: st.DataObject, alive: bool) -> None:
        subject = self.one(data)
        if subject.refused:
            return
        self.secrets += 1
        subject.api_key, subject.tampered = f"other{self.secrets}".ljust(64, "x"), self.clock.now()
        subject.known = True
        self.world.exchange.add_account(subject.api_key)
        if alive:
            self.world.exchange.rotate(subject.api_key, subject.product)
        self.world.put_secret(f"listenkeys/{subject.name}", {"apiKey": subject.api_key})

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
        self.put_row(subject)

    def put_row(self, subject: Subject) -> None:
        self.world.put_row(subject.name, product=subject.product, enabled=subject.enabled)

    @precondition(lambda self: len(self.subjects) < 6)
    @rule(product=st.sampled_from(["usdm", "options"]))
    def account_is_added(self, product: str) -> None:
        if product != "options" or not self.full_of_options():
            self.add(f"new{len(self.subjects)}", product)

    @rule()
    def everything_is_well_again(self) -> None:
        self.all_recovers()
        self.the_firewall_lets_everybody_in()
        self.run(TICK, 6)
        self.check_announced()

    def all_recovers(self) -> None:
        if self.fault:
            self.binance_recovers()
        self.aws_recovers()

    # What is promised

    def read_records(self) -> None:
        """Read the tables, and check the records against the previous ones."""
        before, self.current, self.ledger = self.current, {}, defaultdict(list)
        for item in (*self.aws.items("ListenKeysTable"), *self.aws.items("LedgerTable")):
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
            if "renewedAt" not in record or record["product"] != subject.product:
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

    @invariant()
    def no_minute_sees_more_than_the_cap(self) -> None:
        for group, cap in CAPS.items():
            for minute, weight in self.world.exchange.weight(group).items():
                assert weight <= cap or minute in self.uncounted, (group, weight)

    def check_requests(self, first: int, runs: int = 1) -> None:
        """Check that a run sent few requests, no DELETE, and at most one POST for each account."""
        sent = self.world.exchange.requests[first:]
        assert {request.method for request in sent} <= {"PUT", "POST"}
        posts = Counter((request.api_key, request.path) for request in sent if request.method == "POST")
        assert max(posts.values(), default=0) <= runs
        assert len(sent) <= runs * max(len(CAPS) * MOST_PROBES, 4 * (len(self.subjects) + 1))

    def check_ledger(self, first: int) -> None:
        """Check that every request of a run is in the ledger, as an attempt of its account."""
        sent = Counter(request.api_key for request in self.world.exchange.requests[first:])
        for subject in self.subjects.values():
            entries = [e for e in self.ledger[subject.name] if e["runId"] == f"run{self.runs}"]
            attempts = sum(entry["attempts"] for entry in entries)
            assert len(entries) <= 1
            assert attempts == sent[subject.api_key]

    def check_all_well(self, report: Report, due: set[str]) -> None:
        """Check that every good account that was due has the exchange's live key.

        This must be true after a tick with nothing down.
        """
        for subject in self.good():
            if subject.name in due:
                record = self.current[subject.name]
                live = self.world.exchange.live_key(subject.api_key, subject.product)
                assert live is not None
                assert record["listenKey"] == live
                assert record["outcome"] in SUCCESSES
                assert moment(record["expiresAt"]) > self.clock.now() + timedelta(minutes=55)
        left = {result.account_id for result in report.results if result.outcome in RETRYABLE}
        assert left <= {subject.name for subject in self.refused()}
        assert not report.trouble

    def check_announced(self) -> None:
        """Check that every change in the ledger has been announced, and nothing is left to announce."""
        told = Counter((e["detail-type"], e["detail"]["accountId"]) for e in self.aws.account_events())
        # The messages of a disabled account wait until it is enabled.
        for name in [*(subject.name for subject in self.enabled()), "badkey", "badrow", "nosecret"]:
            happened: Counter[str] = Counter()
            failing, known = False, ""
            for entry in sorted(self.ledger[name], key=lambda entry: entry["record"]):
                well = entry["outcome"] in SUCCESSES
                # Do not rely on the outcome: a run that was overtaken may have created the key.
                key = entry["listenKeyFingerprint"] if well else known
                happened["Listen Key Changed"] += key != known
                happened["Listen Key Failing"] += not well and not failing
                happened["Listen Key Recovered"] += well and failing
                failing, known = not well, key
            for kind, times in happened.items():
                assert told[kind, name] >= times, (kind, name)
                assert times or not told[kind, name], "what has not happened is not announced"
            assert "unannounced" not in self.current[name]

    # What the test knows

    fault = ""
    host_fault: Fault
    secrets = 0

    def host_is_down(self) -> bool:
        return bool(self.fault)

    def full_of_options(self) -> bool:
        return sum(subject.product == "options" for subject in self.subjects.values()) >= MOST_OPTIONS

    def one(self, data: st.DataObject) -> Subject:
        return self.subjects[data.draw(st.sampled_from(sorted(self.subjects)))]

    def enabled(self) -> list[Subject]:
        return [subject for subject in self.subjects.values() if subject.enabled]

    def good(self) -> list[Subject]:
        return [subject for subject in self.enabled() if subject.known and not subject.refused]

    def refused(self) -> list[Subject]:
        return [subject for subject in self.subjects.values() if subject.refused]

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
@pytest.mark.timeout(7200 if os.environ.get("DEEP") else 280)
def test_the_promise_holds_under_any_sequence_of_troubles(aws: LocalAws) -> None:
    WholeProgram.aws = aws
    run_state_machine_as_test(
        WholeProgram,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not os.environ.get("DEEP"),
            database=None,
            # Shrinking a failure takes minutes, so only `make test-deep` does it.
            phases=(Phase.generate, Phase.shrink) if os.environ.get("DEEP") else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
