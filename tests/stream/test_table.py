"""UserDataStream where the table cannot be read."""

import pytest

from listenkey_keeper.stream.keys import ListenKeyUnavailable

from .conftest import hears, in_loop, listening, passes, until, without


@in_loop
async def test_while_the_table_cannot_be_read_the_open_socket_is_heard_and_reopened(
    world, bot, table, keeper, streams, time_, caplog
):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        table.code = "ProvisionedThroughputExceededException"
        for _ in range(3):
            reads = table.reads
            await passes(alice, 66)
            assert table.reads > reads
        await hears(alice, world.exchange)
        streams.drop_connections()
        await without(alice)
        time_.advance(1)
        await listening(alice)
    said = [text for text in caplog.messages if "ProvisionedThroughputExceededException" in text]
    assert said == ["alice: no listenKey can be read (ProvisionedThroughputExceededException)"]
    assert "CANARY" not in caplog.text


@in_loop
async def test_a_table_that_cannot_be_read_yet_is_waited_for(bot, table, keeper, time_):
    keeper.renew()
    table.code = "InternalServerError"
    async with bot() as alice:
        await until(lambda: table.reads == 1)
        table.code = ""
        await until(time_.sleeping)
        time_.advance(8)
        await listening(alice)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
@in_loop
async def test_what_no_waiting_helps_against_is_raised_at_the_start(stream, table, code):
    table.code = code
    async with stream:
        with pytest.raises(ListenKeyUnavailable, match=code) as raised:
            await anext(stream)
        assert raised.value.code == code
        assert raised.value.__context__ is None


@in_loop
async def test_a_lost_permission_is_logged_and_ends_nothing(bot, table, keeper):
    keeper.renew()
    async with bot() as alice:
        await listening(alice)
        table.code = "AccessDeniedException"
        await passes(alice, 66)
        await until(lambda: table.reads == 2)
        assert alice.stream.alive
    assert len(alice.items) == 1
