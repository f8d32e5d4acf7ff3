"""SyncUserDataStream: the same for code without asyncio."""

import asyncio
import errno
import threading
from typing import Any

import pytest

from listenkey_keeper import Gap, Interrupted, ListenKeys, ListenKeyUnavailable, SyncUserDataStream
from local.binance.stream import StreamServer
from local.world import World
from tests.waiting import SECONDS, eventually

from .conftest import ALICE, Keeper, StreamClock


@pytest.fixture
def alice(keys: ListenKeys, time_: StreamClock) -> SyncUserDataStream:
    return SyncUserDataStream("alice", keys, clock=time_)


def test_events_come_by_a_plain_loop(world: World, keeper: Keeper, alice: SyncUserDataStream) -> None:
    keeper.renew()
    heard: list[Any] = []
    with alice as stream:
        for item in stream:
            if isinstance(item, Gap):
                numbers = [world.exchange.emit_order(ALICE) for _ in range(3)]
                continue
            heard.append(item["o"]["i"])
            if len(heard) == 3:
                break
    assert heard == numbers


def test_pings_are_answered_and_keys_followed_while_the_bot_is_busy(
    world: World, keeper: Keeper, alice: SyncUserDataStream
) -> None:
    keeper.renew()
    with alice as stream:
        eventually(lambda: stream.alive)
        world.exchange.rotate(ALICE, "usdm")
        listen_key = keeper.renew()
        stream.wake()
        eventually(lambda: world.exchange.listeners(listen_key))
        assert stream.expires_at == stream.state.expires_at
        kinds = [type(stream.get(timeout=SECONDS)) for _ in range(3)]
        assert repr(stream) == "<SyncUserDataStream alice: listening>"
    assert kinds == [Gap, Interrupted, Gap]


def test_waiting_for_an_item_may_be_limited_and_loses_none(
    world: World, keeper: Keeper, alice: SyncUserDataStream
) -> None:
    keeper.renew()
    with alice as stream:
        eventually(lambda: stream.alive)
        assert isinstance(stream.get(0), Gap)
        for seconds in (0, 0.001):
            with pytest.raises(TimeoutError):
                stream.get(timeout=seconds)
        numbers, heard = [], []
        for _ in range(200):
            numbers.append(world.exchange.emit_order(ALICE))
            try:
                heard.append(stream.get(timeout=0.0005)["o"]["i"])
            except TimeoutError:
                continue
        while len(heard) < len(numbers):
            heard.append(stream.get(timeout=SECONDS)["o"]["i"])
    assert heard == numbers


def test_what_no_waiting_helps_against_is_raised(world: World, streams: StreamServer) -> None:
    keys = ListenKeys("no-such-table", dynamodb=world.aws.client("dynamodb"), base_url=streams.url)
    with SyncUserDataStream("alice", keys) as stream, pytest.raises(ListenKeyUnavailable):
        next(stream)


def test_leaving_closes_the_socket_and_the_thread_and_ends_the_loop(
    keeper: Keeper, alice: SyncUserDataStream, streams: StreamServer
) -> None:
    keeper.renew()
    threads = threading.active_count()
    with alice as stream:
        assert isinstance(next(stream), Gap)
    assert list(stream) == []
    eventually(lambda: streams.connections == 0)
    eventually(lambda: threading.active_count() <= threads)
    assert not stream.alive


def test_another_thread_may_close_it_while_an_item_is_waited_for(
    keeper: Keeper, alice: SyncUserDataStream
) -> None:
    keeper.renew()
    items: list[Any] = []
    with alice as stream:
        taker = threading.Thread(target=lambda: items.extend(stream))
        taker.start()
        eventually(lambda: items)
    taker.join(SECONDS)
    assert not taker.is_alive()


def test_two_threads_may_take_and_each_item_comes_to_one(
    world: World, keeper: Keeper, alice: SyncUserDataStream
) -> None:
    keeper.renew()
    taken: list[Any] = []
    with alice as stream:
        takers = [threading.Thread(target=lambda: taken.extend(stream)) for _ in range(2)]
        for taker in takers:
            taker.start()
        eventually(lambda: taken)
        numbers = [world.exchange.emit_order(ALICE) for _ in range(300)]
        eventually(lambda: len(taken) == 301)
    for taker in takers:
        taker.join(SECONDS)
    assert sorted(item["o"]["i"] for item in taken if isinstance(item, dict)) == numbers


def test_it_may_be_closed_twice_from_another_thread_and_unopened(
    keeper: Keeper, alice: SyncUserDataStream, keys: ListenKeys
) -> None:
    keeper.renew()
    SyncUserDataStream("alice", keys).close()
    SyncUserDataStream("alice", keys).__exit__()
    with alice as stream:
        other = threading.Thread(target=stream.close)
        other.start()
        stream.close()
        other.join(SECONDS)
        assert not other.is_alive()
        stream.close()


def test_a_thread_that_fails_is_an_error_and_not_a_silence(
    alice: SyncUserDataStream, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.renew()

    async def fail(_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("listenkey_keeper.stream.follower.Follower.run", fail)
    with alice as stream, pytest.raises(MemoryError):
        stream.get()


def test_a_thread_that_cannot_begin_is_an_error_and_does_not_hang(
    alice: SyncUserDataStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(asyncio.events, "new_event_loop", fail)
    with pytest.raises(OSError, match="Too many open files"):
        alice.__enter__()
    with pytest.raises(OSError, match="Too many open files"):
        alice.get()


def test_it_is_open_inside_of_the_block_only(alice: SyncUserDataStream) -> None:
    with pytest.raises(RuntimeError, match="with"):
        next(alice)
