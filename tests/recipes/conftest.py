"""Runs a recipe of examples/clients in a process of its own, where binance.com leads to the stand-in."""

import http
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from local.binance.exchange import PATHS, Answer, Exchange
from local.binance.server import BinanceServer
from local.binance.stream import StreamServer
from local.clock import VirtualClock
from local.world import World
from tests.certificates import self_signed
from tests.paths import PYTHONPATH, ROOT
from tests.stream.relay import Network
from tests.waiting import SECONDS, eventually

RECIPES = ROOT / "examples" / "clients"
STAND_IN = Path(__file__).parent / "stand_in"
API_KEY = "alice".ljust(64, "0")
REPORT = "Listen Key Expired"
# Each recipe, and the interpreter or folder that `make clients` installs for it.
ENVIRONMENTS = {
    "binance_sdk.py": ROOT / ".venv-binance-sdk" / "bin" / "python",
    "ccxt_pro.py": ROOT / ".venv-ccxt" / "bin" / "python",
    "python_binance.py": ROOT / ".venv-python-binance" / "bin" / "python",
    "unicorn.py": ROOT / ".venv-unicorn" / "bin" / "python",
    "binance_sdk.mjs": RECIPES / "node_modules",
    "ccxt_pro.mjs": RECIPES / "node_modules",
}


class Watched:
    """The exchange as the recipe's client reaches it. It notes the client's requests in `sent`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.sent: list[tuple[str, str]] = []

    def handle(self, method: str, path: str, headers: Mapping[str, str], address: str) -> Answer:
        self.sent.append((method, path.partition("?")[0]))
        return self._exchange.handle(method, path, headers, address)


class Streams(StreamServer):
    """The stand-in's websockets, which refuse the next `refusals` handshakes and delay the next one."""

    refusals = 0
    delay = 0.0

    def _look(self, socket: ServerConnection, request: Request) -> Response | None:
        delay, self.delay = self.delay, 0.0
        time.sleep(delay)
        if not self.refusals:
            return super()._look(socket, request)
        self.refusals -= 1
        answer = socket.respond(http.HTTPStatus.TOO_MANY_REQUESTS, "Too many requests.\n")
        answer.headers["Retry-After"] = "1"
        return answer


class Place:
    """The world, the keeper, and a stand-in that uses TLS, for a recipe and its account."""

    def __init__(self, world: World, clock: VirtualClock, function: Any, folder: Path) -> None:
        self.world, self.clock, self.function = world, clock, function
        clock.advance(time.time() - clock.timestamp())  # a recipe has the real clock
        self.exchange = world.exchange
        context, self.certificate = self_signed(folder, "*.binance.com")
        self.watched = Watched(self.exchange)
        self._rest = BinanceServer(self.watched, ssl_context=context)  # type: ignore[arg-type]
        self.streams = Streams(self.exchange, events_required=True, ssl_context=context)
        self.plain_streams = StreamServer(self.exchange, events_required=True)
        self.network = Network(self.streams.port)
        table = world.aws.dynamodb_url or world.aws.endpoint_url
        self.way_to_the_table = Network(int(table.rpartition(":")[2]))
        world.add_account("alice", API_KEY)
        self.keep()

    def keep(self, minutes: float = 5) -> str:
        """Let time pass and run the keeper. Returns the outcome for the account."""
        self.clock.advance(minutes=minutes)
        done = self.function.invoke({"accounts": ["alice"], "force": True})
        assert done.report is not None
        return str(self.world.ledger("alice")[-1]["outcome"])

    def reports(self) -> int:
        """Return how many times somebody reported to the keeper that a key is dead."""
        return sum(event["detail-type"] == REPORT for event in self.world.aws.sent_events())

    def said_dead(self) -> list[bool]:
        """Return of each report whether it said that the key is dead, or only that it may be."""
        return [e["detail"]["dead"] for e in self.world.aws.sent_events() if e["detail-type"] == REPORT]

    def hand_over_report(self, seconds: float = 0) -> str:
        """Let time pass and give the latest report to the keeper. Returns the outcome of the last attempt."""
        self.clock.advance(seconds=seconds)
        report = [event for event in self.world.aws.sent_events() if event["detail-type"] == REPORT][-1]
        self.function.invoke(report)
        return str(self.world.current("alice")["outcome"])

    def listen_key_requests(self) -> list[tuple[str, str]]:
        """Return the requests about listenKeys that the recipe's client has sent to Binance."""
        return [request for request in self.watched.sent if "listenKey" in request[1]]

    def environment(self, recipe: Path) -> dict[str, str]:
        """Return the environment of a recipe's process."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": f"{STAND_IN}:{PYTHONPATH}",
            "NODE_OPTIONS": f"--require={STAND_IN / 'stand_in.cjs'}",
            "NODE_EXTRA_CA_CERTS": str(self.certificate),
            "STAND_IN_CERTIFICATE": str(self.certificate),
            "STAND_IN_REST": str(self._rest.port),
            "STAND_IN_STREAMS": str(self.network.port),
            "STAND_IN_RECIPE": str(recipe),
            "BINANCE_API_KEY": API_KEY,
            "BINANCE_API_SECRET": "s" * 64,
            **self.world.aws.environment(),
            # Needed because the stack's Binance is the stand-in, so its records have no websocket host.
            "BINANCE_STREAM_URL": "wss://fstream.binance.com",
            "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{self.way_to_the_table.port}",
        }

    def local_environment(self) -> dict[str, str]:
        """Return the environment of a program under .local/with."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{PYTHONPATH}:{RECIPES}",
            **self.world.environment(),
            "BINANCE_STREAM_URL": self.plain_streams.url,
        }

    def close(self) -> None:
        self.plain_streams.stop()
        self.network.close()
        self.way_to_the_table.close()
        self.streams.stop()
        self._rest.stop()


