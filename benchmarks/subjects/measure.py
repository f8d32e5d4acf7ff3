"""What a process used: CPU, wall, the most memory it held. Standard library only: peers import it too."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def cpu_seconds() -> float:
    """Return the CPU time of this process, all its threads, in the kernel too."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    """Return the most memory this process ever held, in MB.

    Not ru_maxrss: Linux lets a process start with that of the one that started it.
    """
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@contextmanager
def measured(**also: Any) -> Iterator[dict[str, Any]]:
    """Measure a block, and print what came of it as the process's last line."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    found: dict[str, Any] = dict(also)
    yield found
    found["wall"], found["cpu"] = time.perf_counter() - wall, cpu_seconds() - cpu
    found["cpu_before"], found["peak_mb"] = cpu, peak_mb()
    sys.stdout.write("\n" + json.dumps(found) + "\n")
