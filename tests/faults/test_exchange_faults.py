"""Binance's faults, answered by the stand-in, and the time they take on the virtual clock."""

from __future__ import annotations

import gzip
import json
import socket
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from listenkeys.binance.client import BinanceClient
from listenkeys.errors import Transient
from listenkeys.model import iso
from listenkeys.sending.gate import MAX_ATTEMPTS
from local.aws import rules
from local.binance.exchange import PATHS
from local.binance.server import BinanceServer
from local.world import World
from simulation import world as simulation
from simulation.schedules import Schedule, default_settings
from tests.faults.matrix import (
    INCOMPLETE,
    MOST_PROBES,
    SWEEP,
    TICK,
    api_key_of,
    duration,
    events,
    kept,
    metrics,
    raised,
)
from tests.faults.sockets import BareServer, read_request
from tests.rules import Rules, Run
from tests.scene import Scene

NAMES = tuple(f"account{number:02}" for number in range(40))


def ledger_outcomes(world: World, *names: str) -> set[str]:
    return {entry["outcome"] for name in names for entry in world.ledger(name)}


def page(run: Run) -> bool:
    """Tell whether a run emits what KeyAtRiskAlarm goes off at."""
    return metrics(run.done).get("KeysAtRisk", 0.0) > 0


@pytest.mark.row(1)
def test_one_500_is_retried_within_the_run(world: Scene) -> None:
    world.live("alice")
    world.exchange.fault(status=500, times=1)
    done = world.invoke(TICK)
    assert not raised(done)
    assert kept(world, "alice")
    [entry] = world.ledger("alice")
    assert (entry["outcome"], entry["attempts"], entry["httpStatus"]) == ("EXTENDED", 2, 200)
    assert world.current("alice")["consecutiveFailures"] == 0
    emitted = metrics(done)
    assert emitted["KeysExtended"] == 1
    assert emitted["KeysFailed"] == emitted["KeysDeferred"] == emitted["KeysRejected"] == 0
    assert emitted["MinRemainingSeconds"] > 3500
    assert not world.aws.account_events()


@pytest.mark.slow
@pytest.mark.row(1)
def test_one_account_that_always_fails_is_tried_a_few_times(world: Scene) -> None:
    world.live(*NAMES)
    world.exchange.fault(status=500, api_key=api_key_of(NAMES[5]))
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    sent = [request.api_key for request in world.exchange.requests]
    assert sent.count(api_key_of(NAMES[5])) == MAX_ATTEMPTS == world.ledger(NAMES[5])[0]["attempts"]
    assert len(sent) == MAX_ATTEMPTS + len(NAMES) - 1
    assert [name for name in NAMES if world.current(name)["outcome"] != "EXTENDED"] == [NAMES[5]]


@pytest.mark.slow
@pytest.mark.row(2, 3)
@pytest.mark.parametrize(("begins", "first_sweep"), [(29.9, 0.0), (29.9, 1.7), (29.9, 4.9), (26.5, 4.9)])
def test_minutes_of_5xx_lose_no_key(world: Scene, row: int, begins: float, first_sweep: float) -> None:
    """4 minutes, and 24: the longest that end before the keys do, with a try left."""
    minutes = {2: 4, 3: 24}[row]
    world.live("alice", "bob", minutes=begins)
    first = {name: world.current(name)["listenKey"] for name in ("alice", "bob")}
    world.exchange.fault(status=503, until=world.clock.timestamp() + minutes * 60)
    runs = []
    for run in world.rules(30 - begins, first_sweep).follow(60):
        runs.append(run)
        assert kept(world, "alice"), "at every moment"
        assert kept(world, "bob"), "at every moment"
        assert not page(run) or begins + run.ended >= 45
    first_tick = next(run for run in runs if run.rule == rules.TICK)
    assert raised(first_tick.done) == INCOMPLETE  # so that Lambda tries again
    assert ledger_outcomes(world, "alice", "bob") == {"FAILED", "EXTENDED"}
    assert {name: world.current(name)["listenKey"] for name in first} == first
    # It was the sweep, or the tick's last retry: the next tick finds the key dead.
    saved = next(run for run in runs if run.ended >= minutes and metrics(run.done)["KeysExtended"])
    assert saved.rule == rules.SWEEP or saved.attempt


