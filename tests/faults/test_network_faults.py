"""The network's faults: names, certificates, and sockets that do what no HTTP server would."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from listenkeys.binance.answers import Answer
from listenkeys.binance.client import BinanceClient
from listenkeys.errors import Transient
from listenkeys.timing import Timeouts
from local.binance.exchange import PATHS
from local.binance.server import BinanceServer
from local.clock import VirtualClock
from local.world import World
from tests.certificates import self_signed
from tests.faults.matrix import (
    INCOMPLETE,
    MOST_PROBES,
    TICK,
    HookedExchange,
    api_key_of,
    duration,
    events,
    kept,
    lines,
    metrics,
    raised,
)
from tests.faults.sockets import BareServer, BlackHole, Forwarder, read_request, reset
from tests.scene import Scene
from tests.waiting import SECONDS, eventually

SHORT = Timeouts(connect=0.1, read=0.2, total=0.5)
REAL = Timeouts()
LAMBDA_TIMEOUT = 300  # seconds
TEN = tuple(f"account{number}" for number in range(10))


class Slow(BinanceClient):
    """Short timeouts for the test, but by the run's clock each request takes `seconds`, as in earnest."""

    def __init__(self, clock: VirtualClock, url: str, seconds: float) -> None:
        super().__init__(clock.now, url, SHORT)
        self._pass: Callable[[], None] = lambda: clock.advance(seconds)

    def _request(self, *args: Any) -> Answer:
        try:
            return super()._request(*args)
        finally:
            self._pass()


def all_accounted_for(world: World, done: Any, names: tuple[str, ...], error_code: str) -> int:
    """Assert that every attempt is recorded and every account reported; return how many were sent."""
    emitted = metrics(done)
    tried = [name for name in names if world.ledger(name)]
    assert emitted["KeysFailed"] == len(tried)
    assert emitted["KeysFailed"] + emitted["KeysDeferred"] == len(names)
    for name in tried:
        [entry] = world.ledger(name)
        assert (entry["outcome"], entry["errorCode"]) == ("FAILED", error_code)
        assert world.current(name)["consecutiveFailures"] == 1
        assert kept(world, name)
    return sum(world.ledger(name)[0]["attempts"] for name in tried)


@pytest.mark.slow
@pytest.mark.row(18)
def test_a_certificate_that_nobody_vouches_for_is_refused(world: Scene, tmp_path: Path) -> None:
    context, authority = self_signed(tmp_path)
    world.live(*TEN)
    exchange = HookedExchange(now=world.clock.timestamp)
    for name in TEN:
        exchange.add_account(api_key_of(name))
        exchange.handle("POST", PATHS["usdm"], {"X-MBX-APIKEY": api_key_of(name)})
    exchange.requests.clear()
    with BinanceServer(exchange, ssl_context=context) as secured:
        done = world.variant(BINANCE_BASE_URL=secured.url).invoke(TICK)
        assert not exchange.requests
        assert raised(done) == INCOMPLETE
        assert all_accounted_for(world, done, TEN, "CONNECTION") <= MOST_PROBES
        assert any("SSLError" in line.get("errorMessage", "") for line in lines(done))
        assert len(events(world, "Listen Key Failing")) == metrics(done)["KeysFailed"]
        # The same server, vouched for, is good: it was the certificate.
        trusting = world.variant(BINANCE_BASE_URL=secured.url, REQUESTS_CA_BUNDLE=str(authority))
        assert not raised(trusting.invoke(TICK))
        assert len(exchange.requests) == len(TEN)


@pytest.fixture
def asked_names(monkeypatch: pytest.MonkeyPatch, clock: VirtualClock) -> list[float]:
    """Let no name under .invalid be found; the moments in which one was asked for."""
    asked: list[float] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".invalid"):
            asked.append(clock.monotonic())
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.row(19)
def test_a_name_that_is_not_found_is_tried_again_at_odd_intervals(
    world: Scene, asked_names: list[float]
) -> None:
    world.live("alice")
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,.invalid")
    function = world.variant(BINANCE_BASE_URL="https://name.invalid", **direct)
    done = function.invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert all_accounted_for(world, done, ("alice",), "CONNECTION") == len(asked_names)
    assert 4 <= len(asked_names) <= MOST_PROBES
    waits = [later - earlier for earlier, later in pairwise(asked_names)]
    parts = [wait / min(30.0, 0.5 * 2.0**number) for number, wait in enumerate(waits, 1)]
    assert all(0.5 <= part <= 1.0 for part in parts), "doubling, and at least half of it"
    assert len({round(part, 3) for part in parts}) > 1, "the rest is chance"
    assert api_key_of("alice") not in done.output + str(done.error)


