"""Hours of ticks and sweeps on the virtual clock, as EventBridge and Lambda would deliver them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from local.clock import VirtualClock
from local.invoke import Context, Invocation
from tests.faults.matrix import SWEEP, TICK

TICK_MINUTES = 30.0
SWEEP_MINUTES = 5.0
RETRY_MINUTES = (1.0, 2.0)  # Lambda tries a failed asynchronous event again after these


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation and what came of it; minutes from the start of the schedule to its own start and end."""

    began: float
    ended: float
    event: dict[str, Any]
    retry: int
    done: Invocation


def follow_schedule(
    invoke: Callable[[Any, Context], Invocation],
    clock: VirtualClock,
    minutes: float,
    first_tick: float = 0.0,
    first_sweep: float = 0.0,
) -> Iterator[Run]:
    """Yield each run of the next `minutes`, after it has ended; the clock then stands at the end of them.

    Runs that would overlap follow each other: a run begins when it is due or when the one before it ends.
    """
    began, numbers = clock.monotonic(), count()
    due: list[tuple[float, int, dict[str, Any], int, str]] = []
    for event, first, every in ((TICK, first_tick, TICK_MINUTES), (SWEEP, first_sweep, SWEEP_MINUTES)):
        minute = first
        while minute < minutes:
            number = next(numbers)
            heapq.heappush(due, (minute, number, event, 0, f"run-{number}"))
            minute += every
    while due:
        minute, _, event, retry, run_id = heapq.heappop(due)
        clock.advance(max(0.0, began + 60 * minute - clock.monotonic()))
        start = (clock.monotonic() - began) / 60
        done = invoke(event, Context(aws_request_id=run_id))
        end = (clock.monotonic() - began) / 60
        if done.error is not None and retry < len(RETRY_MINUTES):
            heapq.heappush(due, (end + RETRY_MINUTES[retry], next(numbers), event, retry + 1, run_id))
        yield Run(start, end, event, retry, done)
    clock.advance(max(0.0, began + 60 * minutes - clock.monotonic()))