@pytest.mark.slow
@pytest.mark.row(4)
def test_61_minutes_down_are_alerted_in_time_and_repaired_at_their_end(world: Scene) -> None:
    world.live("alice")
    first = world.current("alice")["listenKey"]
    began = world.clock.monotonic()
    world.exchange.fault(status=503, until=world.clock.timestamp() + 61 * 60)
    runs = world.rules(sweep=2.0).go(75)
    paged = [run.ended for run in runs if page(run)]
    assert 15 <= min(paged) < 30, "the key was 30 minutes old when it began"
    down = [run for run in runs if run.began < 58]
    assert all(raised(run.done) == INCOMPLETE for run in down if run.rule == rules.TICK)
    posts = [request for request in world.exchange.requests if request.method == "POST"]
    assert [request.status for request in posts] == [200]
    assert (posts[0].at - world.clock.timestamp()) + (world.clock.monotonic() - began) >= 61 * 60
    assert kept(world, "alice")
    current = world.current("alice")
    assert current["listenKey"] != first
    assert "RECREATED" in ledger_outcomes(world, "alice")
    assert "unannounced" not in current
    [event] = events(world)
    assert (event["accountId"], event["outcome"]) == ("alice", "RECREATED")
    assert len(events(world, "Listen Key Failing")) == len(events(world, "Listen Key Recovered")) == 1
    assert not page(runs[-1]), "the page ends by itself"


@pytest.mark.row(4)
def test_an_exchange_that_is_down_gets_a_handful_of_requests(world: Scene) -> None:
    world.live(*NAMES)
    world.exchange.fault(status=503)
    done = world.variant().invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert 4 <= len(world.exchange.requests) <= MOST_PROBES
    emitted = metrics(done)
    assert emitted["KeysFailed"] + emitted["KeysDeferred"] == len(NAMES)
    assert 0 < duration(done) < 35, "no key is at risk: the next try comes in a minute"
    # Each probe is another account's: one account's trouble is not the host's.
    assert len({request.api_key for request in world.exchange.requests}) == len(world.exchange.requests)


@pytest.mark.slow
@pytest.mark.row(4)
def test_an_exchange_that_goes_down_in_mid_run_is_soon_left_alone(world: Scene) -> None:
    world.live(*NAMES)
    exchange, workers = world.exchange, 4

    def go_down(_: str) -> None:
        if exchange.count - before == 20:
            exchange.fault(status=502)

    before, exchange.hook = exchange.count, go_down
    done = world.variant(MAX_CONCURRENCY=str(workers)).invoke(TICK)
    assert raised(done) == INCOMPLETE
    failed = [request.api_key for request in exchange.requests if request.status == 502]
    assert len(failed) <= workers + MOST_PROBES
    assert max(failed.count(key) for key in failed) <= MAX_ATTEMPTS
    emitted = metrics(done)
    assert emitted["KeysExtended"] == len(exchange.requests) - len(failed)
    assert emitted["KeysExtended"] + emitted["KeysFailed"] + emitted["KeysDeferred"] == len(NAMES)
    assert all(kept(world, name) for name in NAMES)


@pytest.mark.slow
@pytest.mark.row(5)
def test_a_429_pauses_all_workers_for_as_long_as_it_says(world: Scene) -> None:
    world.live(*NAMES)
    exchange = world.exchange
    exchange.hook = lambda _: world.clock.advance(0.2)
    exchange.fault(status=429, headers={"Retry-After": "30"}, times=1, api_key=api_key_of(NAMES[10]))
    done = world.variant(MAX_CONCURRENCY="4").invoke(TICK)
    assert not raised(done)
    assert all(kept(world, name) for name in NAMES)
    [refused] = [request.at for request in exchange.requests if request.status == 429]
    # Those sent before the 429 was read still arrive, up to three of them after it was: 0.2 s each.
    times = [request.at for request in exchange.requests if request.at >= refused]
    pause, resumed = max((later - earlier, later) for earlier, later in pairwise(times))
    assert pause >= 30 - 3 * 0.2 - 0.01
    assert resumed >= refused + 30
    assert world.ledger(NAMES[10])[0]["attempts"] == 2


