"""Tells the keeper that a listenKey is dead, so that it does not notice only at its next run."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

from listenkeys.aws.clients import AwsError, error_code

from .aws import client

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

log = logging.getLogger("listenkey_keeper.stream")
SOURCE = "listenkey-keeper.bot"
DETAIL_TYPE = "Listen Key Expired"


def report_expired(
    account: str, listen_key: str, *, dead: bool = False, eventbridge: EventBridgeClient | None = None
) -> bool:
    """Tell the keeper that this listenKey may be dead: it then renews the account within seconds.

    Call it with `dead` when Binance has sent listenKeyExpired to a websocket of your own: if the renewal
    fails, the keeper records that the key has expired, so that the alarms see it. Call it without `dead`
    after a reconnect: the key may have died meanwhile, and the keeper extends one that is alive.
    UserDataStream calls it itself.

    It puts a `Listen Key Expired` event on the default event bus. The event contains the key's fingerprint,
    not the key. The keeper ignores it if the table has another key by now, or if the keeper has tried this
    account in the last 30 s.

    `eventbridge` is a boto3 client for the region of the stack; by default one of the default session. Needs
    events:PutEvents, which ReaderPolicy grants for this event only.

    Returns whether EventBridge accepted the event. Raises nothing for AWS or network errors: it logs the
    reason and returns False, and the keeper notices by itself at its next tick. Blocks for up to about 10 s:
    in asyncio, call it in a thread.
    """
    fingerprint = hashlib.sha256(listen_key.encode()).hexdigest()[:12]
    detail = {"accountId": account, "fingerprint": fingerprint, "dead": dead}
    try:
        events = eventbridge or client("events")
        answer = events.put_events(
            Entries=[{"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": json.dumps(detail)}]
        )
    except (*AwsError, OSError, RuntimeError) as error:
        why = error_code(error)
    else:
        if not answer["FailedEntryCount"]:
            return True
        why = str(answer["Entries"][0].get("ErrorCode", "Unknown"))
    what = "told that the listenKey is dead" if dead else "asked whether the listenKey is alive"
    log.warning("%s: the keeper could not be %s (%s)", account, what, why)
    return False