@pytest.mark.row(20)
def test_a_black_hole_ends_the_run_in_time_with_every_attempt_recorded(world: Scene) -> None:
    world.live(*TEN)
    with BlackHole() as hole:
        world.use(binance=Slow(world.clock, hole.url, REAL.connect))
        done = world.invoke(TICK)
    assert raised(done) == INCOMPLETE
    assert 4 <= all_accounted_for(world, done, TEN, "TIMEOUT") <= MOST_PROBES
    assert duration(done) < LAMBDA_TIMEOUT


@pytest.mark.row(20)
def test_a_request_that_never_comes_back_is_let_go_and_recorded(world: Scene) -> None:
    """Name resolution has no timeout."""
    world.live(*TEN)
    over, began = threading.Event(), world.clock.monotonic()

    def others_are_recorded() -> bool:
        world.clock.advance(seconds=1)  # results are recorded once a second
        return all(world.ledger(name) for name in TEN[:9])

    class Stuck(BinanceClient):
        def keepalive(self, product: str, api_key: str) -> Answer:
            if api_key == api_key_of(TEN[9]):
                eventually(others_are_recorded)
                world.clock.advance(seconds=LAMBDA_TIMEOUT - 18 - (world.clock.monotonic() - began))
                over.wait(SECONDS)
            return super().keepalive(product, api_key)

    world.use(binance=Stuck(world.clock.now, world.binance_url))
    try:
        done = world.invoke(TICK)
    finally:
        over.set()
    assert raised(done) == INCOMPLETE
    assert [world.current(name)["outcome"] for name in TEN] == ["EXTENDED"] * 9 + ["FAILED"]
    [entry] = world.ledger(TEN[9])
    assert (entry["errorCode"], entry["attempts"]) == ("TIMEOUT", 1)


@pytest.mark.row(21)
def test_a_server_that_never_answers_meets_the_read_timeout(world: Scene) -> None:
    world.live(*TEN)
    ended = threading.Event()
    with BareServer(lambda _: wait(ended)) as silent:
        world.use(binance=Slow(world.clock, silent.url, REAL.read))
        done = world.invoke(TICK)
        ended.set()
        assert all_accounted_for(world, done, TEN, "TIMEOUT") == silent.accepted <= MOST_PROBES
    assert raised(done) == INCOMPLETE
    assert duration(done) < LAMBDA_TIMEOUT


def wait(ended: threading.Event) -> None:
    ended.wait(SECONDS)


def drip(connection: socket.socket, answer: bytes, ended: threading.Event) -> None:
    """Send a byte at a time, each well within the read timeout."""
    for byte in answer:
        connection.sendall(bytes((byte,)))
        if ended.wait(SHORT.read / 4):
            return


@pytest.mark.row(22)
@pytest.mark.parametrize("where", ["status line", "headers", "body"])
def test_one_byte_at_a_time_meets_the_deadline_of_the_whole_answer(world: Scene, where: str) -> None:
    world.live("alice")
    ended = threading.Event()

    def deliver(number: int, client: socket.socket, answer: bytes) -> None:
        at_once = {
            "status line": 0,
            "headers": answer.index(b"\r\n") + 2,
            "body": answer.index(b"\r\n\r\n") + 4,
        }
        if number == 0:
            client.sendall(answer[: at_once[where]])
            drip(client, answer[at_once[where] :], ended)
        else:
            client.sendall(answer)

    assert world.binance
    with Forwarder(world.binance.port, deliver) as proxy:
        # The second answer has to come in this time, on a busy machine, too.
        world.use(
            binance=BinanceClient(world.clock.now, proxy.url, Timeouts(connect=2.0, read=2.0, total=2.0))
        )
        done = world.invoke(TICK)
        ended.set()
    assert not raised(done)
    assert world.ledger("alice")[0]["attempts"] == proxy.forwarded == 2
    assert kept(world, "alice")