@pytest.mark.row(5)
def test_a_pause_that_does_not_fit_the_run_defers_the_rest(world: Scene) -> None:
    world.live(*NAMES[:5])
    world.exchange.fault(status=429, headers={"Retry-After": "290"}, times=1)
    done = world.variant().invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert len(world.exchange.requests) == 1
    emitted = metrics(done)
    assert (emitted["KeysFailed"], emitted["KeysDeferred"]) == (1, 4)
    assert duration(done) < 1, "at once: it is not waited for"


@pytest.mark.row(5)
def test_three_pauses_are_waited_out_and_no_more(world: Scene) -> None:
    world.live(*NAMES[:5])
    world.exchange.fault(status=429, headers={"Retry-After": "1"})
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert len(world.exchange.requests) == 3 + 1


@pytest.mark.row(58)
def test_a_host_that_fails_all_after_a_success_costs_no_account_its_tries(world: Scene) -> None:
    """That it has served one does not make the failures the others' own: both are tried until it is back."""
    world.live("served", minutes=1)
    world.live("risky", minutes=25)
    world.live("alice")
    for name in ("risky", "alice"):
        down_until = world.clock.timestamp() + 170
        world.exchange.fault(status=503, api_key=api_key_of(name), until=down_until)
    assert not raised(world.invoke(TICK))
    assert world.ledger("alice")[0]["attempts"] > MAX_ATTEMPTS
    assert kept(world, "alice")
    assert kept(world, "risky")


@pytest.mark.slow
@pytest.mark.row(6)
@pytest.mark.parametrize(
    "retry_after",
    [None, "", "-5", "soon", "99999999", "1e9", "12.5", "Wed, 21 Oct 2026 07:28:00 GMT"],
)
def test_a_429_that_does_not_say_for_how_long_ends_the_run(world: Scene, retry_after: str | None) -> None:
    world.live(*NAMES[:5])
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    world.exchange.fault(status=429, headers=headers, times=1)
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert len(world.exchange.requests) == 1
    assert "4 DEFERRED RATE_LIMITED" in str(done.error)
    emitted = metrics(done)
    assert (emitted["KeysFailed"], emitted["KeysDeferred"]) == (1, 4)
    assert duration(done) < 300
    world.clock.advance(minutes=1)
    assert not raised(world.invoke(TICK))
    assert all(kept(world, name) for name in NAMES[:5])


@pytest.mark.row(7, 8, 9)
def test_a_refusal_of_the_address_costs_a_request_or_two_a_run(world: Scene, row: int) -> None:
    """A 403 may be one account's: two are asked for. Its page is not repeated."""
    status, asked, code = {
        7: (418, 1, "IP_BANNED"), 8: (403, 2, "WAF_BLOCKED"), 9: (451, 1, "RESTRICTED_LOCATION"),
    }[row]  # fmt: skip
    world.live(*NAMES[:10], minutes=34)
    world.exchange.fault(status=status)
    for event in (TICK, TICK, SWEEP):
        done = world.invoke(event)
        assert len({request.api_key for request in world.exchange.requests}) == asked
        assert len(world.exchange.requests) == asked
        assert raised(done) == (INCOMPLETE if event == TICK else "")
        assert (metrics(done)["KeysFailed"], metrics(done)["KeysDeferred"]) == (asked, 10 - asked)
        told = done.output + str(done.error) + json.dumps([world.records(name) for name in NAMES[:10]])
        assert code in told
        for words in ("cloudfront", "request blocked", "<h"):
            assert words not in told.lower()
        world.exchange.requests.clear()
        world.clock.advance(minutes=1)
    assert len(events(world, "Listen Key Failing")) >= 1
    world.exchange.clear_faults()
    assert not raised(world.invoke(TICK))
    assert all(kept(world, name) for name in NAMES[:10])


