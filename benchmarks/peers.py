"""Compares UserDataStream with python-binance, ccxt and plain websockets, on one server, in one run.

It measures the CPU per event, the memory and CPU of an idle stream, and for how long no event arrives after a
lost socket, a change of the key, an early death of the key, and a silent loss of the network (half-open TCP).
Each client is used as its documentation shows, in its own process and Python environment. Binance is the
stand-in, in real time.

`python -m benchmarks.peers` prints a table. Most of the time it waits until a client receives events again,
at most `--most` seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.__main__ import machine, spread
from benchmarks.subjects.measure import cpu_seconds
from local.binance.exchange import PATHS, Exchange
from local.invoke import LocalFunction
from local.world import World
from tests.stream.relay import Network
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent
OURS = "UserDataStream"
SUBJECTS = {
    OURS: (Path(sys.executable), "listen_user_data_stream"),
    "python-binance": (ROOT / ".venv-python-binance/bin/python", "listen_python_binance"),
    "ccxt": (ROOT / ".venv-ccxt/bin/python", "listen_ccxt"),
    "websockets alone": (Path(sys.executable), "listen_websockets"),
}
EVERY_SECONDS = 0.25  # between two orders of an account, so the precision of a measured silence
PAUSE = 1 / 500  # seconds between two events when CPU is measured


def api_key(number: int) -> str:
    return f"bench{number:04}".ljust(64, "0")


class Subject:
    """A client's process. `heard` has the monotonic time at which it reported each order."""

    def __init__(self, name: str, environment: dict[str, str], *arguments: object) -> None:
        python, module = SUBJECTS[name]
        self.process = subprocess.Popen(
            [python, "-m", f"benchmarks.subjects.{module}", *map(str, arguments)],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.heard: dict[int, float] = {}
        self.result: dict[str, float] = {}
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            said = json.loads(line)
            if isinstance(said, dict):
                self.result = said
            else:
                self.heard[said] = time.monotonic()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()


class Place:
    """The world, its stand-in, and a keeper that renews an account when a client reports a dead key."""

    def __init__(self, accounts: int) -> None:
        self.world = World(exchange=Exchange(weight_limits={"futures": 10**9}), streams=True)
        assert self.world.streams
        self.exchange, self.streams = self.world.exchange, self.world.streams
        self._function, self._lock = LocalFunction(self.world.environment()), threading.Lock()
        for number in range(accounts):
            self.world.add_account(f"bench{number}", api_key(number))
            answer = self.exchange.handle("POST", PATHS["usdm"], {"X-MBX-APIKEY": api_key(number)})
            self.world.put_current(f"bench{number}", json.loads(answer.body)["listenKey"], datetime.now(UTC))
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._answer_who_asks)
        self._keeper.start()

    def environment(self, port: int) -> dict[str, str]:
        """Return the environment of a client that connects to the stand-in's websockets on this port."""
        url = f"ws://127.0.0.1:{port}"
        return {
            **os.environ,
            **self.world.environment(),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'functions/keepalive'}",
            "STAND_IN_REST": self.world.binance_url,
            "STAND_IN_STREAMS": url,
            "BINANCE_STREAM_URL": url,
        }

    def keep(self, account: str) -> None:
        """Have the keeper renew an account."""
        with self._lock:
            self._function.invoke({"accounts": [account], "force": True})

    def _answer_who_asks(self) -> None:
        answered = 0
        while not self._ended.wait(0.1):
            asked = [e for e in self.world.aws.sent_events() if e["detail-type"] == "Listen Key Expired"]
            for event in asked[answered:]:
                self.keep(event["detail"]["accountId"])
            answered = len(asked)

    def close(self) -> None:
        self._ended.set()
        self._keeper.join()
        self.world.close()


class Group:
    """One process of each client, each with its own account. The group has its own network."""

    def __init__(self, place: Place, number: int, what: str, *arguments: object) -> None:
        self.place, self.network = place, Network(place.streams.port)
        self.accounts = {name: number * len(SUBJECTS) + n for n, name in enumerate(SUBJECTS)}
        environment = place.environment(self.network.port)
        self.subjects = {
            name: Subject(name, environment, what, account, *arguments)
            for name, account in self.accounts.items()
        }

    def order(self, name: str) -> int:
        """Emit an order for a client's account, and return its number."""
        assert self.subjects[name].process.poll() is None, f"{name} has ended"
        return self.place.exchange.emit_order(api_key(self.accounts[name]))

    def all_hear(self) -> None:
        """Wait until each client has received an order."""

        def heard(name: str) -> bool:
            self.order(name)
            time.sleep(EVERY_SECONDS)
            return bool(self.subjects[name].heard)

        for name in SUBJECTS:
            eventually(lambda n=name: heard(n), lambda n=name: f"{n} hears nothing")

    def close(self) -> None:
        for subject in self.subjects.values():
            subject.end()
        self.network.close()


@contextmanager
def group(place: Place, number: int, what: str, *arguments: object) -> Iterator[Group]:
    """Run all clients until the block ends. When the block starts, each has received an order."""
    made = Group(place, number, what, *arguments)
    try:
        made.all_hear()
        yield made
    finally:
        made.close()


