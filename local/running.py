"""A world that stays: how other processes find it, and the commands in .local that reach it.

`python -m local down` ends it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

STATE = Path(".local/world.json")
START_SECONDS, END_SECONDS = 60, 10
IN_USE = 3  # how a second world of this directory ends
_ROOT = Path(__file__).resolve().parent.parent
_PYTHONPATH = f"{_ROOT}/functions/keepalive:{_ROOT}"


def running_world() -> dict[str, Any] | None:
    """Return the state of the world that is up, None when there is none."""
    try:
        found: dict[str, Any] = json.loads(STATE.read_text())
        os.kill(found["pid"], 0)
    except (OSError, ValueError):
        return None
    return found


def running_environment() -> Mapping[str, str]:
    """Return the environment of the world that is up, after starting one in the background if none is."""
    found = running_world()
    if found is None:
        log = STATE.with_name("world.log")
        log.parent.mkdir(exist_ok=True)
        with log.open("w") as output:
            # A pipe of this process's would not end before the world does: `make run KEEP=1 | less`.
            process = subprocess.Popen(
                [sys.executable, "-m", "local", "up", "--still"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        # If another process has just started a world, ours ends and the other is found.
        while (found := running_world()) is None:
            if process.poll() not in (None, IN_USE) or time.monotonic() > deadline:
                raise SystemExit(f"the local world did not start: see {log}")
            time.sleep(0.1)
    environment: dict[str, str] = found["environment"]
    return environment


class StopSignal:
    """Says whether this process must end: after Ctrl-C, after `make down`, or when its terminal is closed."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._receive)

    def wait(self, ended: threading.Event | None = None) -> None:
        """Wait for the signal, or for `ended`."""
        while not self.received and not (ended and ended.is_set()):
            time.sleep(0.1)

    def _receive(self, *_: object) -> None:
        # Not an Event: signals come in twos, the second while the first's handler holds the lock.
        self.received = True


@contextmanager
def alone() -> Iterator[None]:
    """Be the only world of this directory, for a while. Raises BlockingIOError where there is one already."""
    STATE.parent.mkdir(exist_ok=True)
    folder = os.open(STATE.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(folder)


@contextmanager
def state(environment: Mapping[str, str]) -> Iterator[None]:
    """Let other processes find this world, for a while."""
    waiting = STATE.with_suffix(".new")
    waiting.write_text(json.dumps({"pid": os.getpid(), "environment": dict(environment)}))
    waiting.replace(STATE)
    try:
        yield
    finally:
        STATE.unlink(missing_ok=True)


@contextmanager
def commands(environment: Mapping[str, str]) -> Iterator[None]:
    """Keep three commands in .local that reach this world, and no other, from any terminal."""
    listenkeys, binance, with_it = (STATE.with_name(name) for name in ("listenkeys", "binance", "with"))
    python = f"exec {shlex.quote(sys.executable)} -m"
    path = f"export PYTHONPATH={shlex.quote(_PYTHONPATH)}\n"
    # A world that was killed leaves these behind.
    lines = [
        f"kill -0 {os.getpid()} 2>/dev/null || {{ echo 'the local world is down: make up' >&2; exit 2; }}"
    ]
    # Whatever AWS settings a person's own terminal has, they must not reach this world's AWS.
    lines += [r"unset $(env | sed -n 's/^\(AWS_[A-Za-z0-9_]*\)=.*/\1/p')"]
    lines += [
        f"export {name}={shlex.quote(value)}"
        for name, value in environment.items()
        if name.startswith(("AWS_", "LISTENKEYS_", "LISTEN_KEYS_", "BINANCE_")) or name.lower() == "no_proxy"
    ]
    scripts = {
        listenkeys: "\n".join(lines) + f'\n{path}{python} listenkey_keeper.cli.main "$@"\n',
        # It looks for .local/world.json.
        binance: f'cd {shlex.quote(os.getcwd())} || exit\n{path}{python} local.front "$@"\n',
        # A program of the user's own, with this world's environment. Where there is no `python`, this one's.
        with_it: "\n".join(lines)
        + f'\nexport PATH="$PATH:"{shlex.quote(str(Path(sys.executable).parent))}'
        + f'\nexport PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}"{shlex.quote(_PYTHONPATH)}'
        + '\nexec "$@"\n',
    }
    try:
        for file, text in scripts.items():
            file.write_text("#!/bin/sh\n# Made by the local world that is up; gone when it ends.\n" + text)
            file.chmod(0o755)
        yield
    finally:
        for file in scripts:
            file.unlink(missing_ok=True)


def main(_: list[str]) -> int:
    """End the world that is up, and wait until it has ended."""
    found = running_world()
    if not found:
        print("no local world is up")
        return 0
    with suppress(ProcessLookupError):
        os.kill(found["pid"], signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        with suppress(BlockingIOError), alone():
            print("the local world is down")
            return 0
        time.sleep(0.05)
    raise SystemExit(f"the local world (process {found['pid']}) does not end")
