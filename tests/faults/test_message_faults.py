"""Messages that say what is true, name whom it concerns, and come once: rows 75 to 78."""

from __future__ import annotations

import re
from typing import Any

import pytest

from local.aws.rules import TICK as TICK_RULE
from tests.faults.matrix import SWEEP, TICK, api_key_of, events, kept
from tests.faults.refusals import Refusals
from tests.faults.test_questions import question
from tests.integration.alarms import ALARM, OK
from tests.integration.watched import Watched
from tests.scene import Scene

AT_RISK, MISSED_TICKS, UNDELIVERED = "KeyAtRiskAlarm", "MissedTicksAlarm", "UndeliveredAlarm"
MAIL, CHAT = "AlarmTopic", "Webhook"
pytestmark = pytest.mark.usefixtures("botocore_sleeps")


def told(watched: Watched, *places: str) -> list[str]:
    """Return the texts that arrived there, oldest first."""
    return [message.text for message in watched.messages if message.to in places]


@pytest.mark.slow
@pytest.mark.row(75)
@pytest.mark.parametrize("end", ["a person repairs the key", "a person disables the row"])
@pytest.mark.parametrize("outage", [False, True], ids=["alone", "and Binance is down for an hour"])
def test_an_alarm_stays_on_while_an_enabled_account_has_no_live_key(
    watched: Watched, end: str, outage: bool
) -> None:
    watched.go(60)
    watched.world.exchange.revoke(api_key_of("bob"))
    watched.go(100)
    if outage:
        fault = watched.world.exchange.fault(status=503)
        watched.go(60)
        fault.clear()
    watched.go(60)

    assert [state for _, state in watched.alarms[AT_RISK].mails] == [OK, ALARM]  # the first ended the warm-up
    last = watched.rules.runs[-1].done.report
    assert last
    assert last["minRemainingSeconds"] == 0

    if "repairs" in end:
        watched.world.exchange.add_account(api_key_of("bob"))
    else:
        watched.world.put_row("bob", enabled=False)
    watched.go(50)
    assert [state for _, state in watched.alarms[AT_RISK].mails] == [OK, ALARM, OK]


@pytest.mark.row(76)
def test_a_second_account_that_fails_beside_the_first_is_named(watched: Watched) -> None:
    watched.go(29)
    watched.world.exchange.revoke(api_key_of("alice"))
    watched.go(30)
    watched.world.exchange.revoke(api_key_of("bob"))
    watched.go(30)

    for place in (MAIL, CHAT):
        first, second = (text for text in told(watched, place) if "FAILING" in text)
        assert "INVALID_API_KEY: alice (usdm). What to do: check at Binance that the API key" in first
        assert "INVALID_API_KEY: bob (usdm). What to do: check at Binance that the API key" in second
        assert "alice" not in second


@pytest.mark.slow
@pytest.mark.row(76)
def test_a_thousand_accounts_that_fail_at_once_are_one_message(
    world: Scene,
) -> None:
    world.live(*(f"a{number}" for number in range(1000)), minutes=25)
    watched = Watched(world, world.function, world.clock)
    world.exchange.fault(status=503)
    watched.go(15)

    tick = watched.rules.runs[0]
    counts = set()
    for place in (MAIL, CHAT):
        [message] = [each for each in watched.messages if each.to == place and "FAILING" in each.text]
        assert message.at <= tick.at, "the run sends it before it ends"
        assert len(message.text) < 2 * 2000  # in JSON the text stands twice; Discord takes no more of it
        found = re.search(r"FAILING ([\d,]+) accounts, \d+ of them not tried yet\. ", message.text)
        assert found
        counts.add(found[1])
    assert counts == {"1,000"}

    watched.go(20)  # the outage goes on, and each run tries accounts that no run has tried before
    world.exchange.clear_faults()
    watched.go(10)
    for place in (MAIL, CHAT):
        news = [re.search("FAILING|RECOVERED", text) for text in told(watched, place)]
        assert [each[0] for each in news if each] == ["FAILING", "RECOVERED"]
    alarms = [text for text in told(watched, "AlarmWebhook") if AT_RISK in text]
    assert alarms, "an alarm has a line of its own"


@pytest.mark.row(76)
def test_an_account_that_was_failing_hides_no_outage(watched: Watched) -> None:
    """Refused first for its API key, then with all others: no message has named the second error yet."""
    watched.go(29)
    watched.world.exchange.revoke(api_key_of("alice"))
    watched.go(12)
    watched.world.exchange.fault(status=418)
    watched.go(30)
    for place in (MAIL, CHAT):
        first, second = (text for text in told(watched, place) if "FAILING" in text)
        assert "INVALID_API_KEY: alice (usdm)" in first
        assert "IP_BANNED" in second
        assert "alice" not in second