@pytest.mark.row(7)
def test_a_ban_in_mid_run_ends_it_and_the_next_run_sends_one_probe(world: Scene) -> None:
    for name in NAMES[:20]:
        world.live(name, minutes=0.01)
    world.clock.advance(minutes=30)
    ban = world.exchange.fault(status=418, api_key=api_key_of(NAMES[10]))
    function = world.variant(MAX_CONCURRENCY="1")
    done = function.invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert "IP_BANNED" in str(done.error)
    assert [request.status for request in world.exchange.requests] == [200] * 10 + [418]
    emitted = metrics(done)
    assert [emitted[f"Keys{what}"] for what in ("Extended", "Failed", "Deferred")] == [10, 1, 9]
    ban.clear()
    world.exchange.fault(status=418)
    assert raised(world.variant(MAX_CONCURRENCY="16").invoke(TICK)) == INCOMPLETE
    assert len(world.exchange.requests) == 12


@pytest.mark.row(6)
def test_a_429_that_says_zero_seconds_pauses_for_one(world: Scene) -> None:
    world.live(*NAMES[:5])
    world.exchange.fault(status=429, headers={"Retry-After": "0"}, times=1)
    assert not raised(world.invoke(TICK))
    first, second, *_ = [request.at for request in world.exchange.requests]
    assert second == first + 1


@pytest.mark.slow
@pytest.mark.row(52)
def test_an_account_that_the_firewall_refuses_never_costs_another_its_key(world: Scene) -> None:
    refused, *others = NAMES[:20]
    world.live(refused, minutes=0.1)  # the first to expire: every run would begin with it
    world.live(*others)
    world.exchange.fault(status=403, api_key=api_key_of(refused))
    for run in world.rules(sweep=2.5).follow(180):
        assert all(kept(world, name) for name in others), "at every moment"
        assert metrics(run.done)["KeysDeferred"] == 0
        of_refused = [r for r in world.exchange.requests if r.api_key == api_key_of(refused)]
        assert len(of_refused) <= MAX_ATTEMPTS, "it is not pressed, either"
        world.exchange.requests.clear()
    assert ledger_outcomes(world, *others) == {"EXTENDED"}
    assert ledger_outcomes(world, refused) == {"FAILED"}
    assert {entry["errorCode"] for entry in world.ledger(refused)} == {"WAF_BLOCKED"}
    assert world.current(refused)["consecutiveFailures"] == len(world.ledger(refused)) > 6


@pytest.mark.slow
@pytest.mark.row(52)
def test_two_accounts_that_the_firewall_refuses_cost_no_other_key(world: Scene) -> None:
    """A run that begins with both of them stops; the next must not begin with both again."""
    refused, others = NAMES[:2], NAMES[2:20]
    world.live(*refused, minutes=0.1)
    world.live(*others)
    for name in refused:
        world.exchange.fault(status=403, api_key=api_key_of(name))
    for _ in world.rules(sweep=2.5).follow(180):
        assert all(kept(world, name) for name in others), "at every moment"


@pytest.mark.row(10, 14)
def test_a_forgotten_or_changed_key_is_recorded_and_announced(world: Scene, row: int) -> None:
    """Forgotten: with exactly one POST."""
    change, outcome, sent = {
        10: (world.exchange.expire, "RECREATED", [("PUT", 400), ("POST", 200)]),
        14: (world.exchange.rotate, "CHANGED", [("PUT", 200)]),
    }[row]
    world.live("alice", "bob")
    first = world.current("alice")["listenKey"]
    change(api_key_of("alice"), "usdm")
    done = world.invoke(TICK)
    assert not raised(done)
    of_alice = [r for r in world.exchange.requests if r.api_key == api_key_of("alice")]
    assert [(request.method, request.status) for request in of_alice] == sent
    assert kept(world, "alice")
    assert kept(world, "bob")
    current = world.current("alice")
    assert current["outcome"] == outcome
    assert current["listenKey"] != first
    assert current["listenKeyChangedAt"] == current["renewedAt"]
    [entry] = world.ledger("alice")
    assert (entry["outcome"], entry["attempts"]) == (outcome, len(sent))
    assert metrics(done)["KeysChanged"] == 1
    [event] = events(world)
    assert (event["accountId"], event["outcome"]) == ("alice", outcome)


