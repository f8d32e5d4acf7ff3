"""The parts of `listenkeys check` that look for dead letters, and for messages not delivered or not sent."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from .findings import Finding
from .resources import Resources, of_type
from .stack import Stack, now

_OVER = timedelta(minutes=20)  # without a new dead letter: DeadLetterAlarm has ended then
_CALLS = 10  # of ReceiveMessage; SQS returns up to ten messages for each, in no particular order


def dead_letters(stack: Stack, resources: Resources) -> Iterator[Finding]:
    """Yield how many runs have failed after all retries, and since when."""
    none, what = "none: no run has failed after all retries", "run{s} failed after all retries"
    todo = "later runs have tried again; if `listenkeys status` is ok, purge the queue"
    return _queue(stack, resources, "DeadLetterQueue", "dead letters", none, what, todo, _OVER)


def undelivered(stack: Stack, resources: Resources) -> Iterator[Finding]:
    """Yield how many messages by email, webhook and heartbeat have failed in the last day."""
    none = "none: no email, webhook or heartbeat call has failed in the last day"
    todo = (
        "if its URL is gone, put another into a new secret, set the parameter, deploy, then purge the queue"
    )
    return _queue(
        stack, resources, "UndeliveredQueue", "undelivered", none, "message{s} did not arrive", todo
    )


def _queue(
    stack: Stack,
    resources: Resources,
    logical_id: str,
    name: str,
    none: str,
    what: str,
    todo: str,
    over: timedelta = timedelta.max,
) -> Iterator[Finding]:
    sqs, url = stack.client("sqs"), of_type(resources, "AWS::SQS::Queue")[logical_id]
    counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(counts))["Attributes"]
    count = sum(int(attributes[each]) for each in counts)
    if not count:
        yield Finding(name, True, none)
        return
    seen: dict[str, dict[str, Any]] = {}
    for _ in range(_CALLS):
        # The letters stay visible: DeadLetterAlarm would count one that becomes visible again as new.
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=0,
            AttributeNames=["SentTimestamp"],
            MessageAttributeNames=["ERROR_MESSAGE"],
        )
        new = {m["MessageId"]: m for m in answer.get("Messages", ()) if m["MessageId"] not in seen}
        seen |= new
        if not new or len(seen) >= count:
            break
    letters = sorted(seen.values(), key=lambda letter: int(letter["Attributes"]["SentTimestamp"]))
    since, last = "another program reads them", ""
    if letters:
        since = f"{'at least ' * (len(seen) < count)}since {_sent(letters[0])}"
        last = f", the last at {_sent(letters[-1])}: {_why(letters[-1])}"
    purge = f"`aws sqs purge-queue --queue-url {url} --region {stack.region}`"
    says = f"{count} {what.replace('{s}', 's' * (count != 1))}, {since}{last}"
    if letters and len(seen) >= count and now() - _sent_at(letters[-1]) > over:
        yield Finding(name, True, f"{says}; none since; {purge} removes {'them' if count > 1 else 'it'}")
    else:
        yield Finding(name, False, f"{says}; {todo}: {purge}")


def _sent_at(letter: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(int(letter["Attributes"]["SentTimestamp"]) / 1000, UTC)


def _sent(letter: dict[str, Any]) -> str:
    return f"{_sent_at(letter):%m-%d %H:%M} UTC"


def _why(letter: dict[str, Any]) -> str:
    """Return the error message of a letter. URLs are left out, because they may hold a token."""
    why = letter.get("MessageAttributes", {}).get("ERROR_MESSAGE", {}).get("StringValue")
    try:
        why = why or json.loads(letter["Body"])["responsePayload"]["errorMessage"]
    except (ValueError, LookupError, TypeError):
        why = "without an error message"
    return re.sub(r"\w+://\S+", "<URL>", str(why))[:200]


def unsent_messages(stack: Stack, resources: Resources) -> Iterator[Finding]:
    """Yield how many accounts have messages that no run could send.

    A message is kept in the account's record until a run has sent it.
    """
    pages = (
        stack.client("dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=stack.outputs["ListenKeysTableName"],
            FilterExpression="attribute_exists(unannounced)",
            ProjectionExpression="accountId, unannounced",
        )
    )
    since = {
        item["accountId"]["S"]: min(
            re.findall(r"/(\d{4}-[^/\"]+Z)/", json.dumps(item["unannounced"])), default=""
        )
        for page in pages
        for item in page["Items"]
    }
    # A run sends its messages within seconds, and the next run tries again: only older ones need action.
    late = now() - timedelta(minutes=2 * stack.minutes("SweepExpression", 5) + 1)
    old = {name: at for name, at in since.items() if not at or datetime.fromisoformat(at) < late}
    if old:
        first = min(old, key=lambda name: old[name])
        who = first if len(old) == 1 else f"{len(old)} accounts"
        when = f", since {old[first]}" if old[first] else ""
        todo = "each run tries again; the function's log says why EventBridge does not take it"
        yield Finding("account messages", False, f"an account message of {who} was not sent{when}: {todo}")
    else:
        waiting = f"; {len(since)} of just now on the way" if since else ""
        yield Finding("account messages", True, f"every account message was sent{waiting}")