@pytest.mark.row(76)
@pytest.mark.parametrize("how", ["expire", "rotate"])
def test_a_listen_key_that_died_early_is_told_by_name(watched: Watched, how: str) -> None:
    watched.go(29)
    getattr(watched.world.exchange, how)(api_key_of("alice"), "usdm")
    watched.go(60)
    for place in (MAIL, CHAT):
        [message] = [text for text in told(watched, place) if "REPLACED" in text]
        says = "REPLACED 1 account. alice (usdm). The old listenKey died early. See docs/alarms.md. Stack "
        assert says in message


@pytest.mark.row(76)
def test_a_listen_key_that_expires_in_its_time_is_not_called_early(watched: Watched) -> None:
    watched.go(29)
    fault = watched.world.exchange.fault(status=503)
    watched.go(70)
    fault.clear()
    watched.go(10)
    assert {event["outcome"] for event in events(watched.world)} >= {"RECREATED"}
    says = " RECREATED 2 (alice, bob): bots missed events, or the API key is another account's. See "
    assert any("RECOVERED" in text and says in text for text in told(watched, MAIL))
    assert not any("REPLACED" in text for text in told(watched, MAIL))


@pytest.mark.row(76)
def test_a_person_who_asks_for_a_run_is_not_also_sent_what_it_replaced(watched: Watched) -> None:
    watched.world.exchange.expire(api_key_of("alice"), "usdm")
    watched.invoke({"accounts": ["alice"], "force": True})
    assert [sent["detail-type"] for sent in watched.world.aws.sent_events()] == ["Listen Key Changed"]
    assert events(watched.world)[0]["diedEarly"]
    watched.go(60)
    assert not any("REPLACED" in text for text in told(watched, MAIL))


@pytest.mark.row(76)
def test_a_product_that_was_changed_is_no_early_death(watched: Watched) -> None:
    watched.world.put_row("alice", product="coinm")
    watched.go(60)
    assert watched.world.current("alice")["product"] == "coinm"
    assert events(watched.world)[-1]["outcome"] == "CREATED"
    assert not told(watched, MAIL, CHAT)


@pytest.mark.row(76)
@pytest.mark.parametrize("asked", [None, {}, {"accounts": ["alice"], "force": True}], ids=str)
def test_people_learn_of_a_dead_key_that_a_bot_has_reported(
    watched: Watched, asked: dict[str, Any] | None
) -> None:
    dead = watched.world.current("alice")["listenKey"]
    watched.world.exchange.expire(api_key_of("alice"), "usdm")
    watched.invoke(question("alice", dead, dead=True))
    assert [event["accountId"] for event in events(watched.world)] == ["alice"], "bots learn of it at once"
    assert not told(watched, MAIL, CHAT)
    if asked is not None:  # a person's run, whose answer does not name the account
        watched.invoke(asked)
    watched.go(60)
    for place in (MAIL, CHAT):
        [message] = [text for text in told(watched, place) if "REPLACED" in text]
        assert "REPLACED 1 account. alice (usdm)." in message
    assert len({event["id"] for event in events(watched.world)}) == 1


@pytest.mark.row(76)
@pytest.mark.parametrize("again", [False, True], ids=["over", "and again"])
def test_a_failure_that_is_over_before_people_are_told_is_not_told(watched: Watched, again: bool) -> None:
    world, key = watched.world, api_key_of("alice")
    dead = world.current("alice")["listenKey"]
    world.exchange.expire(key, "usdm")
    world.exchange.revoke(key)
    watched.invoke(question("alice", dead))
    world.exchange.add_account(key)
    watched.clock.advance(seconds=35)
    watched.invoke(question("alice", dead))
    assert kept(world, "alice")
    if again:
        world.exchange.revoke(key)
        watched.clock.advance(seconds=35)
        watched.invoke(question("alice", world.current("alice")["listenKey"]))
    watched.go(10)
    found = [word for text in told(watched, MAIL) for word in re.findall("FAILING|RECOVERED", text)]
    assert found == (["FAILING"] if again else [])


@pytest.mark.row(76)
def test_an_outage_that_every_bot_reports_is_one_message(world: Scene) -> None:
    names = [f"a{number}" for number in range(30)]
    world.live(*names, minutes=10)
    watched = Watched(world, world.function, world.clock)
    watched.go(2)
    world.exchange.fault(status=503)

    def bots_report() -> None:
        for name in names:  # their sockets have opened again
            watched.invoke(question(name, world.current(name)["listenKey"]))
        world.clock.advance(seconds=35)

    bots_report()
    bots_report()
    watched.go(10)
    world.exchange.clear_faults()
    bots_report()
    assert all(kept(world, name) for name in names)
    watched.go(30)

    for place in (MAIL, CHAT):
        found = [re.search(r"(FAILING|RECOVERED) (\d+)", text) for text in told(watched, place)]
        assert [(each[1], each[2]) for each in found if each] == [("FAILING", "30"), ("RECOVERED", "30")]
    assert len({event["id"] for event in events(world, "Listen Key Failing")}) == 30