@pytest.mark.row(11)
@pytest.mark.parametrize("status", [500, 429, 418, 401])
def test_a_post_that_fails_leaves_the_recorded_key(world: Scene, status: int) -> None:
    world.live("alice")
    before = world.current("alice")
    world.exchange.expire(api_key_of("alice"), "usdm")
    world.exchange.fault(status=status, method="POST")
    done = world.invoke(TICK)
    after = world.current("alice")
    assert [r.method for r in world.exchange.requests] == ["PUT", "POST"]
    assert after["outcome"] == ("REJECTED" if status == 401 else "FAILED")
    assert raised(done) == ("" if status == 401 else INCOMPLETE)
    for unchanged in ("listenKey", "renewedAt", "expiresAt", "listenKeyChangedAt"):
        assert after[unchanged] == before[unchanged]
    assert after["consecutiveFailures"] == 1
    [entry] = world.ledger("alice")
    assert (entry["outcome"], entry["attempts"]) == (after["outcome"], 2)


@pytest.mark.row(12)
def test_a_key_that_must_not_be_replaced_is_dead_once_binance_says_so(world: Scene) -> None:
    world.live("alice", createIfMissing=False)
    world.exchange.expire(api_key_of("alice"), "usdm")
    died = iso(world.clock.now())
    done = world.invoke(TICK)
    assert done.report
    assert [problem["expiresAt"] for problem in done.report["problems"]] == [died]
    assert [entry["expiresAt"] for entry in world.ledger("alice")] == [died]
    assert metrics(done)["KeysAtRisk"] == 1
    world.clock.advance(minutes=5)
    assert metrics(world.invoke(SWEEP))["KeysAtRisk"] == 1


@pytest.mark.slow
@pytest.mark.row(12)
def test_a_key_that_is_never_there_is_posted_for_at_most_once_a_run(world: Scene) -> None:
    world.live("alice", "bob")
    key = world.current("alice")["listenKey"]
    world.exchange.fault(code=-1125, status=400, api_key=api_key_of("alice"))
    runs = 0
    for run in world.rules(sweep=2.0).follow(60):
        runs += 1
        sent = [request.method for request in world.exchange.requests]
        assert sent.count("POST") <= 1
        assert metrics(run.done)["KeysFailed"] <= 1
        world.exchange.requests.clear()
        assert kept(world, "bob")
    assert runs > 12
    assert world.current("alice")["listenKey"] == key
    assert world.current("alice")["outcome"] == "FAILED"
    assert world.current("alice")["errorCode"] == "LISTEN_KEY_NOT_FOUND"


@pytest.mark.row(13)
@pytest.mark.parametrize("code", [-2014, -2015])
def test_one_bad_api_key_does_not_stop_the_others(world: Scene, code: int) -> None:
    world.live(*NAMES[:10])
    key = world.current(NAMES[3])["listenKey"]
    world.exchange.fault(status=401, code=code, api_key=api_key_of(NAMES[3]))
    done = world.invoke(TICK)
    assert not raised(done), "nothing that Lambda's retries could mend"
    sent = [request.api_key for request in world.exchange.requests]
    assert sorted(sent) == sorted(map(api_key_of, NAMES[:10])), "each once: no retry"
    assert [name for name in NAMES[:10] if world.current(name)["outcome"] != "EXTENDED"] == [NAMES[3]]
    current = world.current(NAMES[3])
    assert (current["outcome"], current["errorCode"]) == ("REJECTED", "INVALID_API_KEY")
    assert current["listenKey"] == key
    assert world.ledger(NAMES[3])[0]["attempts"] == 1
    assert metrics(done)["KeysRejected"] == 1
    [event] = events(world, "Listen Key Failing")
    assert event["accountId"] == NAMES[3]


