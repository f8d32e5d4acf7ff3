"""The world of a test: a clean AWS and a stand-in by the virtual clock, with the function in it."""

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
    """A world and its clock. Its function is loaded when it is first used, and what it left is searched."""

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
        """The function as the template sets it up, unless a test has put a variant in its place."""
        return self.variant()

    def variant(self, **variables: str) -> WatchedFunction:
        """Return another instance of the function, with other environment variables."""
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
        """Give the function other collaborators, such as a client of Binance."""
        app = self.function.app
        app.keeper = replace(app.keeper, **collaborators)

    @cached_property
    def refusals(self) -> Refusals:
        """What AWS refuses the function; it counts the requests from its first use on."""
        return Refusals(self.function, self.clock)

    def rules(self, *when: float, **how: float) -> Rules:
        """Return the deployed rules, which call the function."""
        return Rules(self, self.function.invoke, self.clock, *when, **how)

    def live(self, *names: str, minutes: float = 30, **attributes: Any) -> None:
        """Add accounts whose keys are alive, recorded, and so old."""
        add_live(self, self.clock, *names, minutes=minutes, **attributes)