def event_cpu(place: Place, events: int) -> dict[str, float]:
    """Measure the clients one after the other; return the CPU ms per event of each."""
    with group(place, 0, "count", events) as clients:
        for name, subject in clients.subjects.items():
            while not subject.result:
                clients.place.exchange.emit_order(api_key(clients.accounts[name]))
                time.sleep(PAUSE)
        return {name: subject.result["cpu_ms"] for name, subject in clients.subjects.items()}


def idle(place: Place, count: int, seconds: int) -> dict[str, dict[str, float]]:
    """Measure the clients one after the other; return the memory and CPU of an idle stream of each."""
    found = {}
    for name in SUBJECTS:
        subject = Subject(name, place.environment(place.streams.port), "idle", count, seconds)
        try:
            while place.streams.connections < count:  # a hundred clients of ccxt take a while
                assert subject.process.poll() is None, f"{name} has ended"
                time.sleep(0.1)
            assert subject.process.stdin
            subject.process.stdin.write("\n")
            subject.process.stdin.flush()
            subject.process.wait(seconds + 60)
            eventually(lambda s=subject: s.result)
            found[name] = subject.result
        finally:
            subject.end()
        eventually(lambda: not place.streams.connections)
    return found


def lose_the_socket(clients: Group) -> None:
    clients.place.streams.drop_connections()


def change_the_key(clients: Group) -> None:
    """Replace the keys as another process would, then run the keeper for UserDataStream's account."""
    for account in clients.accounts.values():
        clients.place.exchange.rotate(api_key(account), "usdm")
    clients.place.keep(f"bench{clients.accounts[OURS]}")


def let_the_key_die(clients: Group) -> None:
    for account in clients.accounts.values():
        clients.place.exchange.expire(api_key(account), "usdm")


def let_the_network_die(clients: Group) -> None:
    clients.network.die()


FAULTS: dict[str, Callable[[Group], None]] = {
    "a lost socket": lose_the_socket,
    "a change of the key": change_the_key,
    "an early death of the key": let_the_key_die,
    "half-open TCP": let_the_network_die,
}


def silence(place: Place, what: str, most: float) -> dict[str, float]:
    """Return how many seconds each client receives nothing after a fault; `most` if it takes longer."""
    with group(place, list(FAULTS).index(what), "say") as clients:
        began = time.monotonic()
        FAULTS[what](clients)
        sent: dict[str, set[int]] = {name: set() for name in SUBJECTS}
        found: dict[str, float] = {}
        while len(found) < len(SUBJECTS) and time.monotonic() - began < most:
            for name in sent.keys() - found.keys():
                sent[name].add(clients.order(name))
                heard = clients.subjects[name].heard
                if at := [heard[order] for order in sent[name] & heard.keys()]:
                    found[name] = min(at) - began
            time.sleep(EVERY_SECONDS)
    return {name: found.get(name, most) for name in SUBJECTS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="of what takes CPU and memory")
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--idle", type=int, default=100, help="streams of each client")
    parser.add_argument("--seconds", type=int, default=60, help="for which they idle")
    parser.add_argument("--most", type=float, default=600, help="seconds of silence to wait for")
    arguments = parser.parse_args()
    before, used = os.getloadavg()[0], cpu_seconds()
    place = Place(max(arguments.idle, len(FAULTS) * len(SUBJECTS)))
    try:
        cpu, held = [], []
        for number in range(arguments.rounds):
            print(f"{number + 1}/{arguments.rounds}: events, idle streams", file=sys.stderr)
            cpu.append(event_cpu(place, arguments.events))
            held.append(idle(place, arguments.idle, arguments.seconds))
        print("silences", file=sys.stderr)
        first, *others = FAULTS  # the first closes all sockets of the server, so it must run alone
        silences = [silence(place, first, arguments.most)]
        with ThreadPoolExecutor() as threads:
            silences += threads.map(lambda what: silence(place, what, arguments.most), others)
    finally:
        place.close()
    print(machine(f"{before:.1f}, {os.getloadavg()[0]:.1f}"))
    print(
        f"CPU and memory: medians of {arguments.rounds} runs, least and most in brackets. "
        "Silences: one run, in seconds.\n"
    )
    print("| | CPU ms an event | kB an idle stream | its CPU ms a minute | " + " | ".join(FAULTS) + " |")
    print("|---|" + "--:|" * (3 + len(FAULTS)))
    for name in SUBJECTS:
        numbers = [
            spread([run[name] for run in cpu], 3),
            spread([run[name]["kb"] for run in held], 0),
            spread([run[name]["idle_cpu_ms"] for run in held], 2),
            *(_seconds(found[name], arguments.most) for found in silences),
        ]
        print(f"| {name} | " + " | ".join(numbers) + " |")
    print(f"\nThe server, the keeper and AWS took {cpu_seconds() - used:.0f} s of CPU in another process.")


def _seconds(value: float, most: float) -> str:
    return f"over {most:.0f}" if value >= most else f"{value:.1f}"


if __name__ == "__main__":
    main()
