"""The stand-in, and third-party clients in environments of their own, which `make clients` installs."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.binance.exchange import PATHS, Exchange
from local.binance.limits import WEIGHT_LIMITS
from local.binance.server import BinanceServer
from local.binance.stream import StreamServer
from local.clock import VirtualClock
from tests.paths import PYTHONPATH, ROOT
from tests.waiting import eventually

HERE = Path(__file__).parent
STAND_IN = ROOT / "examples" / "clients" / "stand_in.py"
ALICE = "alice" * 12


def python_of(client: str) -> Path:
    """Return the interpreter of a client's environment."""
    return ROOT / f".venv-{client}" / "bin" / "python"


class Raised(Exception):
    """An error that a client raised, with the name of its type and its plain attributes."""

    def __init__(self, raised: dict[str, Any]) -> None:
        super().__init__(raised["text"])
        self.__dict__.update(raised)


class Client:
    """A client in its own process and environment. Its functions can be called as this object's methods."""

    def __init__(self, name: str, base: str, stream: str, api_key: str) -> None:
        self._process = subprocess.Popen(
            [python_of(name), STAND_IN, HERE / f"{name.replace('-', '_')}_client.py", api_key],
            env={
                **os.environ,
                "BINANCE_BASE_URL": base,
                "BINANCE_STREAM_URL": stream,
                "PYTHONPATH": f"{PYTHONPATH}:{STAND_IN.parent}",  # a client may import a recipe
            },
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.send(name, *arguments)
            return self.answer()

        return call

    def send(self, name: str, *arguments: Any) -> None:
        """Start a call, without waiting for the result."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Return the result of the call that `send` started. Raises Raised if the client raised an error."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the client has ended"
        answer = json.loads(line)
        if "raised" in answer:
            raise Raised(answer["raised"])
        return answer["returned"]

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Place:
    """A stand-in with one client, which uses ALICE's API key.

    All tests of a module share it, because some clients take seconds to import.
    """

    def __init__(self, name: str) -> None:
        self.clock = VirtualClock()
        self.exchange = Exchange(now=self.clock.timestamp)
        self.exchange.add_account(ALICE)
        self._binance = BinanceServer(self.exchange)
        self._streams = StreamServer(self.exchange)
        self.hosts = sorted(url.partition("://")[2] for url in (self._binance.url, self._streams.url))
        self.client = Client(name, self._binance.url, self._streams.url, ALICE)

    def tidy(self) -> None:
        """Remove what a test left behind: its keys and faults, its weight and its ban."""
        self.exchange.clear_faults()
        self.exchange.requests.clear()
        self.exchange.weight_limits.update(WEIGHT_LIMITS)
        for product in PATHS:
            self.exchange.expire(ALICE, product)
        self.clock.advance(minutes=60)

    def close(self) -> None:
        self.client.end()
        self._streams.stop()
        self._binance.stop()


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    name = request.module.CLIENT
    if not python_of(name).exists():
        pytest.skip(f"{name} is not installed: make clients")
    made = Place(name)
    yield made
    made.close()


@pytest.fixture
def clock(place: Place) -> VirtualClock:
    return place.clock


@pytest.fixture
def exchange(place: Place) -> Iterator[Exchange]:
    yield place.exchange
    place.tidy()


@pytest.fixture
def client(place: Place, exchange: Exchange) -> Client:
    return place.client


def wait_for_listeners(exchange: Exchange, product: str) -> None:
    """Wait until a socket listens. A client's call may return before its subscription has arrived."""
    eventually(lambda: exchange.listeners(exchange.live_key(ALICE, product) or ""), lambda: "nobody listens")
