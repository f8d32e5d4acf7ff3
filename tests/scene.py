"""The world of a test: a clean AWS, a stand-in that uses the virtual clock, and the function."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

from local.aws.stack import LocalAws
from local.clock import VirtualClock
from local.invoke import Context, Invocation
from local.world import World
from tests.faults.matrix import HookedExchange, add_live
from tests.faults.refusals import Refusals
from tests.leaks import WatchedFunction
from tests.rules import Rules


class Scene(World):
    """A world and its clock. The function is loaded on first use.

    At the end, everything that the function stored or sent is searched for secrets.
    """

    def __init__(self, clock: VirtualClock, aws: LocalAws) -> None:
        super().__init__(exchange=HookedExchange(now=clock.timestamp), aws=aws)
        self.clock = clock

    def __exit__(self, *_: object) -> None:
        try:
            if "function" in vars(self):
                self.function.search_world()
        finally:
            self.close()

    @cached_property
    def function(self) -> WatchedFunction:
        """The function as the template configures it. A test may replace it with a variant."""
        return self.variant()

    def variant(self, **variables: str) -> WatchedFunction:
        """Return another instance of the function, with these environment variables changed."""
        return WatchedFunction(self, self.clock, **variables)

    def invoke(self, event: Any, context: Context | None = None) -> Invocation:
        """Call the function."""
        return self.function.invoke(event, context)

    @property
    def exchange(self) -> HookedExchange:
        """The stand-in's engine."""
        assert isinstance(super().exchange, HookedExchange)
        return super().exchange

    def use(self, **collaborators: Any) -> None:
        """Replace collaborators of the function's keeper, such as its Binance client."""
        app = self.function.app
        app.keeper = replace(app.keeper, **collaborators)

    @cached_property
    def refusals(self) -> Refusals:
        """Makes AWS refuse the function's requests. It counts requests from its first use on."""
        return Refusals(self.function, self.clock)

    def rules(self, *when: float, **how: float) -> Rules:
        """Return the deployed rules, which call the function."""
        return Rules(self, self.function.invoke, self.clock, *when, **how)

    def live(self, *names: str, minutes: float = 30, **attributes: Any) -> None:
        """Add accounts with live, recorded keys that are `minutes` old."""
        add_live(self, self.clock, *names, minutes=minutes, **attributes)
