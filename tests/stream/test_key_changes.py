"""UserDataStream follows the account's key, and says where it may have missed events."""

from datetime import timedelta

from local.binance.exchange import PATHS

from .conftest import ALICE, HOUR, bounds, follows, hears, in_loop, listening, listens, passes, until, without


@listens
async def test_a_changed_key_is_followed_before_the_old_socket_goes(
    world, alice, keeper, streams, clock, time_
):
    alive_at = clock.now()
    await passes(alice, 30)
    world.exchange.rotate(ALICE, "usdm")
    lost = world.exchange.emit_order(ALICE)
    await follows(alice, keeper)
    assert streams.connections == 2
    await hears(alice, world.exchange)
    assert lost not in alice.orders
    assert alice.gaps[1].why == "key changed"
    assert bounds(alice.gaps[1]) == (alive_at, clock.now())
    time_.advance(5)
    await until(lambda: streams.connections == 1)
    assert alice.stream.alive
    assert len(alice.gaps) == 2


@listens
async def test_without_a_word_a_changed_key_is_found_within_a_minute(world, alice, keeper):
    world.exchange.rotate(ALICE, "usdm")
    keeper.renew()
    await passes(alice, 66)
    await until(lambda: len(alice.gaps) == 2)


@listens
async def test_the_gap_of_a_key_that_died_silently_begins_at_its_last_proof(world, alice, keeper, clock):
    await passes(alice, 600)
    keeper.renew()
    renewed_at = clock.now()
    alice.stream.wake()
    await until(lambda: alice.stream.expires_at == renewed_at + timedelta(hours=1))
    await passes(alice, 100)
    world.exchange.handle("DELETE", PATHS["usdm"], {"X-MBX-APIKEY": ALICE})
    await passes(alice, 600)
    await follows(alice, keeper)
    assert bounds(alice.gaps[1]) == (renewed_at, clock.now())


@listens
async def test_an_event_proves_that_the_key_lived(world, alice, keeper, clock):
    await passes(alice, 600)
    heard_at = clock.now()
    world.exchange.emit_order(ALICE)
    await until(lambda: alice.orders)
    await passes(alice, 600)
    world.exchange.rotate(ALICE, "usdm")
    await follows(alice, keeper)
    assert bounds(alice.gaps[1]) == (heard_at, clock.now())


@listens
async def test_another_product_in_the_row_is_another_url(world, alice, keeper, streams, time_):
    keeper.product = "coinm"
    await follows(alice, keeper)
    # The old product's key lives on, and is heard until its socket goes.
    both = [world.exchange.emit_order(ALICE, "usdm"), world.exchange.emit_order(ALICE, "coinm")]
    await until(lambda: sorted(alice.orders) == both)
    time_.advance(5)
    await until(lambda: streams.connections == 1)


@listens
async def test_an_expired_key_leaves_a_gap_until_there_is_another(
    world, alice, keeper, streams, clock, time_
):
    await passes(alice, 600)
    died_at = clock.now()
    world.exchange.expire(ALICE, "usdm")
    await without(alice)
    await until(lambda: streams.connections == 0)
    time_.advance(8)  # looks at the table: the same key
    lost = world.exchange.emit_order(ALICE)
    await without(alice)
    assert streams.connections == 0
    keeper.renew()
    time_.advance(8)
    await listening(alice)
    await hears(alice, world.exchange)
    assert lost not in alice.orders
    assert alice.gaps[1].why == "key expired"
    assert bounds(alice.gaps[1]) == (died_at, clock.now())


@listens
async def test_a_key_extended_after_binance_called_it_expired_is_used_again(
    world, alice, keeper, clock, time_
):
    listen_key = keeper.listen_key
    world.exchange._audiences[listen_key].tell({"e": "listenKeyExpired", "E": clock.timestamp() * 1000})
    await without(alice)
    time_.advance(2)
    keeper.renew()
    time_.advance(8)
    await listening(alice)
    assert len(alice.gaps) == 2


@listens
async def test_past_its_hour_a_keys_expiry_may_be_announced_late(world, alice, keeper, clock, time_):
    listen_key = keeper.listen_key
    expires_at = clock.now() + timedelta(hours=1)
    await passes(alice, HOUR - 10)
    world.exchange.handle("PUT", PATHS["usdm"], {"X-MBX-APIKEY": ALICE})  # and not recorded
    time_.advance(300)
    await until(lambda: alice.told[-1] == "-key not renewed")
    event = {"e": "listenKeyExpired", "E": clock.timestamp() * 1000}
    world.exchange._audiences[listen_key].tell(event)
    await until(lambda: alice.line is None)
    await without(alice)
    world.exchange.rotate(ALICE, "usdm")
    keeper.renew()
    time_.advance(8)
    await until(lambda: len(alice.gaps) == 2)
    assert bounds(alice.gaps[1])[0] == expires_at


@in_loop
async def test_a_keeper_whose_clock_is_ahead_makes_no_gap_end_before_it_begins(world, bot, keeper, clock):
    listen_key = keeper.renew()
    world.put_current("alice", listen_key, clock.now() + timedelta(minutes=5))
    async with bot() as alice:
        await listening(alice)
        await passes(alice, 66)
        world.exchange.rotate(ALICE, "usdm")
        await follows(alice, keeper)
    assert bounds(alice.gaps[1]) == (clock.now(), clock.now())