def command(name: str) -> list[str]:
    """Return the command that starts a recipe. Skips the test if the recipe's client is not installed."""
    if not ENVIRONMENTS[name].exists():
        pytest.skip(f"{name}: its client is not installed: make clients")
    program = str(ENVIRONMENTS[name]) if name.endswith(".py") else "node"
    return [program, str(RECIPES / name)]


class Recipe:
    """A running recipe. It prints a line for each order: `number symbol status`."""

    def __init__(self, place: Place, started: list[str], environment: dict[str, str]) -> None:
        self._place = place
        self._process = subprocess.Popen(
            started,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A shell's background jobs ignore Ctrl-C, and the recipe would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.heard: list[str] = []
        self.complaints: list[str] = []
        self._next_order = 0.0
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout, self.heard)),
            threading.Thread(target=self._read, args=(self._process.stderr, self.complaints)),
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))

    def hears_orders(self, what: str, emit: Callable[[str], int] | None = None) -> None:
        """Emit orders, at most one per second, until the recipe has printed one of them."""
        numbers: list[str] = []

        def heard() -> bool:
            assert self._process.poll() is None, f"the recipe has ended:\n{self._said()}"
            if time.monotonic() >= self._next_order:
                self._next_order = time.monotonic() + 1
                numbers.append(str((emit or self._place.exchange.emit_order)(API_KEY)))
            return any(line.partition(" ")[0] in numbers for line in self.heard)

        eventually(heard, lambda: f"no order is heard {what}:\n{self._said()}")

    def _said(self) -> str:
        return "\n".join(self.heard[-5:] + self.complaints[-20:])

    def interrupt(self) -> str:
        """Interrupt the recipe as Ctrl-C does, wait until it has ended, and return what it complained of."""
        before = len(self.complaints)
        self._process.send_signal(signal.SIGINT)
        self._process.wait(SECONDS)
        for thread in self._threads:
            thread.join()
        return "\n".join(self.complaints[before:])

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream
            stream.close()


@pytest.fixture
def place(world: World, clock: VirtualClock, function: Any, tmp_path: Path) -> Iterator[Place]:
    made = Place(world, clock, function, tmp_path)
    yield made
    made.close()


@pytest.fixture
def recipe(request: pytest.FixtureRequest, place: Place) -> Iterator[Recipe]:
    made = Recipe(place, command(request.param), place.environment(RECIPES / request.param))
    yield made
    made.end()


def another_process_takes_the_stream(exchange: Exchange) -> None:
    """End the listenKey and create another, as another client of the account might."""
    for method in ("DELETE", "POST"):
        answer = exchange.handle(method, PATHS["usdm"], {"X-MBX-APIKEY": API_KEY})
        assert answer.status == 200, json.loads(answer.body)
