"""A process with the real handler: `python -m chaos.handler FILE`. FILE contains the time.

Reads a line for each invocation, and one whenever the time has moved. Writes a line when a thread starts or
stops sleeping, and one with the result of each invocation. `Handler` is the harness's side of it.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryFile
from types import SimpleNamespace
from typing import Any

from chaos.timekeeper import SharedTime
from listenkeys.clock import Clock
from local.invoke import Context, LocalFunction

BLOCK = 65536
PATIENT = 600.0  # real seconds
_TIME = object()  # put into a queue when the time has moved


class Process:
    """The harness's side of a process that uses the shared time. It runs from construction until `kill`."""

    def __init__(self, module: str, number: int, time_file: Path, environment: Mapping[str, str]) -> None:
        self.number = number
        self.ready = False
        self.sleepers: dict[int, float] = {}  # when each sleep ends, by the process's own numbers
        self.acknowledged = True
        self._errors = TemporaryFile()  # noqa: SIM115 - closed by kill()
        self._buffer = b""
        path = [*environment.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(time_file)],
            env={**os.environ, "PYTHONHASHSEED": "0", **environment, "PYTHONPATH": os.pathsep.join(path)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self.pid = self._process.pid

    def wake(self) -> None:
        """Tell the process that the time has moved."""
        self.acknowledged = False
        self.tell("time")

    def hears(self) -> bool:
        """Whether there is something to `read`."""
        return bool(self._process.stdout and select.select([self._process.stdout], [], [], 0)[0])

    def read(self) -> Iterator[dict[str, Any]]:
        """Read the messages of the process. Yield those that are not about the time.

        Raises EOFError if the process has died.
        """
        assert self._process.stdout
        block = os.read(self._process.stdout.fileno(), BLOCK)
        if not block:
            raise EOFError(f"a process has died: {self.errors()[-2000:]}")
        *lines, self._buffer = (self._buffer + block).split(b"\n")
        for line in map(json.loads, lines):
            if line == "ready":
                self.ready = True
            elif line == "time":
                self.acknowledged = True
            elif isinstance(line, list):
                number, until = line
                if until is None:
                    self.sleepers.pop(number, None)
                else:
                    self.sleepers[number] = until
            else:
                yield line

    def errors(self) -> str:
        """Return what the process has printed to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def kill(self) -> str:
        """Kill the process at once, as Lambda does. Return what it has printed to standard error."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        errors = self.errors()
        self._errors.close()
        return errors

    def tell(self, what: object) -> None:
        """Write a line to the process."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()


class Handler(Process):
    """A process with the real handler."""

    def __init__(self, number: int, time_file: Path, environment: Mapping[str, str]) -> None:
        super().__init__("chaos.handler", number, time_file, environment)

    def invoke(self, handler: str, event: Any, run_id: str, seconds: float, seed: str) -> None:
        """Start an invocation with a timeout of `seconds`. Its random numbers depend on `seed`."""
        asked = {"handler": handler, "event": event, "runId": run_id, "seconds": seconds, "seed": seed}
        self.tell(asked)


def teller() -> Callable[[object], None]:
    """Return a function that writes a message to the harness, as a line of JSON."""
    lock, descriptor = threading.Lock(), os.dup(1)

    def tell(what: object) -> None:
        with lock:
            left = json.dumps(what).encode() + b"\n"
            while left:
                left = left[os.write(descriptor, left) :]

    return tell


class _Time:
    """The program's clock in the process of the handler."""

    def __init__(self, time: SharedTime, tell: Callable[[object], None]) -> None:
        self._time = time
        self._tell = tell
        self._lock = threading.Lock()
        self._numbers = 0
        self._waiting: dict[int, tuple[float, SimpleQueue[Any]]] = {}

    @property
    def clock(self) -> Clock:
        return Clock(self.now, self._time.get, self.sleep, self.get)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._time.get(), UTC)

    def sleep(self, seconds: float) -> None:
        self.get(SimpleQueue(), seconds)

    def get(self, queue: SimpleQueue[Any], seconds: float) -> Any:
        """Wait as Clock.get does. Only one thread may take from a queue."""
        ends = self._time.get() + seconds
        with self._lock:
            self._numbers += 1
            number = self._numbers
            self._waiting[number] = ends, queue
        self._tell([number, ends])
        item: Any = _TIME
        while item is _TIME and (self._time.get() < ends or not queue.empty()):
            item = queue.get()
        with self._lock:
            del self._waiting[number]
            # Remove _TIME from the queue: others that take from it do not expect it.
            others = [queue.get() for _ in range(queue.qsize())]
            for other in others:
                if other is not _TIME:
                    queue.put(other)
        self._tell([number, None])
        return None if item is _TIME else item

    def moved_on(self) -> None:
        """Wake the threads whose sleep is over."""
        with self._lock:
            for ends, queue in self._waiting.values():
                if ends <= self._time.get():
                    queue.put(_TIME)


@dataclass(slots=True)
class _Context(Context):
    """Lambda's context object, whose remaining time follows the shared time."""

    time: SharedTime | None = None
    ends: float = 0.0

    def get_remaining_time_in_millis(self) -> int:
        assert self.time
        return int(1000 * (self.ends - self.time.get()))


def main() -> None:
    tell = teller()
    shared = SharedTime(Path(sys.argv[1]))
    time = _Time(shared, tell)
    import botocore.endpoint

    from listenkeys.binance import transport

    botocore.endpoint.time = SimpleNamespace(sleep=time.sleep)  # type: ignore[attr-defined] # its back-off
    transport.time = SimpleNamespace(monotonic=shared.get)  # type: ignore[attr-defined,assignment]
    # On a busy machine an answer may take long in real time, while no virtual time passes.
    settimeout = socket.socket.settimeout
    socket.socket.settimeout = lambda own, seconds: settimeout(own, seconds and PATIENT)  # type: ignore[method-assign]
    function = LocalFunction(os.environ, time.clock)
    invocations: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            asked = json.loads(line)
            if asked == "time":
                time.moved_on()
                tell("time")
            else:
                invocations.put(asked)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    tell("ready")
    while True:
        asked = invocations.get()
        ends = shared.get() + asked["seconds"]
        random.seed(asked["seed"])
        context = _Context(asked["seconds"], asked["runId"], time=shared, ends=ends)
        done = function.invoke(asked["event"], context, asked["handler"])
        raised = f"{type(done.error).__name__}: {done.error}" if done.error else ""
        tell({"report": done.report, "raised": raised, "output": done.output, "left": ends - shared.get()})


if __name__ == "__main__":
    main()