@pytest.mark.row(54)
@pytest.mark.parametrize("event", [TICK, SWEEP], ids=["tick", "sweep"])
def test_a_row_whose_product_changed_gets_the_key_of_the_new_ones_stream(
    world: Scene, event: dict[str, Any]
) -> None:
    """The new product's stream is already alive, started by its bots; the old one's lives on."""
    rows = {"carol": "coinm", "paul": "portfolio", "olga": "options"}
    world.live(*rows, minutes=34)
    for name, product in rows.items():
        world.exchange.handle("POST", PATHS[product], {"X-MBX-APIKEY": api_key_of(name)})
        world.put_row(name, product=product)
    assert not raised(world.invoke(event))
    for name, product in rows.items():
        assert kept(world, name, product)
        current = world.current(name)
        assert (current["outcome"], current["product"]) == ("CHANGED", product)
        assert current["listenKeyChangedAt"] == current["renewedAt"]
    told = [(event["accountId"], event["product"], event["outcome"]) for event in events(world)]
    assert sorted(told) == sorted((*row, "CHANGED") for row in rows.items())
    world.clock.advance(minutes=30)
    world.invoke(TICK)
    assert {world.current(name)["outcome"] for name in rows} == {"EXTENDED"}
    assert len(events(world)) == len(rows)


@pytest.mark.row(55)
@pytest.mark.parametrize("alive", [True, False], ids=["its stream alive", "without a stream"])
def test_a_secret_of_another_account_gets_that_accounts_listen_key(world: Scene, alive: bool) -> None:
    for product in PATHS:
        world.live(product, minutes=0, product=product)
    first = {product: world.current(product)["listenKey"] for product in PATHS}
    world.clock.advance(minutes=30)
    for product in PATHS:
        other = api_key_of(f"{product}2")
        world.exchange.add_account(other)
        if alive:
            world.exchange.handle("POST", PATHS[product], {"X-MBX-APIKEY": other})
        world.put_secret(f"listenkeys/{product}", {"apiKey": other})
    assert not raised(world.invoke(TICK))
    outcome = "CHANGED" if alive else "RECREATED"
    for product in PATHS:
        current = world.current(product)
        live = world.exchange.live_key(api_key_of(f"{product}2"), product)
        assert current["listenKey"] == live != first[product]
        assert current["outcome"] == world.ledger(product)[0]["outcome"] == outcome
    told = sorted((event["accountId"], event["outcome"]) for event in events(world))
    assert told == sorted((product, outcome) for product in PATHS)


@pytest.mark.row(15)
@pytest.mark.parametrize("create", [True, False])
def test_a_put_answered_with_nothing_is_followed_by_a_post(world: Scene, create: bool) -> None:
    """The PUT has shown that there is a key: the POST makes none, whatever createIfMissing says."""
    world.live("alice", createIfMissing=create)
    key = world.current("alice")["listenKey"]
    world.exchange.fault("after", status=200, body="{}", method="PUT")
    done = world.invoke(TICK)
    assert not raised(done)
    assert [request.method for request in world.exchange.requests] == ["PUT", "POST"]
    assert kept(world, "alice")
    current = world.current("alice")
    assert (current["outcome"], current["listenKey"]) == ("EXTENDED", key)
    assert world.ledger("alice")[0]["attempts"] == 2
    assert not events(world)


