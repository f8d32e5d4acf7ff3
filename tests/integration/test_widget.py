"""The dashboard's widget: what it answers CloudWatch, and what its button asks for."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest

from listenkeys.view.status import read_status
from local.clock import VirtualClock
from local.world import World
from tests.scene import Scene
from tests.widget import RENEW, event_of, load_widget

LISTEN_KEY = "CANARYlisten".ljust(64, "9")


@pytest.fixture
def widget(world: World, clock: VirtualClock) -> Callable[[dict[str, Any]], str]:
    return load_widget(world, clock)


def button_events(html: str) -> list[dict[str, Any]]:
    """Return what each button would send, which stands in the element after it."""
    actions = re.findall(r"</button><cwdb-action ([^>]*)>(.*?)</cwdb-action>", html)
    assert all('action="call"' in attributes for attributes, _ in actions)
    assert all(f'endpoint="{RENEW}"' in attributes for attributes, _ in actions)
    return [json.loads(unescape(content)) for _, content in actions]


def test_it_shows_every_account_and_never_a_key(
    widget: Callable[[dict[str, Any]], str], world: Scene
) -> None:
    world.put_row("alice")
    world.put_row("bob", product="spot")
    world.put_current("alice", LISTEN_KEY, world.clock.now() - timedelta(minutes=20))
    html = widget(event_of("dark"))
    assert 'class="lk cwdb-no-default-styles dark"' in html
    assert "40 min" in html
    assert "INVALID_ACCOUNT" in html
    assert LISTEN_KEY not in html


def test_no_listen_key_is_even_read(world: Scene) -> None:
    world.put_row("alice")
    world.put_current(
        "alice", LISTEN_KEY, world.clock.now(), consecutiveFailures={"N": "2"}, errorCode="TIMEOUT"
    )
    tables = world.aws.outputs["AccountsTableName"], world.aws.outputs["ListenKeysTableName"]
    [row] = read_status(world.aws.client("dynamodb"), *tables, world.clock.now())
    assert row.current.listen_key is None
    assert (row.outcome, row.minutes_left, row.tried_minutes_ago) == ("EXTENDED", 60, 0)
    assert (row.current.consecutive_failures, row.current.error_code, row.current.run_id) == (
        2,
        "TIMEOUT",
        "earlier",
    )


def test_its_button_renews_that_account_and_no_other(
    widget: Callable[[dict[str, Any]], str], world: Scene
) -> None:
    for name in ("alice", "bob"):
        world.add_account(name, name * 10)
    world.add_account("carol", "carol" * 10, enabled=False)
    events = button_events(widget(event_of()))
    assert events == [{"accounts": ["alice"]}, {"accounts": ["bob"]}]
    # CloudWatch adds its context to what the button says.
    done = world.invoke(events[0] | {"widgetContext": event_of()["widgetContext"]})
    assert done.report is not None
    assert (done.report["trigger"], done.report["created"], done.report["accounts"]) == ("manual", 1, 1)
    assert "60 min" in widget(event_of())


def test_a_name_that_is_html_stays_a_name_in_the_button(
    widget: Callable[[dict[str, Any]], str], world: World
) -> None:
    name = "<b>\"'</cwdb-action>"
    world.put_row(name)
    html = widget(event_of())
    assert button_events(html) == [{"accounts": [name]}]
    assert name not in html


def test_without_the_functions_arn_there_are_no_buttons(
    widget: Callable[[dict[str, Any]], str], world: World
) -> None:
    world.put_row("alice")
    html = widget({})
    assert "alice" in html
    assert "<button" not in html


def test_it_describes_itself(widget: Callable[[dict[str, Any]], str]) -> None:
    said = widget({"describe": True})
    assert said.startswith("## Accounts of listenkey-keeper")
    assert "`renew`" in said


def test_it_says_when_the_tables_cannot_be_read(world: Scene) -> None:
    html = load_widget(world, world.clock, ACCOUNTS_TABLE="gone")(event_of())
    assert html.startswith("<p>AccountsTable could not be read: ResourceNotFoundException. ")
