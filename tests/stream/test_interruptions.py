"""A stream says at once that it is not sure to hear, and asks the keeper for another key."""

import hashlib
from datetime import timedelta

import pytest

from listenkey_keeper.stream.gaps import MARGIN, Interrupted
from listenkeys.errors import ErrorCode
from local.binance.exchange import PATHS

from .conftest import ALICE, HOUR, bounds, hears, in_loop, listening, listens, passes, until, without


def fingerprint(listen_key: str) -> str:
    return hashlib.sha256(listen_key.encode()).hexdigest()[:12]


@pytest.mark.row(80)
@pytest.mark.parametrize(
    ("product", "words"),
    [
        ("usdm", lambda event: [event, event]),
        ("options", lambda event: [event]),  # the stand-in puts all of theirs in the envelope
        ("coinm", lambda event: [{"e": event["e"], "E": event["E"]}]),
        ("options", lambda event: [{**event, "E": str(event["E"])}]),
    ],
    ids=["twice", "enveloped", "without key", "E as text"],
)
@in_loop
async def test_a_dead_key_is_one_interrupted_and_one_gap_however_it_is_said(
    world, bot, keeper, clock, time_, bus, product, words
):
    keeper.product = product
    listen_key = keeper.renew()
    async with bot() as alice:
        await listening(alice)
        await passes(alice, 600)
        audience = world.exchange._audiences[listen_key]
        died_at = clock.now()
        event = {"e": "listenKeyExpired", "E": int(clock.timestamp() * 1000), "listenKey": listen_key}
        time_.advance(5)  # it comes late
        for said in words(event):
            audience.tell(said)
        await without(alice)
        assert alice.told == ["+started", "-key expired"]
        assert alice.stream.state.why == "key expired"
        world.exchange.rotate(ALICE, product)
        keeper.renew()
        time_.advance(1)
        await listening(alice)
        number = world.exchange.emit_order(ALICE, product)
        await until(lambda: alice.orders == [number])
    assert alice.told == ["+started", "-key expired", "+key expired"]
    assert bounds(alice.gaps[1]) == (died_at, clock.now())
    assert bus.told == [{"accountId": "alice", "fingerprint": fingerprint(listen_key), "dead": True}]


@pytest.mark.row(80)
@listens
async def test_what_binance_says_of_another_key_changes_nothing(world, alice, keeper, clock, bus):
    listen_key = keeper.listen_key
    event = {"e": "listenKeyExpired", "E": int(clock.timestamp() * 1000), "listenKey": "another"}
    world.exchange._audiences[listen_key].tell(event)
    await hears(alice, world.exchange)
    assert alice.stream.alive
    assert alice.told == ["+started"]
    assert bus.told == []


@pytest.mark.row(82)
@listens
async def test_a_keeper_that_stops_is_noticed_when_the_keys_hour_is_over(
    world, alice, keeper, clock, time_, caplog, bus
):
    expires_at = clock.now() + timedelta(hours=1)
    for _ in range(53):
        await passes(alice, 67)  # it has looked at the table
    await passes(alice, 45)
    world.exchange.handle("PUT", PATHS["usdm"], {"X-MBX-APIKEY": ALICE})  # unrecorded: no event at the hour
    assert alice.told == ["+started"]
    time_.advance(4)
    await until(lambda: alice.interruptions)
    await until(lambda: bus.told)  # at once: its next look would be seconds later
    assert alice.interruptions == [Interrupted(expires_at - MARGIN, "key not renewed")]
    assert not alice.stream.state.listening
    assert "events may be missing (key not renewed)" in caplog.text
    await hears(alice, world.exchange)  # the socket is still open, and the key alive
    [order] = alice.orders
    for _ in range(180):
        await until(lambda: alice.resting)
        time_.advance(10)
    await until(lambda: alice.resting)
    assert alice.told == ["+started", "-key not renewed"]
    assert 3 <= len(bus.told) <= 10
    world.exchange.rotate(ALICE, "usdm")
    keeper.renew()
    time_.advance(6)
    await listening(alice)
    orders = [order, world.exchange.emit_order(ALICE)]
    await until(lambda: alice.orders == orders)
    assert alice.told == ["+started", "-key not renewed", "+key not renewed"]
    assert bounds(alice.gaps[1])[0] <= expires_at


