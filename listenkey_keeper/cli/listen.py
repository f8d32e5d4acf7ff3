"""`listenkeys listen`: show an account's events as they arrive."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from listenkey_keeper.stream.clock import SystemClock
from listenkey_keeper.stream.gaps import Gap, Interrupted, event_time
from listenkey_keeper.stream.keys import ListenKeys, ListenKeyUnavailable
from listenkeys.model import iso
from listenkeys.view.remedies import as_argument

from .errors import CliError
from .output import plain, show
from .registry import Registry
from .rows import check_id
from .stack import AccountId, AsJson, Profile, Region, Stack, StackName, connect, now

if TYPE_CHECKING:
    from listenkey_keeper.stream.user_data import UserDataStream


class _Clock(SystemClock):
    """The command's clock. In the local environment it gives the time there."""

    def now(self) -> datetime:
        return now()


def listen(
    account: AccountId,
    stack_name: StackName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Show an account's events as they arrive, until Ctrl-C.

    Prints a line for each event: its time, its type and its symbol. "interrupted" means that events may be
    missing from now on. "gap" means that events arrive again, and says from when to when some may be missing;
    the first one comes at the start, even if the key is dead already.
    """
    check_id(account)
    try:
        from listenkey_keeper.stream.user_data import UserDataStream
    except ImportError:
        raise CliError(
            "listen needs websockets: pip install '.[cli,stream]' in listenkey-keeper's folder"
        ) from None
    stack = connect(stack_name, region, profile)
    keys = ListenKeys(
        stack.outputs["ListenKeysTableName"],
        dynamodb=stack.client("dynamodb"),
        eventbridge=stack.client("events"),
    )
    _check_key(stack, keys, account)
    # The line "interrupted" says the same.
    logging.getLogger("listenkey_keeper.stream").addFilter(
        lambda record: "events may be missing" not in record.getMessage()
    )
    with suppress(KeyboardInterrupt):
        asyncio.run(_print(UserDataStream(account, keys, clock=_Clock()), as_json))


def _check_key(stack: Stack, keys: ListenKeys, account: str) -> None:
    """Raise CliError if there is no live listenKey. The stream itself would wait for one."""
    renew = f"`listenkeys renew {as_argument(account)}`"
    try:
        key = keys.read(account)
    except ListenKeyUnavailable as error:
        if error.code == "NO_STREAM_URL":
            raise CliError(
                f"{account}'s websocket has no known host, because the stack has a BinanceBaseUrl: "
                "set BINANCE_STREAM_URL here, or BinanceStreamUrl in the stack"
            ) from None
        if error.code not in ("NO_KEY", "INVALID_RECORD"):
            raise
        Registry(stack).get(account)
        raise CliError(f"{account} has no listenKey: {renew} creates one") from None
    if key.expires_at <= now():
        raise CliError(
            f"{account}'s listenKey has been dead since {key.expires_at:%Y-%m-%d %H:%M} UTC: "
            f"{renew} creates a new one, or says why it cannot"
        )


async def _print(stream: "UserDataStream", as_json: bool) -> None:
    async with stream:
        async for item in stream:
            if as_json:
                typer.echo(json.dumps(_plain(item)))
            else:
                show(_event_line(item) if isinstance(item, dict) else _hearing_line(item))


def _plain(item: dict[str, Any] | Interrupted | Gap) -> dict[str, Any]:
    if isinstance(item, Interrupted):
        return {"interrupted": {"since": iso(item.since), "why": item.why}}
    if isinstance(item, Gap):
        return {"gap": {"since": iso(item.since), "until": iso(item.until), "why": item.why}}
    return item


def _hearing_line(item: Interrupted | Gap) -> Text:
    since = f"{item.since:%m-%d %H:%M:%S}"
    if isinstance(item, Interrupted):
        return _line(now(), (f"interrupted: events since {since} may be missing ({item.why})", "red"))
    said = f"gap: events from {since} to {item.until:%m-%d %H:%M:%S} may be missing ({item.why})"
    return _line(now(), (said, "dim" if item.why == "started" else "yellow"))


def _event_line(event: dict[str, Any]) -> Text:
    at = event_time(event, datetime.max.replace(tzinfo=UTC)) or now()
    symbols = ", ".join(dict.fromkeys(_symbols(event)))
    order = event.get("o")
    said = [order.get(name, "") for name in ("S", "X", "i")] if isinstance(order, dict) else []
    return _line(
        at, (f"{event['e']:<18}", "cyan"), "  ", (symbols or "-", "bold"), *(f"  {part}" for part in said)
    )


def _line(at: datetime, *parts: str | tuple[str, str]) -> Text:
    time = f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"
    clean = (plain(part) if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts)
    return Text.assemble((time, "dim"), "  ", *clean, no_wrap=True, overflow="ellipsis")


def _symbols(part: Any) -> Iterator[str]:
    """Yield the value of each `s` in an event: in all of Binance's user data events it is a symbol."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "s" and isinstance(value, str):
                yield value
            else:
                yield from _symbols(value)
    elif isinstance(part, list):
        for value in part:
            yield from _symbols(value)
