"""What many idle things of one process need: kB and CPU ms a minute each."""

import asyncio
import gc
import json
import sys
from collections.abc import Awaitable, Callable

from benchmarks.subjects.measure import cpu_seconds

SETTLE_SECONDS = 5.0


def rss_kb() -> int:
    """Return the memory that this process holds now, in kB."""
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith("VmRSS")]
    return int(line.split()[1])


async def measure(open_all: Callable[[int], Awaitable[object]]) -> None:
    """Open them, let them idle, and print what that took of this process."""
    count, seconds = int(sys.argv[1]), float(sys.argv[2])
    gc.collect()
    before = rss_kb()
    opened = await open_all(count)
    await asyncio.sleep(SETTLE_SECONDS)
    gc.collect()
    kb, cpu = (rss_kb() - before) / count, cpu_seconds()
    await asyncio.sleep(seconds)
    cpu_ms = (cpu_seconds() - cpu) * 1000 * 60 / seconds / count
    sys.stdout.write(json.dumps({"kb": kb, "cpu_ms": cpu_ms}))
    del opened