@pytest.mark.row(15)
@pytest.mark.parametrize("forgotten", [False, True])
def test_a_post_answered_with_nothing_is_a_failure(world: Scene, forgotten: bool) -> None:
    if forgotten:
        world.live("alice")
        world.exchange.expire(api_key_of("alice"), "usdm")
    else:
        world.add_account("alice", api_key_of("alice"))
    before = world.current("alice")
    world.exchange.fault(status=200, body="{}", method="POST")
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert [request.method for request in world.exchange.requests] == ["PUT", "POST"]
    current = world.current("alice")
    assert (current["outcome"], current["errorCode"]) == ("FAILED", "BAD_RESPONSE")
    assert [current.get(name) for name in ("listenKey", "expiresAt")] == [
        before.get(name) for name in ("listenKey", "expiresAt")
    ]
    assert len(world.ledger("alice")) == 1


@pytest.mark.row(16)
@pytest.mark.parametrize(
    "body",
    [b"", b"not JSON", b"\xff\xfe\x00", b"[" * 60_000, b'{"listenKey": "NeverClosed0123456789', b"no gzip"],
    ids=lambda body: f"{body[:20]!r}",
)
def test_an_answer_that_makes_no_sense_is_a_failure(world: Scene, body: bytes) -> None:
    world.live("alice")
    before = world.current("alice")
    headers = {"Content-Encoding": "gzip" if body == b"no gzip" else "identity"}
    world.exchange.fault(status=200, body=body, headers=headers)
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    after = world.current("alice")
    assert (after["outcome"], after["errorCode"]) == ("FAILED", "BAD_RESPONSE")
    assert [after[name] for name in ("listenKey", "expiresAt")] == [
        before[name] for name in ("listenKey", "expiresAt")
    ]
    assert world.ledger("alice")[0]["attempts"] == len(world.exchange.requests) <= MOST_PROBES
    for piece in ("NeverClosed", "not JSON", "xxxxx"):
        assert piece not in done.output + str(done.error) + json.dumps(world.records("alice"))


@pytest.mark.row(16)
def test_a_truncated_answer_is_tried_again(world: Scene) -> None:
    world.live("alice")
    world.exchange.fault("truncate", times=2, effect=True)
    done = world.invoke(TICK)
    assert not raised(done)
    assert kept(world, "alice")
    assert world.ledger("alice")[0]["attempts"] == 3
    world.exchange.fault("truncate")
    world.clock.advance(minutes=30)
    done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert world.current("alice")["outcome"] == "FAILED"


