"""Which messages each trouble causes, and when: the table in docs/messages.md.

The rules, the function and the stand-in run for hours on a virtual clock, with the template's alarms.
`python -m tests.integration.troubles` writes the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

from listenkey_keeper import report_expired
from local.aws.rules import SWEEP, TICK
from local.aws.stack import LocalAws
from local.binance.exchange import Exchange
from local.clock import VirtualClock
from local.invoke import LocalFunction
from local.world import World
from tests.faults.matrix import add_live, api_key_of
from tests.faults.refusals import Refusals
from tests.integration.watched import Watched

PAGE = Path(__file__).parents[2] / "docs/messages.md"
MARKS = "<!-- troubles -->\n", "<!-- end -->\n"
BEFORE, AFTER = 62.0, 130.0  # minutes; so a trouble begins 2 minutes after a tick
_MAIL, _CHAT, _BEAT = "AlarmTopic", ("Webhook", "AlarmWebhook"), "Heartbeat"
# Seconds without a post to the heartbeat after which a post is late, and after which its service alerts.
_LATE_BEAT, _MISSING_BEAT = 35 * 60.0, 91 * 60.0

Stage = tuple[Watched, LocalFunction]
During = Callable[[Watched, LocalFunction], AbstractContextManager[Any]]


class Trouble(NamedTuple):
    """What goes wrong, and for how many minutes.

    `how` has the arguments of Watched.go, which affect the rules; `during` causes everything else. `chat` is
    false if mail and chat get different messages, `region` if no message can leave the region.
    """

    name: str
    minutes: float
    how: Mapping[str, Any] = MappingProxyType({})
    during: During = lambda watched, function: nullcontext()
    chat: bool = True
    region: bool = True


class Row(NamedTuple):
    """A row of the table. The numbers are minutes after the trouble began or ended."""

    trouble: str
    messages: list[tuple[str, int]]
    all_clear: list[tuple[str, int]]
    heartbeat: str  # on time, late, or so late that its service alerts

    def __str__(self) -> str:
        def said(messages: list[tuple[str, int]]) -> str:
            return ", ".join(f"`{text}` ({minutes})" for text, minutes in messages) or "none"

        return f"| {self.trouble} | {said(self.messages)} | {said(self.all_clear)} | {self.heartbeat} |"


def exchange_fault(**fault: Any) -> During:
    @contextmanager
    def during(watched: Watched, function: LocalFunction) -> Any:
        made = watched.world.exchange.fault(**fault)
        yield
        made.clear()

    return during


@contextmanager
def no_dynamodb(watched: Watched, function: LocalFunction) -> Any:
    refusals = Refusals(function, watched.clock)
    made = [
        refusals.refuse("dynamodb", operation, "InternalServerError", status=500)
        for operation in ("Scan", "BatchGetItem", "TransactWriteItems", "UpdateItem", "PutItem", "GetItem")
    ]
    yield
    for refusal in made:
        refusal.end()


def revoked(*names: str) -> During:
    @contextmanager
    def during(watched: Watched, function: LocalFunction) -> Any:
        for name in names:
            watched.world.exchange.revoke(api_key_of(name))
        yield
        for name in names:
            watched.world.exchange.add_account(api_key_of(name))

    return during


@contextmanager
def _ended(watched: Watched, function: LocalFunction) -> Any:
    watched.world.exchange.expire(api_key_of("bob"), "usdm")
    yield


@contextmanager
def _reported(watched: Watched, function: LocalFunction) -> Any:
    dead = watched.world.current("bob")["listenKey"]
    watched.world.exchange.expire(api_key_of("bob"), "usdm")
    with revoked("bob")(watched, function):
        report_expired("bob", dead, dead=True, eventbridge=watched.world.aws.client("events"))
        yield


@contextmanager
def _no_secret(watched: Watched, function: LocalFunction) -> Any:
    secret = "listenkeys/bob"
    watched.world.aws.client("secretsmanager").delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
    yield
    watched.world.put_secret(secret, {"apiKey": api_key_of("bob")})


@contextmanager
def _broken_webhook(watched: Watched, function: LocalFunction) -> Any:
    watched.broken = {*_CHAT}
    with revoked("bob")(watched, function):
        yield


TROUBLES = [
    Trouble("one tick does not come", 31, {"disabled": {TICK}}),
    Trouble("no rule fires for an hour", 60, {"disabled": {TICK, SWEEP}}),
    Trouble("the tick's rule is disabled for 4 hours", 240, {"disabled": {TICK}}),
    Trouble("the sweep's rule is disabled for 2 hours", 120, {"disabled": {SWEEP}}),
    Trouble("the function is deleted for 2 hours", 120, {"deleted": True}),
    Trouble("Lambda throttles for 3 minutes", 3, {"throttled": True}),
    Trouble("Lambda throttles for an hour", 60, {"throttled": True}),
    Trouble("Binance is down for 40 minutes", 40, during=exchange_fault(status=503)),
    Trouble("Binance is down for 2 hours", 120, during=exchange_fault(status=503)),
    Trouble("Binance bans the address for 2 hours", 120, during=exchange_fault(status=418)),
    Trouble("DynamoDB is down for 2 hours", 120, during=no_dynamodb),
    Trouble("an API key is revoked, and repaired after 2 hours", 120, during=revoked("bob")),
    Trouble("the same, and a bot has received `listenKeyExpired`", 120, during=_reported),
    Trouble("a second one is revoked while the first still is", 120, during=revoked("carol")),
    Trouble("a secret is deleted, and written again after 2 hours", 120, during=_no_secret),
    Trouble("another program ends a listenKey", 40, during=_ended),
    Trouble("the webhook is dead when an API key is revoked", 120, during=_broken_webhook, chat=False),
    Trouble("the region is gone for 2 hours", 120, {"disabled": {TICK, SWEEP}}, region=False),
]


def row(trouble: Trouble, aws: LocalAws) -> Row:
    """Simulate a trouble and return its row. Fails if mail and chat should not differ but do."""
    clock = VirtualClock()
    aws.reset()
    exchange = Exchange(now=clock.timestamp)
    with (
        World(exchange=exchange, aws=aws) as world,
        patch("botocore.endpoint.time", SimpleNamespace(sleep=clock.sleep)),
    ):
        variables = world.environment() | {"HEARTBEAT_SECRET_ID": "ops/beat"}
        function = LocalFunction(variables, clock.clock)
        add_live(world, clock, "alice", "bob", "carol", minutes=10)
        watched = Watched(world, function, clock)
        watched.go(BEFORE)
        if "second" in trouble.name:
            exchange.revoke(api_key_of("bob"))
            watched.go(60)
        known, began = len(watched.messages), clock.timestamp()
        with trouble.during(watched, function):
            watched.go(trouble.minutes, **trouble.how)
        ended = clock.timestamp()
        watched.go(AFTER)
    sent = sorted(watched.messages[known:], key=lambda message: message.at)
    beats = [began, *(each.at for each in sent if each.to == _BEAT), clock.timestamp()]
    longest = max(b - a for a, b in pairwise(beats))
    heartbeat = "alert" if longest > _MISSING_BEAT else "late" if longest > _LATE_BEAT else "on time"
    if not trouble.region:
        sent = []
    mail = [(_subject(each.text), each.at) for each in sent if each.to == _MAIL]
    chat = [(_subject(each.text), each.at) for each in sent if each.to in _CHAT]
    assert not trouble.chat or mail == chat, (mail, chat)
    clear = [(text, at) for text, at in mail if text.startswith(("OK ", "RECOVERED"))]
    return Row(
        trouble.name,
        [(text.rpartition(" ")[2], round((at - began) / 60)) for text, at in mail if (text, at) not in clear],
        [(text.rpartition(" ")[2], round((at - ended) / 60)) for text, at in clear],
        heartbeat,
    )


def _subject(text: str) -> str:
    """Return the kind of a message, such as "ALARM KeyAtRiskAlarm" or "FAILING"."""
    if found := re.search(r"(FAILING|RECOVERED|REPLACED) \d+ account", text):
        return found[1]
    found = re.search(r"(ALARM|OK) (?:listenkey-keeper-)?(\w+Alarm)", text)
    assert found, text
    return f"{found[1]} {found[2]}"


def table(rows: list[Row]) -> str:
    """Return the table as Markdown."""
    titles = "trouble", "messages (minutes after it begins)", "all-clear (minutes after it ends)", "heartbeat"
    head = f"| {' | '.join(titles)} |\n|---|---|---|---|\n"
    return head + "".join(f"{each}\n" for each in rows)


def main() -> None:
    """Write the table into the page."""
    with LocalAws() as aws:
        made = table([row(trouble, aws) for trouble in TROUBLES])
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    PAGE.write_text(before + MARKS[0] + made + MARKS[1] + rest.partition(MARKS[1])[2])


if __name__ == "__main__":
    main()