@pytest.mark.row(22)
def test_a_drip_that_never_ends_is_recorded_as_a_timeout(world: Scene) -> None:
    world.live("alice")
    ended = threading.Event()

    def talk(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        drip(connection, b" " * 60000, ended)

    with BareServer(talk) as dripping:
        client = BinanceClient(world.clock.now, dripping.url, SHORT)
        with pytest.raises(Transient, match="did not answer in time"):
            client.keepalive("usdm", api_key_of("alice"))
        world.use(binance=Slow(world.clock, dripping.url, REAL.total))
        done = world.invoke({"accounts": ["alice"], "force": True})  # a person's patience is short
        ended.set()
    assert done.report
    assert done.report["failed"] == 1
    assert world.ledger("alice")[0]["errorCode"] == "TIMEOUT"


@pytest.mark.row(23)
def test_a_reset_after_the_request_is_sent_is_retried_and_harmless(world: Scene) -> None:
    world.live("alice")
    key = world.current("alice")["listenKey"]

    def deliver(number: int, client: socket.socket, answer: bytes) -> None:
        if number < 2:
            reset(client)
        else:
            client.sendall(answer)

    assert world.binance
    with Forwarder(world.binance.port, deliver) as proxy:
        world.use(binance=BinanceClient(world.clock.now, proxy.url))
        done = world.invoke(TICK)
    assert not raised(done)
    assert [(request.method, request.status) for request in world.exchange.requests] == [("PUT", 200)] * 3
    assert kept(world, "alice")
    current = world.current("alice")
    assert (current["outcome"], current["listenKey"]) == ("EXTENDED", key)
    assert world.ledger("alice")[0]["attempts"] == 3
    assert not world.aws.account_events()


@pytest.mark.row(23)
def test_a_post_whose_answer_is_lost_is_learnt_by_the_next_run(world: Scene) -> None:
    world.live("alice")
    world.exchange.expire(api_key_of("alice"), "usdm")
    world.exchange.fault("reset", effect=True, method="POST", times=2)
    assert raised(world.invoke(TICK)) == INCOMPLETE
    assert [request.method for request in world.exchange.requests] == ["PUT", "POST"]
    assert world.current("alice")["outcome"] == "FAILED"
    world.clock.advance(minutes=1)
    assert not raised(world.invoke(TICK))
    assert kept(world, "alice")
    assert world.current("alice")["outcome"] == "CHANGED"
    assert [event["outcome"] for event in events(world)] == ["CHANGED"]


class TiredServer(BareServer):
    """Answers requests; the first two connections' second requests it treats as `tired` says."""

    def __init__(self, exchange: HookedExchange, tired: Callable[[socket.socket], None]) -> None:
        self.seen = self.connections = 0

        def talk(connection: socket.socket) -> None:
            self.connections += 1
            fresh = self.connections > 2
            answered = 0
            while request := read_request(connection):
                self.seen += 1
                if answered and not fresh:
                    tired(connection)
                    return
                connection.sendall(answer_to(exchange, request))
                answered += 1

        super().__init__(talk)


def answer_to(exchange: HookedExchange, request: bytes) -> bytes:
    """Return the stand-in's answer to a request's head, as bytes that promise to keep the connection."""
    first, *others = request.decode().split("\r\n")
    method, path, _ = first.split()
    headers = dict(line.split(": ", 1) for line in others if line)
    answer = exchange.handle(method, path, headers)
    head = (
        f"HTTP/1.1 {answer.status} OK\r\nConnection: keep-alive\r\nContent-Length: {len(answer.body)}\r\n\r\n"
    )
    return head.encode() + answer.body


@pytest.mark.slow
@pytest.mark.row(24)
@pytest.mark.parametrize("goodbye", [lambda connection: None, reset], ids=["closed", "reset"])
def test_a_connection_that_was_closed_unnoticed_costs_one_more_try(
    world: Scene, goodbye: Callable[[socket.socket], None]
) -> None:
    world.live(*TEN)
    world.function = world.variant(MAX_CONCURRENCY="1")
    exchange = world.exchange
    with TiredServer(exchange, goodbye) as server:
        world.use(binance=BinanceClient(world.clock.now, server.url))
        done = world.invoke(TICK)
        assert server.seen == len(TEN) + 2, "two find a stale connection, and are sent again"
    assert not raised(done)
    emitted = metrics(done)
    assert emitted["KeysExtended"] == len(TEN)
    for name in TEN:
        assert kept(world, name)
        assert len(world.ledger(name)) == 1
        assert world.current(name)["consecutiveFailures"] == 0


@pytest.mark.row(24)
def test_a_warm_start_does_not_trust_the_connections_of_the_run_before(world: Scene) -> None:
    """A NAT that forgot the connection drops what is sent on it, and nobody says a word."""
    world.live(*TEN)
    exchange = world.exchange
    frozen = threading.Event()
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        fresh = not frozen.is_set()
        while request := read_request(connection):
            if fresh and frozen.is_set():
                over.wait(SECONDS)
                return
            connection.sendall(answer_to(exchange, request))

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(BareServer(talk))
        stack.callback(over.set)
        world.use(binance=BinanceClient(world.clock.now, server.url))
        assert not raised(world.invoke(TICK))
        frozen.set()
        world.clock.advance(minutes=30)
        done = world.invoke(TICK)
    assert not raised(done)
    for name in TEN:
        assert [entry["attempts"] for entry in world.ledger(name)] == [1, 1]
        assert kept(world, name)
    assert json.dumps(lines(done)).count("TIMEOUT") == 0
