"""Compares idle UserDataStreams with idle websockets: memory and CPU of each, measured at the same time.

`python -m benchmarks.streams` opens the same number of both, each kind in a process of its own, to a server
that sends nothing. An idle stream pings every 10 seconds and reads the table once a minute; an idle websocket
is one of `websockets.connect`, which pings every 20 seconds. The responders replace DynamoDB. Streams open
five sockets per second, so a thousand of them need over three minutes to start.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from benchmarks.__main__ import machine, spread
from benchmarks.responders import responders

ROOT = Path(__file__).parent.parent
SUBJECTS = {"UserDataStream": "idle_stream", "websockets alone": "idle_websocket"}


async def _say_nothing(socket: ServerConnection) -> None:
    await socket.wait_closed()


def _serve(parent: Connection) -> None:
    async def main() -> None:
        # Binance pings every three minutes.
        async with serve(
            _say_nothing, "127.0.0.1", 0, compression=None, ping_interval=180, backlog=4096
        ) as server:
            parent.send(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(parent.fileno(), ended.set)
            await ended.wait()

    asyncio.run(main())


@contextmanager
def quiet_server() -> Iterator[str]:
    """Run a websocket server that sends nothing, in a process of its own; yield its URL."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def once(count: int, seconds: float) -> dict[str, dict[str, float]]:
    """Measure once; return kB and CPU ms per minute of one stream and of one websocket."""
    with responders(count, tls=False) as up, quiet_server() as url:
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": up.aws_url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "LISTEN_KEYS_TABLE": "ListenKeysTable",
            "BINANCE_STREAM_URL": url,
            "no_proxy": "127.0.0.1",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'functions/keepalive'}",
        }
        processes = {
            name: subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.subjects.{module}", str(count), str(seconds)],
                env=environment,
                stdout=subprocess.PIPE,
            )
            for name, module in SUBJECTS.items()
        }
        said = {name: process.communicate()[0] for name, process in processes.items()}
    assert not any(process.returncode for process in processes.values())
    found: dict[str, Any] = {name: json.loads(text) for name, text in said.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    runs = [once(arguments.count, arguments.seconds) for _ in range(arguments.rounds)]
    print(machine(f"{before:.1f}, {os.getloadavg()[0]:.1f}"))
    print(
        f"Medians of {arguments.rounds} runs, least and most in brackets; {arguments.count:,} of each, idle "
        f"for {arguments.seconds:g} s.\n\n| | kB each | CPU ms a minute each |\n|---|--:|--:|"
    )
    for name in SUBJECTS:
        kb, cpu = ([run[name][what] for run in runs] for what in ("kb", "cpu_ms"))
        print(f"| {name} | {spread(kb, 0)} | {spread(cpu, 2)} |")
    stream, alone = SUBJECTS
    kb, cpu = ([run[stream][what] / run[alone][what] for run in runs] for what in ("kb", "cpu_ms"))
    print(f"| ratio | {spread(kb, 2)} | {spread(cpu, 2)} |")


if __name__ == "__main__":
    main()
