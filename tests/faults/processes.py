"""The real handler in processes of its own, several at once, against one AWS and one stand-in.

`python -m tests.faults.processes` is one such process: it reads an invocation a line and answers with what
came of it. All share one clock, which runs fast, so that the minutes of a weight budget take seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from typing import Any, Self

from listenkeys.aws.records import Records, Saved
from listenkeys.model import Result
from local.binance.exchange import PATHS
from local.clock import ScaledClock
from local.invoke import Context, LocalFunction
from local.world import World
from tests.faults.matrix import api_key_of
from tests.leaks import search

_CLOCK = "TEST_CLOCK"
_EARLIER = timedelta(minutes=40)  # due for a tick and for a sweep


@dataclass(frozen=True, slots=True)
class Ended:
    """What an invocation returned or raised, what it printed, and the seconds that Lambda had left for it.

    `recorded`: the clock minute in which each account's result was written.
    """

    report: dict[str, Any] | None
    raised: str
    output: str
    remaining: float
    recorded: dict[str, int]


class Handler:
    """A process with the handler loaded, from construction until the end of the `with` block."""

    def __init__(self, world: World, clock: ScaledClock, **variables: str) -> None:
        self._exchange = world.exchange
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.processes"],
            env={
                **os.environ,
                **world.environment(),
                **variables,
                _CLOCK: clock.text,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def ready(self) -> None:
        """Wait until the handler is loaded."""
        assert self._line() == "ready"

    def start(self, event: dict[str, Any], seconds: float = 300.0, run_id: str = "run") -> None:
        """Invoke the handler; Lambda would end it after `seconds` of the clock."""
        assert self._process.stdin
        asked = {"event": event, "seconds": seconds, "run_id": run_id}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()

    def ended(self) -> Ended:
        """Wait for the end of the invocation, and search what it said for keys."""
        done = self._line()
        live = [lease.listen_key for lease in self._exchange._leases.values()]
        search([*self._exchange._accounts, *live], [json.dumps(done)])
        return Ended(**done)

    def kill(self) -> None:
        """End the process as Lambda does: at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def _line(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the process has died"
        return json.loads(line)


def at_the_next_minute(clock: ScaledClock) -> int:
    """Wait for the clock's next minute to begin; return its number (epoch s // 60)."""
    clock.sleep(60.0 - clock.timestamp() % 60)
    while clock.timestamp() % 60 > 59:  # a sleep may end a moment early
        time.sleep(0.001)
    return int(clock.timestamp() // 60)


def add_due(world: World, clock: ScaledClock, names: Iterable[str], product: str = "usdm") -> None:
    """Add accounts with live keys whose records say that they were renewed 40 minutes ago."""
    names, secret = list(names), f"listenkeys/{product}"
    world.put_secret(secret, {name: api_key_of(name) for name in names})
    for name in names:
        world.exchange.add_account(api_key_of(name), [product])
        answer = world.exchange.handle("POST", PATHS[product], {"X-MBX-APIKEY": api_key_of(name)})
        world.put_row(name, product=product, secretId=secret, secretField=name)
        key = json.loads(answer.body)["listenKey"]
        world.put_current(name, key, clock.now() - _EARLIER, product=product)
    world.exchange.requests.clear()


def asked(world: World, method: str = "PUT") -> Counter[str]:
    """Return how often each API key came with this method."""
    return Counter(str(r.api_key) for r in world.exchange.requests if r.method == method)


@dataclass(slots=True)
class _Context(Context):
    """Lambda's context object, whose time runs out."""

    clock: ScaledClock | None = None
    began: float = 0.0

    def get_remaining_time_in_millis(self) -> int:
        assert self.clock
        return int(1000 * (self.remaining_seconds - (self.clock.monotonic() - self.began)))


def _main() -> None:
    clock = ScaledClock.of(os.environ[_CLOCK])
    function = LocalFunction(os.environ, clock.clock)
    keeper, recorded = function.app.keeper, dict[str, int]()

    class Noting(Records):
        def save(self, results: Sequence[Result], run_id: str) -> Saved:
            saved = Records.save(self, results, run_id)
            recorded.update(dict.fromkeys((r.account_id for r in results), int(clock.timestamp() // 60)))
            return saved

    records = Noting(*(getattr(keeper.records, field.name) for field in fields(Records)))
    function.app.keeper = replace(keeper, records=records)
    _tell("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        recorded.clear()
        context = _Context(asked["seconds"], asked["run_id"], clock=clock, began=clock.monotonic())
        done = function.invoke(asked["event"], context)
        ended = Ended(
            done.report,
            f"{type(done.error).__name__}: {done.error}" if done.error else "",
            done.output,
            context.get_remaining_time_in_millis() / 1000,
            recorded,
        )
        _tell(asdict(ended))


def _tell(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