@pytest.mark.row(76)
def test_a_ban_is_told_once_whichever_accounts_the_runs_try(world: Scene) -> None:
    world.live(*"abcdef", minutes=25)
    world.exchange.fault(status=418)
    failing = []
    for event in (TICK, SWEEP, TICK, SWEEP, SWEEP, TICK):
        world.clock.sleep(60)
        world.function.invoke(event)
        failing.append([e["detail-type"] for e in world.aws.sent_events()].count("Listen Keys Failing"))
    assert failing == [1] * 6


@pytest.mark.row(76)
def test_an_error_that_has_changed_since_hides_no_outage(world: Scene) -> None:
    """An account is hit by a ban, then loses its API key: a ban later on is told all the same."""
    world.live("alice", "bob", minutes=25)
    ban = world.exchange.fault(status=418)
    world.function.invoke(TICK)
    ban.clear()
    for name in ("alice", "bob"):
        world.exchange.revoke(api_key_of(name))
    world.clock.sleep(300)
    world.function.invoke(TICK)
    world.exchange.add_account(api_key_of("bob"))
    world.clock.sleep(300)
    world.function.invoke(TICK)

    before = len(world.aws.sent_events())
    world.exchange.fault(status=418)
    world.clock.sleep(1800)
    world.function.invoke(TICK)
    [message] = [e for e in world.aws.sent_events()[before:] if e["detail-type"] == "Listen Keys Failing"]
    assert "IP_BANNED: bob" in message["detail"]["text"]


@pytest.mark.row(76)
@pytest.mark.parametrize("errors", [[503], [503, 418]], ids=["one error", "two errors"])
def test_an_account_that_needs_a_person_after_an_outage_is_named_once(
    watched: Watched, errors: list[int]
) -> None:
    world, key = watched.world, api_key_of("alice")
    watched.go(29)
    world.exchange.revoke(key)
    for status in [*errors, *errors]:  # the second time she is known to need a person
        fault = world.exchange.fault(status=status)
        watched.go(40)
        fault.clear()
        if status == errors[-1]:
            watched.go(60)
    named = [text for text in told(watched, MAIL) if "INVALID_API_KEY: alice (usdm)" in text]
    assert len(named) == 1
    world.exchange.add_account(key)
    watched.go(60)
    assert "alice" in next(text for text in reversed(told(watched, MAIL)) if "RECOVERED" in text)


@pytest.mark.row(76)
def test_what_could_not_be_told_is_told_by_the_next_run(world: Scene) -> None:
    world.live("alice", "bob")
    watched = Watched(world, world.function, world.clock)
    world.exchange.revoke(api_key_of("alice"))
    refusal = world.refusals.refuse("events", "PutEvents", "InternalException", status=500)
    watched.go(0.5)
    assert not any("FAILING" in text for text in told(watched, MAIL))
    refusal.end()
    watched.go(20)
    assert ["alice" in text for text in told(watched, MAIL) if "FAILING" in text] == [True]


@pytest.mark.slow
@pytest.mark.row(77)
def test_a_repaired_account_comes_back_while_the_tick_is_disabled(watched: Watched) -> None:
    watched.go(60)
    watched.world.exchange.revoke(api_key_of("bob"))
    watched.go(50)
    watched.go(100, disabled={TICK_RULE})
    assert [state for _, state in watched.alarms[MISSED_TICKS].mails] == [OK, ALARM]
    assert kept(watched.world, "alice")

    watched.world.exchange.add_account(api_key_of("bob"))
    watched.go(60, disabled={TICK_RULE})
    assert kept(watched.world, "bob")
    assert [state for _, state in watched.alarms[MISSED_TICKS].mails] == [OK, ALARM]
    watched.go(60)
    assert [state for _, state in watched.alarms[MISSED_TICKS].mails] == [OK, ALARM, OK]


@pytest.mark.row(78)
def test_a_webhook_that_answers_404_is_mailed_once(watched: Watched) -> None:
    watched.broken = {"Webhook", "AlarmWebhook"}
    watched.go(29)
    watched.world.exchange.revoke(api_key_of("bob"))
    watched.go(60)

    assert told(watched, MAIL).count(f"ALARM {UNDELIVERED}") == 1
    assert any("FAILING 1 account. INVALID_API_KEY: bob" in text for text in told(watched, MAIL))


@pytest.mark.row(76)
def test_each_finished_tick_is_an_event_that_the_heartbeat_gets(world: Scene) -> None:
    function = world.variant(HEARTBEAT_SECRET_ID="ops/beat")
    world.live("alice", minutes=10)
    watched = Watched(world, function, world.clock)
    watched.go(95)
    beats = [
        round((each.at - watched.messages[0].at) / 60) for each in watched.messages if each.to == "Heartbeat"
    ]
    assert beats == [0, 30, 60, 90]

    without = world.variant()
    without.invoke(TICK)
    assert len(world.aws.sent_events()) == len(beats)

    Refusals(function, world.clock).refuse("dynamodb", "Scan", "AccessDeniedException")
    assert function.invoke(TICK).error
    assert "Keepalive Run Completed" not in [e["detail-type"] for e in world.aws.sent_events()[len(beats) :]]
