"""Limits a process to a function's share of a processor with a control group (v1 or v2). This needs root."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = 1769  # MB of memory at which a function has one whole processor: Lambda Developer Guide, "Memory"
PERIOD = 20_000  # us: the period that Lambda itself uses, as seen from inside
_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


def usable() -> bool:
    """Return whether this process may create a control group."""
    return os.access(_V1 if _V1.is_dir() else _V2, os.W_OK)


@contextmanager
def share(memory: int) -> Iterator[Path]:
    """Create a control group with the share of a processor that a function with `memory` MB has.

    Yields the file to which a process id must be written to limit the process.
    """
    quota = PERIOD * memory // FULL
    group = (_V1 if _V1.is_dir() else _V2) / f"listenkey-keeper-{os.getpid()}"
    group.mkdir()
    try:
        if _V1.is_dir():
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
            (group / "cpu.shares").write_text("262144")  # the maximum, so that other work takes nothing away
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD}")
            (group / "cpu.weight").write_text("10000")
        yield group / "cgroup.procs"
    finally:
        time.sleep(0.1)  # a process that has ended is still a member for a moment
        group.rmdir()
