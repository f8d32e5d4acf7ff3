"""Live, demo and testnet accounts in one stack, and a Binance that is somewhere else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from local.binance.exchange import Exchange
from local.binance.server import BinanceServer
from tests.certificates import self_signed
from tests.faults.matrix import TICK, api_key_of, kept, metrics, raised
from tests.faults.sockets import BareServer, read_request
from tests.scene import Scene

HOSTS = ("fapi.binance.com", "demo-fapi.binance.com", "demo-dapi.binance.com", "testnet.binancefuture.com")


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def tunnel(ports: Mapping[str, int]) -> Iterator[str]:
    """Yield the URL of an HTTP proxy that connects each of these hosts to a port of this machine."""

    def talk(client: socket.socket) -> None:
        host = read_request(client).split()[1].decode().removesuffix(":443")
        with socket.create_connection(("127.0.0.1", ports[host])) as server:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join()

    with BareServer(talk) as proxy:
        yield proxy.url


@pytest.mark.row(90)
def test_one_stack_keeps_each_key_at_the_hosts_of_its_environment(world: Scene, tmp_path: Path) -> None:
    rows = {
        "alice": ("fapi.binance.com", "wss://fstream.binance.com", {}),
        "pro": ("fapi.binance.com", "wss://fstream.binance.com", {"product": "portfolio-pro"}),
        "bob": ("demo-fapi.binance.com", "wss://demo-fstream.binance.com", {"environment": "demo"}),
        "carol": (
            "demo-dapi.binance.com",
            "wss://demo-dstream.binance.com",
            {"product": "coinm", "environment": "demo"},
        ),
        "dave": ("testnet.binancefuture.com", "wss://fstream.binancefuture.com", {"environment": "testnet"}),
    }
    context, authority = self_signed(tmp_path, *HOSTS)
    exchanges = {host: Exchange(now=world.clock.timestamp, seed=number) for number, host in enumerate(HOSTS)}
    for name, (host, _, row) in rows.items():
        world.add_account(name, api_key_of(name), known=False, **row)
        exchanges[host].add_account(api_key_of(name))  # and no other environment knows it
    with ExitStack() as stack:
        servers = {
            host: stack.enter_context(BinanceServer(exchange, ssl_context=context))
            for host, exchange in exchanges.items()
        }
        proxy = stack.enter_context(tunnel({host: server.port for host, server in servers.items()}))
        function = world.variant(
            BINANCE_BASE_URL="", BINANCE_STREAM_URL="", HTTPS_PROXY=proxy, https_proxy=proxy,
            REQUESTS_CA_BUNDLE=str(authority),
        )  # fmt: skip
        done = function.invoke(TICK)
    assert not raised(done)
    for name, (host, stream, row) in rows.items():
        current = world.current(name)
        assert current["listenKey"] == exchanges[host].live_key(api_key_of(name), row.get("product", "usdm"))
        assert (current["outcome"], current["streamUrl"]) == ("CREATED", stream)


@pytest.mark.row(90)
@pytest.mark.parametrize("stream", ["", "wss://streams.example"])
def test_with_a_base_url_of_ones_own_the_stream_is_what_was_set(world: Scene, stream: str) -> None:
    world.add_account("alice", api_key_of("alice"))
    world.add_account("bob", api_key_of("bob"), environment="demo")
    assert not raised(world.variant(BINANCE_STREAM_URL=stream).invoke(TICK))
    assert [world.current(name)["streamUrl"] for name in ("alice", "bob")] == [stream, stream]


@pytest.mark.row(90)
def test_one_environments_limit_is_not_anothers(world: Scene) -> None:
    live, demo = [f"live{n}" for n in range(3)], [f"demo{n}" for n in range(3)]
    world.live(*live, minutes=0)
    world.live(*demo, environment="demo")
    for name in live:
        world.exchange.fault(status=418, api_key=api_key_of(name))
    done = world.invoke(TICK)
    assert all(kept(world, name) for name in demo)
    assert metrics(done)["KeysExtended"] == 3
    assert sum(request.status == 418 for request in world.exchange.requests) == 1
