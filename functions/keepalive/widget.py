"""The handler of the dashboard's widget: CloudWatch calls it and shows the HTML that it returns.

It is not in app.py because its role may read two tables and nothing else, and because a person waits for it:
it makes only one client, and imports neither Powertools nor what only a run needs.
"""

import json
from html import escape
from typing import Any

import boto3
from botocore.config import Config

from listenkeys.aws.clients import CLIENT_CONFIG
from listenkeys.clock import SYSTEM_CLOCK
from listenkeys.errors import Unavailable
from listenkeys.settings import Settings
from listenkeys.view.page import page
from listenkeys.view.status import AccountStatus, read_status

DESCRIPTION = """## Accounts of listenkey-keeper

Every account, the most urgent first, and what to do. The parameter `renew`, the ARN of `KeepaliveFunction`,
adds a button to each that renews it, with the permissions of the person who presses it.
"""
# The function has 5 s. Before that, the widget says which service did not answer.
_IMPATIENT = Config(connect_timeout=1, read_timeout=1, retries={"mode": "standard", "total_max_attempts": 2})

settings = Settings.from_env()
dynamodb = boto3.client("dynamodb", config=CLIENT_CONFIG.merge(_IMPATIENT))
clock = SYSTEM_CLOCK


def handler(event: dict[str, Any], context: object) -> str:
    """Return the accounts as HTML, or, for `{"describe": true}`, what the widget is, as Markdown."""
    if event.get("describe"):
        return DESCRIPTION
    at = clock.now()
    try:
        rows = read_status(dynamodb, settings.accounts_table, settings.listen_keys_table, at)
    except Unavailable as error:
        return f"<p>{escape(str(error))}. Refresh the dashboard to try again.</p>"
    endpoint = event.get("renew")
    theme = str((event.get("widgetContext") or {}).get("theme"))
    return page(rows, at, theme, (lambda row: _button(row, endpoint)) if endpoint else None)


def _button(row: AccountStatus, endpoint: str) -> str:
    """Return a button, followed by the action that CloudWatch performs when it is pressed."""
    name = escape(row.account.id)
    event = escape(json.dumps({"accounts": [row.account.id]}))
    return (
        f'<button type="button" aria-label="Renew {name}">Renew</button>'
        f'<cwdb-action action="call" display="popup" endpoint="{escape(endpoint)}" '
        f'confirmation="Renew {name} now?">{event}</cwdb-action>'
    )
