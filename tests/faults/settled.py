"""The function by a clock that stands still while a request is under way.

The virtual clock otherwise moves on in no time while other workers' requests are on the wire, and a request
then arrives at the stand-in minutes after it was sent. Where it matters when a request arrives, use this.
"""

from __future__ import annotations

import threading
from dataclasses import fields
from typing import Any

from listenkeys.binance.client import Answer, BinanceClient
from listenkeys.binance.pacing import WeightBudget
from listenkeys.keeper import Keeper
from local.clock import VirtualClock
from local.invoke import LocalFunction


class SettledClock(VirtualClock):
    """Time that moves only when every request that was let go has been answered."""

    def __init__(self) -> None:
        super().__init__()
        self._under_way = 0
        self._changed = threading.Condition()

    def count(self, by: int) -> None:
        with self._changed:
            self._under_way += by
            self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._under_way == 0, timeout=30)
        super().sleep(seconds)


def settle(
    function: LocalFunction,
    clock: SettledClock,
    binance: type[BinanceClient] = BinanceClient,
    **others: Any,
) -> LocalFunction:
    """Let the function's requests hold the clock; returns the function.

    `binance` is the client's class; `others` take the place of the keeper's other collaborators.
    """

    class Client(binance):  # type: ignore[misc, valid-type]
        def _request(self, *args: Any) -> Answer:
            try:
                return super()._request(*args)
            finally:
                clock.count(-1)

    class Settled(Keeper):
        def budget_of(self, *args: Any) -> WeightBudget:
            budget = super().budget_of(*args)
            if "take" not in vars(budget):
                take = budget.take
                budget.take = lambda: (clock.count(+1), take())[1]  # type: ignore[func-returns-value, method-assign]
            return budget

    keeper = function.app.keeper
    parts = {field.name: getattr(keeper, field.name) for field in fields(keeper)}
    client = Client(clock.now, parts["binance"].host_of("usdm"), pool_size=keeper.max_concurrency)
    function.app.keeper = Settled(**{**parts, "binance": client, "budgets": {}, **others})
    return function
