"""The process's faults: two at once, killed, out of time, misconfigured, buggy, with a clock that jumps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest

from listenkeys.binance.answers import Answer
from listenkeys.binance.client import BinanceClient
from listenkeys.errors import SettingsError
from listenkeys.model import iso
from listenkeys.report import Report
from listenkeys.trigger import Trigger
from local.invoke import Context, Invocation, LocalFunction
from local.world import World
from tests.faults.matrix import (
    INCOMPLETE,
    SWEEP,
    TICK,
    TWENTY,
    api_key_of,
    kept,
    metrics,
    raised,
)
from tests.rules import Rules
from tests.scene import Scene
from tests.waiting import SECONDS, eventually


def add_one_by_one(world: Scene, *names: str) -> None:
    """Add accounts of which each was renewed a second before the next, half an hour ago."""
    for name in names:
        world.live(name, minutes=1 / 60)
    world.clock.advance(minutes=30)


class Running(threading.Thread):
    """A run of a function of its own, in a thread: what another execution environment would do."""

    def __init__(self, function: LocalFunction, run_id: str, event: Any = TICK) -> None:
        super().__init__(daemon=True)
        self._keeper = function.app.keeper
        self._run_id, self._trigger = run_id, Trigger.from_event(event)
        self.report: Report | None = None
        self.start()

    def run(self) -> None:
        self.report = self._keeper.run(self._trigger, self._run_id, 300.0)

    def ended(self) -> Report:
        self.join(SECONDS)
        assert self.report, "the run has not ended"
        return self.report


@pytest.mark.row(36)
def test_two_runs_at_once_are_harmless(world: Scene) -> None:
    world.live(*TWENTY)
    world.add_account("new", api_key_of("new"))
    world.exchange.expire(api_key_of(TWENTY[7]), "usdm")
    both = threading.Barrier(2)
    met: list[str] = []

    def meet(api_key: str) -> None:
        if len(met) < 2:
            met.append(api_key)
            both.wait(SECONDS)  # each has read its accounts and records, and none has written

    world.exchange.hook = meet
    # Of two ticks one would wait for the other's minutes, which pass at once here, until that is out of time.
    runs = [Running(world.variant(), "tick"), Running(world.variant(), "a person's", {})]
    reports = [run.ended() for run in runs]
    assert [report.incomplete() for report in reports] == [None, None]
    assert [report.accounts for report in reports] == [21, 21]
    for name in (*TWENTY, "new"):
        assert kept(world, name)
        assert world.current(name)["consecutiveFailures"] == 0
        assert 1 <= len(world.ledger(name)) <= 2
    posts = [request for request in world.exchange.requests if request.method == "POST"]
    assert len(posts) <= 4, "one for each account without a key, and run"


@pytest.mark.row(36)
def test_the_later_request_wins_whoever_writes_last(world: Scene) -> None:
    world.live("alice")
    held, release = threading.Event(), threading.Event()

    def hold_the_first(_: str) -> None:
        if not held.is_set():
            held.set()
            release.wait(SECONDS)

    world.exchange.hook = hold_the_first
    earlier = Running(world.variant(), "earlier")
    assert held.wait(SECONDS)
    sent_later = world.clock.advance(minutes=1) or world.clock.now()
    later = Running(world.variant(), "later").ended()
    recorded = world.current("alice")
    release.set()
    assert earlier.ended().incomplete() is None
    assert later.incomplete() is None
    assert world.current("alice") == recorded, "the earlier one came too late to write"
    assert [entry["runId"] for entry in world.ledger("alice")] == ["earlier", "later"]
    assert world.current("alice")["renewedAt"] == iso(sent_later)
    assert world.current("alice")["runId"] == "later"
    assert kept(world, "alice")


@pytest.mark.row(38)
@pytest.mark.parametrize("late", [timedelta(minutes=20), timedelta(days=1)], ids=str)
def test_a_late_tick_renews_only_what_is_due(world: Scene, late: timedelta) -> None:
    world.live("old", minutes=18)
    world.live("fresh", minutes=2)
    event = {**TICK, "time": iso(world.clock.now() - late), "id": "1", "resources": ["a rule"]}
    done = world.invoke(event)
    assert not raised(done)
    assert [request.api_key for request in world.exchange.requests] == [api_key_of("old")]
    assert done.report
    assert (done.report["extended"], done.report["skipped"]) == (1, 1)
    world.invoke(event)
    assert len(world.exchange.requests) == 1, "delivered twice, done once"


@pytest.mark.row(38)
def test_a_late_sweep_renews_only_what_is_overdue(world: Scene) -> None:
    world.live("overdue", minutes=16)
    world.live("old", minutes=18)
    world.invoke(SWEEP)
    assert [request.api_key for request in world.exchange.requests] == [api_key_of("overdue")]


@pytest.mark.row(38)
def test_ticks_that_are_all_20_minutes_late_lose_no_key(world: Scene) -> None:
    world.live("alice")
    for _ in world.rules(tick=20.0, sweep=2.0).follow(120):
        assert kept(world, "alice")
    assert len(world.exchange.requests) <= 8, "the sweep helps out, it does not renew all the time"
    assert {entry["outcome"] for entry in world.ledger("alice")} == {"EXTENDED"}


@pytest.mark.row(39)
def test_a_run_stops_starting_before_lambda_stops_it(world: Scene) -> None:
    add_one_by_one(world, *reversed(TWENTY))
    world.exchange.hook = lambda _: world.clock.advance(seconds=1)
    function = world.variant(MAX_CONCURRENCY="1")
    began = world.clock.monotonic()
    done = function.invoke(TICK, Context(remaining_seconds=40))
    assert world.clock.monotonic() - began < 15, "nothing starts in the last 30 seconds"
    assert raised(done) == INCOMPLETE
    assert "DEFERRED DEADLINE" in str(done.error)
    sent = [request.api_key for request in world.exchange.requests]
    assert 5 <= len(sent) <= 12
    assert sent == [api_key_of(name) for name in reversed(TWENTY)][: len(sent)], "soonest to expire first"
    renewed = [name for name in TWENTY if world.current(name)["runId"] != "earlier"]
    assert sorted(map(api_key_of, renewed)) == sorted(sent), "what was done is recorded"
    assert metrics(done)["KeysDeferred"] == len(TWENTY) - len(sent)
    world.clock.advance(minutes=1)
    assert not raised(function.invoke(TICK))
    after = [request.api_key for request in world.exchange.requests][len(sent) :]
    assert after == [api_key_of(name) for name in reversed(TWENTY)][len(sent) :]
    assert all(kept(world, name) for name in TWENTY)


@pytest.mark.row(39)
def test_a_run_without_time_starts_nothing_and_says_so(world: Scene) -> None:
    world.live(*TWENTY)
    world.clock.advance(seconds=1)
    done = world.invoke(TICK, Context(remaining_seconds=20))
    assert raised(done) == INCOMPLETE
    assert not world.exchange.requests
    assert metrics(done)["KeysDeferred"] == len(TWENTY)


KILLED = """
import os, sys
from datetime import datetime
from local.clock import ScaledClock, VirtualClock
from local.invoke import LocalFunction
function = LocalFunction(dict(os.environ), VirtualClock(datetime.fromisoformat(sys.argv[1])).clock)
function.invoke({"source": "aws.events", "detail-type": "Scheduled Event"})
"""


@pytest.mark.slow
@pytest.mark.row(40)
def test_what_a_killed_run_recorded_stands_and_the_retry_does_the_rest(world: Scene) -> None:
    names = [f"account{number:02}" for number in range(60)]
    add_one_by_one(world, *names)
    held, release = threading.Event(), threading.Event()

    def hold(api_key: str) -> None:
        if held.is_set() or api_key == api_key_of(names[56]):
            held.set()  # and what is sent when this one has timed out
            release.wait(2 * SECONDS)

    world.exchange.hook = hold
    path = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, world.clock.now().isoformat()],
        env={**os.environ, **world.environment(), "MAX_CONCURRENCY": "1", "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )
    try:
        assert held.wait(SECONDS)
        eventually(lambda: len(renewed_names(world, names)) >= 50)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        release.set()
    renewed = renewed_names(world, names)
    assert 50 <= len(renewed) < 57
    for name in renewed:
        assert kept(world, name)
        [entry] = world.ledger(name)
        assert (entry["outcome"], entry["record"]) == ("EXTENDED", world.current(name)["attemptedAt"])
    assert not any(world.ledger(name) for name in names if name not in renewed)

    world.exchange.requests.clear()
    world.exchange.hook = None
    world.clock.advance(minutes=1)
    assert not raised(world.variant().invoke(TICK))
    sent = {request.api_key for request in world.exchange.requests}
    rest = {api_key_of(name) for name in names if name not in renewed}
    assert rest <= sent <= rest | {api_key_of(names[56])}
    assert all(kept(world, name) for name in names)


def renewed_names(world: World, names: list[str]) -> list[str]:
    table = world.aws.outputs["ListenKeysTableName"]
    items = world.aws.client("dynamodb").scan(TableName=table)["Items"]
    renewed = {
        item["accountId"]["S"] for item in items if item.get("runId", {"S": "earlier"})["S"] != "earlier"
    }
    return [name for name in names if name in renewed]


@pytest.mark.row(41)
def test_a_bug_in_one_worker_is_isolated(world: Scene) -> None:
    world.live(*TWENTY)

    class Buggy(BinanceClient):
        def keepalive(self, product: str, api_key: str) -> Answer:
            if api_key == api_key_of(TWENTY[4]):
                carried = {"headers": {"X-MBX-APIKEY": api_key}}
                raise ValueError(f"cannot make sense of {carried}")
            return super().keepalive(product, api_key)

    world.use(binance=Buggy(world.clock.now, world.binance_url))
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    outcomes = {name: world.current(name)["outcome"] for name in TWENTY}
    assert outcomes == {name: "FAILED" if name == TWENTY[4] else "EXTENDED" for name in TWENTY}
    [entry] = world.ledger(TWENTY[4])
    assert (entry["errorCode"], entry["attempts"]) == ("INTERNAL", 1)
    assert "ValueError at test_process_faults.py:" in entry["errorMessage"]
    assert "keepalive" in entry["errorMessage"], "where it happened"
    for said in (done.output, str(done.error), entry["errorMessage"]):
        assert "cannot make sense" not in said
        assert api_key_of(TWENTY[4]) not in said
    assert kept(world, TWENTY[4])
    assert metrics(done)["KeysFailed"] == 1


@pytest.mark.row(41)
def test_a_bug_around_the_wire_is_not_taken_for_an_answer(
    world: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.live("alice")

    def send(*_: Any, **__: Any) -> Any:
        raise TypeError("a bug")

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    [entry] = world.ledger("alice")
    assert (entry["errorCode"], entry["attempts"]) == ("INTERNAL", 1)


@pytest.mark.row(41)
def test_a_bug_that_meets_every_account_ends_after_one_try_each(world: Scene) -> None:
    world.live(*TWENTY)
    tries: list[str] = []

    class Buggy(BinanceClient):
        def keepalive(self, product: str, api_key: str) -> Answer:
            tries.append(api_key)
            raise KeyError(api_key)

    world.use(binance=Buggy(world.clock.now, world.binance_url))
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert metrics(done)["KeysFailed"] == len(TWENTY)
    assert sorted(tries) == sorted(map(api_key_of, TWENTY))


@pytest.mark.row(42)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCOUNTS_TABLE", None),
        ("LISTEN_KEYS_TABLE", " "),
        ("SWEEP_EXPRESSION", "cron(0/5 * * * ? *)"),
        ("RENEW_AFTER_MINUTES", "39"),  # with a sweep every 8 minutes: no second attempt
        ("BINANCE_BASE_URL", "https://["),
        ("BINANCE_BASE_URL", "http://someone:CanaryPassword@fapi.binance.com"),
        ("MAX_CONCURRENCY", "sixteen"),
    ],
)
def test_a_nonsensical_environment_is_refused_at_the_start_in_one_line(
    world: Scene, name: str, value: str | None
) -> None:
    variables = {**world.environment()}
    del variables[name]
    if value is not None:
        variables[name] = value
    with pytest.raises(SettingsError) as refused:
        LocalFunction(variables, world.clock.clock)
    said = str(refused.value)
    assert name in said
    assert "\n" not in said
    assert "Canary" not in said
    assert len(said) < 200
    assert refused.value.__cause__ is None
    assert not world.exchange.requests


@pytest.mark.slow
@pytest.mark.row(43)
@pytest.mark.parametrize("first", [600.0, -600.0])
def test_a_clock_that_jumps_ten_minutes_between_runs_loses_no_key(world: Scene, first: float) -> None:
    world.live("alice")
    key = world.current("alice")["listenKey"]
    jumps = {20: first, 50: -first, 80: -first, 110: first}

    def invoke(event: Any, context: Context) -> Invocation:
        passed = (world.clock.monotonic() - began) / 60
        for minute in [minute for minute in jumps if minute <= passed]:
            world.clock.jump(jumps.pop(minute))
        return world.invoke(event, context)

    began = world.clock.monotonic()
    for run in Rules(world, invoke, world.clock, sweep=2.0).follow(180):
        assert not raised(run.done)
        assert world.exchange.live_key(api_key_of("alice"), "usdm") == key
    assert not jumps
    assert kept(world, "alice")
    assert world.current("alice")["outcome"] == "EXTENDED"
    assert {entry["outcome"] for entry in world.ledger("alice")} == {"EXTENDED"}
    assert len(world.exchange.requests) < 40, "a wrong clock does not make it hammer"


@pytest.mark.slow
@pytest.mark.row(43)
@pytest.mark.parametrize("jump", [600.0, -600.0])
def test_deadlines_and_pauses_do_not_heed_the_wall_clock(world: Scene, jump: float) -> None:
    add_one_by_one(world, *TWENTY)
    exchange = world.exchange

    def hook(api_key: str) -> None:
        world.clock.advance(seconds=1)
        if api_key in map(api_key_of, TWENTY[2:4]):
            world.clock.jump(jump)

    exchange.hook = hook
    exchange.fault(status=429, headers={"Retry-After": "30"}, api_key=api_key_of(TWENTY[3]), times=1)
    function = world.variant(MAX_CONCURRENCY="1")
    done = function.invoke(TICK, Context(remaining_seconds=75))
    ats = [request.at for request in exchange.requests]
    [refused] = [number for number, request in enumerate(exchange.requests) if request.status == 429]
    assert 30 <= ats[refused + 1] - ats[refused] <= 32, "the pause is 30 seconds of true time"
    # 45 s of work: 4 requests, the pause, and what fits behind it.
    assert 12 <= len(ats) <= 17
    assert raised(done) == INCOMPLETE
    renewed = renewed_names(world, list(TWENTY))
    assert len(renewed) == len(ats) - 1


@pytest.mark.row(43)
def test_a_record_of_a_clock_that_was_ahead_is_not_believed(world: Scene) -> None:
    world.live("alice")
    key = world.current("alice")["listenKey"]
    world.clock.jump(50 * 60)
    assert not raised(world.invoke(TICK))
    world.clock.jump(-50 * 60)
    for run in world.rules(tick=30.0, sweep=2.0).follow(90):
        assert not raised(run.done)
        assert world.exchange.live_key(api_key_of("alice"), "usdm") == key
    assert kept(world, "alice")
    assert len(world.exchange.requests) <= 20, "at each sweep, until the time that was recorded has come"
