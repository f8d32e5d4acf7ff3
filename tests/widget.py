"""Runs the dashboard widget's function in this process, on the virtual clock."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

from local.clock import VirtualClock
from local.invoke import Context, environment
from local.world import World

RENEW = "arn:aws:lambda:eu-west-1:123456789012:function:KeepaliveFunction"


def load_widget(world: World, clock: VirtualClock, **variables: str) -> Callable[[dict[str, Any]], str]:
    """Return the widget's handler in a world, with these environment variables. It maps an event to HTML."""
    with environment(world.environment() | variables):
        sys.modules.pop("widget", None)
        module: Any = importlib.import_module("widget")
    module.clock = clock.clock
    return lambda event: str(module.handler(event, Context()))


def event_of(theme: str = "light") -> dict[str, Any]:
    """Return the event that the dashboard sends (CloudWatch User Guide, "Details about custom widgets")."""
    context = {
        "dashboardName": "listenkey-keeper", "widgetId": "widget-1", "accountId": "123456789012",
        "timezone": {"label": "UTC", "offsetISO": "+00:00", "offsetInMinutes": 0}, "period": 300,
        "locale": "en", "isAutoPeriod": True, "theme": theme, "linkCharts": True, "title": "Accounts",
        "forms": {"all": {}}, "timeRange": {"mode": "relative", "start": 1, "end": 2, "relativeStart": 1},
        "params": {"renew": RENEW}, "width": 588, "height": 369,
    }  # fmt: skip
    return {"renew": RENEW, "widgetContext": context}
