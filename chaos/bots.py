"""Ten bots in one process (`python -m chaos.bots FILE`), each with a real UserDataStream.

Writes each item when it arrives, and reports when it starts and stops waiting for the time, as chaos.handler
does.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import boto3
import botocore.endpoint
from botocore.config import Config

from chaos.handler import teller
from chaos.timekeeper import SharedTime
from listenkey_keeper import Gap, Interrupted, ListenKeys, UserDataStream
from listenkey_keeper.stream import threads


class _Timer:
    def __init__(self, time: StreamTime, number: int, callback: Callable[[], object]) -> None:
        self._time, self._number, self._callback = time, number, callback

    def cancel(self) -> None:
        self._time.forget(self._number)

    def ring(self) -> None:
        if self._time.forget(self._number):
            self._callback()


class StreamTime:
    """The shared time as a stream's clock. Use it only in the thread of the event loop."""

    def __init__(self, time: SharedTime, tell: Callable[[object], None]) -> None:
        self._time, self._tell = time, tell
        self._numbers = 0
        self._waiting: dict[int, tuple[float, _Timer]] = {}

    def now(self) -> datetime:
        """Return the time, aware UTC."""
        return datetime.fromtimestamp(self._time.get(), UTC)

    def monotonic(self) -> float:
        """Return the seconds since a fixed moment in the past."""
        return self._time.get()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> _Timer:
        """Call `callback` in the event loop after this many seconds."""
        self._numbers += 1
        ends, timer = self._time.get() + max(0.0, seconds), _Timer(self, self._numbers, callback)
        self._waiting[self._numbers] = ends, timer
        if seconds <= 0:
            asyncio.get_running_loop().call_soon(timer.ring)
        else:
            self._tell([self._numbers, ends])
        return timer

    def forget(self, number: int) -> bool:
        """Cancel a timer. Return whether it was still waiting."""
        if self._waiting.pop(number, None) is None:
            return False
        self._tell([number, None])
        return True

    def moved_on(self) -> None:
        """Call the callbacks that are due, because the time has moved."""
        now = self._time.get()
        for _, timer in sorted((w for w in self._waiting.values() if w[0] <= now), key=lambda w: w[0]):
            timer.ring()
        self._tell("time")


async def _bot(stream: UserDataStream, tell: Callable[[object], None], time: SharedTime) -> None:
    async with stream:
        async for item in stream:
            told: dict[str, object] = {"account": stream.account, "at": time.get()}
            if isinstance(item, Gap):
                told |= {"gap": [item.since.timestamp(), item.until.timestamp()], "why": item.why}
            elif isinstance(item, Interrupted):
                told |= {"interrupted": item.since.timestamp(), "why": item.why}
            elif item.get("e") == "ORDER_TRADE_UPDATE":
                told["order"] = item["o"]["i"]
            else:
                continue
            tell(told)


async def _main() -> None:
    # Random numbers would depend on which socket is quicker, and so on the machine.
    random.uniform, random.random = lambda least, most: (least + most) / 2, lambda: 0.5  # type: ignore[assignment]
    botocore.endpoint.time = SimpleNamespace(sleep=lambda seconds: None)  # type: ignore[attr-defined]
    tell, time = teller(), SharedTime(Path(sys.argv[1]))
    stream_time, loop = StreamTime(time, tell), asyncio.get_running_loop()
    threads._COUNT = 64  # a thread for each call: with fewer, results depend on which socket is quicker
    dynamodb = boto3.client("dynamodb", config=Config(retries={"total_max_attempts": 1}, read_timeout=60))
    streams = [
        UserDataStream(
            account,
            ListenKeys(os.environ["LISTEN_KEYS_TABLE"], dynamodb=dynamodb, base_url=url),
            clock=stream_time,
        )
        for account, url in json.loads(os.environ["BOTS"]).items()
    ]

    def listen() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(stream_time.moved_on)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    tell("ready")
    await asyncio.gather(*(_bot(stream, tell, time) for stream in streams))


if __name__ == "__main__":
    asyncio.run(_main())