@pytest.mark.row(82)
@in_loop
async def test_an_account_rejected_three_days_ago_is_not_called_listening(
    world, bot, keeper, clock, time_, bus
):
    dead = keeper.renew()
    keeper.record(dead, outcome="REJECTED", errorCode="INVALID_API_KEY")
    began = clock.now() + timedelta(days=3)
    time_.advance(3 * 24 * HOUR)
    async with bot() as alice:
        await without(alice)
        assert alice.told == ["-account rejected"]
        state = alice.stream.state
        assert (state.outcome, state.error_code) == ("REJECTED", "INVALID_API_KEY")
        assert state.why == "account rejected"
        for _ in range(60):
            time_.advance(60)
            await until(lambda: alice.resting)
        assert alice.told == ["-account rejected"]
        assert len(bus.told) == 1  # a person is needed
        keeper.renew()
        time_.advance(6)
        await listening(alice)
        await hears(alice, world.exchange)
    assert alice.told == ["-account rejected", "+started"]
    assert bounds(alice.gaps[0]) == (began, clock.now())


@listens
async def test_a_forgotten_key_that_is_not_made_again_is_an_interruption(alice, keeper):
    """`createIfMissing` is false. The record has the error long before the key expires."""
    listen_key = keeper.listen_key
    keeper.record(listen_key, outcome="REJECTED", errorCode=ErrorCode.LISTEN_KEY_NOT_FOUND)
    alice.stream.wake()
    await without(alice)
    assert alice.told == ["+started", "-account rejected"]


@pytest.mark.row(81)
@listens
async def test_the_table_is_looked_at_every_second_for_ten_seconds(world, alice, keeper, time_, table, bus):
    listen_key = keeper.listen_key
    reads = table.reads
    world.exchange.expire(ALICE, "usdm")
    await without(alice)
    for _ in range(10):
        time_.advance(1)
        await without(alice)
    assert 9 <= table.reads - reads <= 13
    assert len(bus.told) == 1
    for _ in range(5):
        time_.advance(6)
        await without(alice)
    assert 14 <= table.reads - reads <= 19
    assert len(bus.told) == 2
    assert {told["fingerprint"] for told in bus.told} == {fingerprint(listen_key)}


@listens
async def test_after_a_lost_socket_the_keeper_is_asked_about_the_key(
    world, alice, keeper, bus, streams, time_, clock
):
    listen_key = keeper.listen_key
    await passes(alice, 60)
    streams.down = True
    streams.drop_connections()
    await without(alice)
    world.exchange.expire(ALICE, "usdm")  # nobody hears of it
    streams.down = False
    time_.advance(1)
    await until(lambda: bus.told)
    assert bus.told == [{"accountId": "alice", "fingerprint": fingerprint(listen_key), "dead": False}]
    await listening(alice)
    lost = world.exchange.emit_order(ALICE)
    lost_at = clock.now()
    keeper.renew()
    time_.advance(1)
    await until(lambda: len(alice.gaps) == 3)
    await hears(alice, world.exchange)
    assert lost not in alice.orders
    assert alice.told == ["+started", "-connection lost", "+connection lost", "-key changed", "+key changed"]
    assert bounds(alice.gaps[2])[0] < lost_at < clock.now()


@listens
async def test_a_key_that_lives_on_after_a_lost_socket_is_asked_about_once(
    world, alice, keeper, bus, streams, time_
):
    await passes(alice, 60)
    streams.drop_connections()
    await until(lambda: len(alice.gaps) == 2 and bus.told)
    time_.advance(2)
    keeper.renew()
    for _ in range(12):
        await passes(alice, 10)
    await hears(alice, world.exchange)
    assert len(bus.told) == 1
    assert alice.told == ["+started", "-connection lost", "+connection lost"]


@listens
async def test_the_keeper_is_asked_about_a_new_key_that_died_before_its_socket(world, alice, keeper, bus):
    world.exchange.rotate(ALICE, "usdm")
    listen_key = keeper.renew()
    world.exchange.expire(ALICE, "usdm")
    alice.stream.wake()
    await until(lambda: len(alice.gaps) == 2)
    for _ in range(4):
        await passes(alice, 10)
    assert bus.told == [{"accountId": "alice", "fingerprint": fingerprint(listen_key), "dead": False}]


@in_loop
async def test_who_does_not_want_to_ask_does_not(world, bot, keeper, bus, time_):
    keeper.renew()
    async with bot(ask=False) as alice:
        await listening(alice)
        world.exchange.expire(ALICE, "usdm")
        await without(alice)
        time_.advance(60)
        await without(alice)
    assert bus.told == []


@in_loop
async def test_a_bus_that_refuses_ends_nothing(world, bot, keeper, bus, time_, caplog):
    keeper.renew()
    bus.put_events = lambda **_: 1 / 0
    async with bot() as alice:
        await listening(alice)
        world.exchange.expire(ALICE, "usdm")
        await without(alice)
        world.exchange.rotate(ALICE, "usdm")
        keeper.renew()
        time_.advance(1)
        await listening(alice)
        await hears(alice, world.exchange)