@pytest.mark.row(16)
def test_a_compressed_bomb_is_not_unpacked(world: Scene) -> None:
    world.live("alice")
    size = 64 * 1024 * 1024
    bomb = gzip.compress(b" " * size, 9)
    world.exchange.fault(status=200, body=bomb, headers={"Content-Encoding": "gzip"}, times=2)
    client = BinanceClient(world.clock.now, world.binance_url)
    tracemalloc.start()
    try:
        with pytest.raises(Transient, match="makes no sense"):
            client.keepalive("usdm", api_key_of("alice"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size / 8
    assert not raised(world.invoke(TICK))
    assert world.ledger("alice")[0]["attempts"] == 2
    assert kept(world, "alice")


@pytest.mark.row(16)
def test_an_endless_answer_is_not_read_to_its_end(world: Scene) -> None:
    sent = 0

    def pour(connection: socket.socket) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n{")
        while sent < 64 * 1024 * 1024:
            sent += connection.send(b" " * 65536)

    world.live("alice")
    key = world.current("alice")["listenKey"]
    with BareServer(pour) as endless:
        world.use(binance=BinanceClient(world.clock.now, endless.url))
        assert raised(world.invoke(TICK)) == INCOMPLETE
        assert endless.accepted <= MOST_PROBES
    assert sent < endless.accepted * 16 * 1024 * 1024, "what sockets hold, and little more"
    current = world.current("alice")
    assert (current["outcome"], current["errorCode"]) == ("FAILED", "BAD_RESPONSE")
    assert current["listenKey"] == key


@pytest.mark.row(16)
@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_an_answer_that_repeats_the_keys_is_not_repeated(world: Scene, status: int) -> None:
    world.live("alice")
    said = f"no such key {api_key_of('alice')} for {world.current('alice')['listenKey']}, try another"
    world.exchange.fault(status=status, code=-4000, msg=said)
    done = world.invoke(TICK)  # which is searched for keys
    assert "no such key ***" in done.output
    assert "no such key ***" in world.current("alice")["errorMessage"]


@pytest.mark.row(17)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(world: Scene, status: int) -> None:
    world.live("alice")
    key = world.current("alice")["listenKey"]
    with BinanceServer() as elsewhere:
        elsewhere.exchange.add_account(api_key_of("alice"))
        location = {"Location": elsewhere.url + PATHS["usdm"]}
        world.exchange.fault("redirect", status=status, headers=location)
        done = world.invoke(TICK)
        assert not elsewhere.exchange.requests
    assert raised(done) == INCOMPLETE
    current = world.current("alice")
    assert (current["outcome"], current["listenKey"]) == ("FAILED", key)
    assert metrics(done)["KeysFailed"] == 1


@pytest.mark.slow
@pytest.mark.row(58)
@pytest.mark.parametrize("revoked", [False, True], ids=["alone", "beside a revoked account"])
@pytest.mark.parametrize(("minutes", "renew_after"), [(25, 30), (45, 10)])
@pytest.mark.parametrize("first_sweep", [0.1, 4.9])
def test_an_outage_of_the_promised_length_costs_no_key(
    world: Scene, revoked: bool, minutes: int, renew_after: int, first_sweep: float
) -> None:
    """It begins a moment before the key would have been renewed."""
    if revoked:
        world.live("revoked", minutes=0.1)  # the first to expire
        world.exchange.revoke(api_key_of("revoked"))
    world.live("alice", minutes=30 if renew_after == 30 else 11)
    down_until = world.clock.timestamp() + 60 * minutes
    world.exchange.fault(status=503, api_key=api_key_of("alice"), until=down_until)
    function = world.variant(RENEW_AFTER_MINUTES=str(renew_after))
    for _ in Rules(world, function.invoke, world.clock, 0.0, first_sweep).follow(minutes + 10):
        assert kept(world, "alice"), "at every moment"
    assert world.current("alice")["outcome"] == "EXTENDED"


@pytest.mark.slow
@pytest.mark.row(46)
def test_ten_thousand_accounts_keep_the_cap_the_soonest_to_expire_first() -> None:
    """With ticks, their retries and sweeps; the first of them create the keys."""
    cap, simulated = 1200, simulation.World(10_000, [], "seed", latency=0.001)
    simulated.exchange.renewals = []
    schedule = Schedule("capped", replace(default_settings(), max_weight_per_minute=cap))
    schedule.play(simulated, 45 * 60)
    in_minute = simulated.wire.in_minute
    assert max(in_minute.values()) == cap
    assert [in_minute[minute] for minute in range(30, 39)] == [cap] * 8 + [10_000 - 8 * cap]
    before = {key: at for at, key in simulated.exchange.renewals if at < 30 * 60}
    sent = [key for at, key in simulated.exchange.renewals if at >= 30 * 60]
    assert [before[key] for key in sent] == sorted(before.values())
    assert simulated.lapses() == []


@pytest.mark.row(98)
def test_nothing_more_goes_out_in_a_minute_near_the_addresss_limit(world: Scene) -> None:
    """Not even what had been admitted: a bot on the same address would get the 429."""
    world.live(*NAMES)
    exchange, workers = world.exchange, 4

    def nearly_full(_: str) -> None:
        if exchange.count - before == 10:
            exchange._usage["futures"].weight[int(minute)] += 2280

    before, minute = exchange.count, world.clock.timestamp() // 60
    exchange.hook = nearly_full
    assert not raised(world.variant(MAX_CONCURRENCY=str(workers)).invoke(TICK))
    in_it = sum(request.at // 60 == minute for request in exchange.requests)
    assert 10 <= in_it <= 10 + 2 * workers, "what was under way"
    assert all(kept(world, name) for name in NAMES)
