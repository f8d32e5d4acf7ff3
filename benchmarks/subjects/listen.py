"""A client's streams in a process of its own: what they hear, what an event costs, what idle ones hold.

Standard library only: peers import it, too. `orders` is an async generator of the numbers of an account's
orders.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from urllib.request import Request, urlopen

from benchmarks.subjects.idle import SETTLE_SECONDS, rss_kb
from benchmarks.subjects.measure import cpu_seconds

REST, STREAMS = os.environ["STAND_IN_REST"], os.environ["STAND_IN_STREAMS"]
Orders = Callable[[int], AsyncIterator[int]]


def api_key(number: int) -> str:
    """Return the API key of an account."""
    return f"bench{number:04}".ljust(64, "0")


def start_listen_key(number: int) -> str:
    """Return the account's listenKey, as Binance answers POST."""
    request = Request(f"{REST}/fapi/v1/listenKey", method="POST", headers={"X-MBX-APIKEY": api_key(number)})
    with urlopen(request) as answer:
        return str(json.load(answer)["listenKey"])


async def _say(orders: Orders, number: int) -> None:
    async for order in orders(number):
        sys.stdout.write(f"{order}\n")
        sys.stdout.flush()


async def _count(orders: Orders, number: int, events: int) -> None:
    """Print the CPU time in ms of each of so many events; the first one only says that the stream is open."""
    began, heard = 0.0, 0
    async for order in orders(number):
        if not heard:
            sys.stdout.write(f"{order}\n")
            sys.stdout.flush()
            began = cpu_seconds()
        heard += 1
        if heard > events:
            sys.stdout.write(json.dumps({"cpu_ms": (cpu_seconds() - began) * 1000 / events}) + "\n")
            return


async def _idle(orders: Orders, count: int, seconds: float) -> None:
    """Print what so many streams hold, in kB each, and use, in ms of CPU a minute each."""

    async def take(number: int) -> None:
        async for _ in orders(number):
            pass

    before = rss_kb()
    tasks = [asyncio.create_task(take(number)) for number in range(count)]
    await asyncio.to_thread(sys.stdin.readline)  # all are open
    await asyncio.sleep(SETTLE_SECONDS)
    kb, cpu = (rss_kb() - before) / count, cpu_seconds()
    await asyncio.sleep(seconds)
    cpu_ms = (cpu_seconds() - cpu) * 1000 * 60 / seconds / count
    assert not any(task.done() for task in tasks)
    sys.stdout.write(json.dumps({"kb": kb, "idle_cpu_ms": cpu_ms}) + "\n")


def main(orders: Orders) -> None:
    """Do what the command line says, and end at once: nobody waits for goodbyes."""
    what, *numbers = sys.argv[1:]
    does = {"say": _say, "count": _count, "idle": _idle}[what]
    asyncio.run(_then_end(does(orders, *map(int, numbers))))  # type: ignore[operator]


async def _then_end(work: "asyncio.Future[None]") -> None:
    await work
    sys.stdout.flush()
    os._exit(0)
