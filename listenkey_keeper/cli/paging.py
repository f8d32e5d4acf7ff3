"""`listenkeys check --page`: sets each alarm to ALARM and back, so that you see whether messages arrive."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import sleep
from typing import Any

from .errors import CliError, explain
from .findings import Finding
from .stack import Stack, now

HOLD = 3.0  # seconds in ALARM; EventBridge and SNS have noticed it by then
EMAIL_ONLY = {"UndeliveredAlarm"}  # the template's WebhookAlarmRule does not match it
_REASON = "This is a test by `listenkeys check --page`."
_TEST = f"TEST. {_REASON} No account fails. See `listenkeys status`."


@dataclass(slots=True)
class Page:
    """The tests that were sent: the logical ids of the alarms, and whether the account message was sent."""

    alarms: list[str] = field(default_factory=list)
    message: bool = False

    def said(self, by: str) -> str:
        """Return in words which messages should arrive by "email" or "webhook"."""
        posted = [name for name in self.alarms if by == "email" or name not in EMAIL_ONLY]
        parts = [f"{2 * len(posted)} messages (ALARM and OK of {', '.join(posted)})"] if posted else []
        return " and ".join([*parts, *(["one that begins with TEST"] if self.message else [])]) or "nothing"


def send_tests(stack: Stack, alarms: dict[str, dict[str, Any]], sent: Page) -> Iterator[Finding]:
    """Set these alarms to ALARM for a moment, send one test account message, and note both in `sent`.

    `alarms` are CloudWatch's descriptions, by logical id. The alarms are set back to OK at the end, also
    after Ctrl-C. An alarm that is already on is skipped: setting it to ALARM would change nothing, and
    setting it to OK would be wrong.
    """
    cloudwatch = stack.client("cloudwatch")
    telling = {
        name: alarm
        for name, alarm in alarms.items()
        if alarm.get("ActionsEnabled", True) and alarm.get("AlarmActions")
    }
    on = [name for name, alarm in telling.items() if alarm["StateValue"] == "ALARM"]
    set_off: dict[str, str] = {}
    try:
        for name, alarm in telling.items():
            if name not in on:
                set_off[name] = alarm["AlarmName"]  # first: a call that Ctrl-C interrupts may take effect
                cloudwatch.set_alarm_state(
                    AlarmName=alarm["AlarmName"], StateValue="ALARM", StateReason=_REASON
                )
                sent.alarms.append(name)
        _send_message(stack)
        sent.message = True
        sleep(HOLD)
    finally:
        stuck = list(_end(cloudwatch, set_off))
    yield from stuck
    left = f"; not {', '.join(on)}, which {'is' if len(on) == 1 else 'are'} on" if on else ""
    names = ", ".join(sent.alarms) or "no alarm"
    yield Finding(
        "test messages", True, f"at {now():%H:%M} UTC {names} was set to ALARM and back to OK{left}"
    )


def _end(cloudwatch: Any, alarms: dict[str, str]) -> Iterator[Finding]:
    for name, physical in alarms.items():
        try:
            cloudwatch.set_alarm_state(AlarmName=physical, StateValue="OK", StateReason=_REASON)
        except Exception as error:  # noqa: BLE001 - the others are still set back
            says = f"{name} was not set back; CloudWatch does it within minutes: {explain(error)}"
            yield Finding("test messages", False, says)


def _send_message(stack: Stack) -> None:
    detail = {
        "count": 0,
        "accounts": [],
        "text": _TEST,
        "listenKeysTable": stack.outputs["ListenKeysTableName"],
    }
    entry = {"Source": "listenkey-keeper", "DetailType": "Listen Keys Failing", "Detail": json.dumps(detail)}
    [answer] = stack.client("events").put_events(Entries=[entry])["Entries"]
    if "ErrorCode" in answer:
        raise CliError(f"EventBridge did not take the account message that tests it: {answer['ErrorCode']}")
