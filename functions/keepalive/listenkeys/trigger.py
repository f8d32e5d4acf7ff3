"""Reads the event of a run: a tick, a sweep, a manual run, or a bot's report that its listenKey is dead."""

from dataclasses import dataclass
from typing import Any

from .errors import InvalidEvent

TICK, SWEEP, MANUAL, EXPIRED = "tick", "sweep", "manual", "expired"
_FROM_A_BOT = ("listenkey-keeper.bot", "Listen Key Expired")

_ALLOWED = (
    'allowed are an EventBridge scheduled event, {"overdueOnly": true}, or any of '
    '"accounts" (a list of account ids), "force" (true or false), "dryRun" (true or false) and "probe" '
    "(true, with dryRun only)"
)


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a run is asked to do. `accounts`: None for all. `fingerprint`: of a key that may be `dead`."""

    name: str
    accounts: tuple[str, ...] | None = None
    force: bool = False
    dry_run: bool = False
    probe: bool = False
    fingerprint: str = ""
    dead: bool = False

    @property
    def scheduled(self) -> bool:
        """Whether a schedule started the run. Otherwise somebody waits for it, and asks for few accounts."""
        return self.name in (TICK, SWEEP)

    @classmethod
    def from_event(cls, event: Any) -> "Trigger":
        """Read an event. Raises InvalidEvent, which names the field and what is allowed."""
        if not isinstance(event, dict):
            raise InvalidEvent(f"the event must be a JSON object: {_ALLOWED}")
        source, kind = event.get("source"), event.get("detail-type")
        if source in ("aws.events", "aws.scheduler") and kind == "Scheduled Event":
            return cls(TICK)
        if (source, kind) == _FROM_A_BOT:
            return _expired(event.get("detail"))
        if "overdueOnly" in event:
            if event != {"overdueOnly": True} or event["overdueOnly"] is not True:
                raise InvalidEvent(f"overdueOnly must be true and stand alone: {_ALLOWED}")
            return cls(SWEEP)
        for field in event:
            # CloudWatch adds widgetContext to what the dashboard widget's button sends.
            if field not in ("accounts", "force", "dryRun", "probe", "widgetContext"):
                raise InvalidEvent(f"unknown field {str(field)[:64]!r}: {_ALLOWED}")
        dry_run, probe = _flag(event, "dryRun"), _flag(event, "probe")
        if probe and not dry_run:
            raise InvalidEvent('probe must come with "dryRun": true: a run that renews needs no probe')
        return cls(MANUAL, _accounts(event), _flag(event, "force"), dry_run, probe)


def _expired(detail: Any) -> Trigger:
    """Read a bot's event. An invalid one selects no account: raising would cause retries and an alarm."""
    detail = detail if isinstance(detail, dict) else {}
    id_, fingerprint = detail.get("accountId"), detail.get("fingerprint")
    if _is_id(id_) and isinstance(fingerprint, str) and fingerprint:
        return Trigger(EXPIRED, (id_,), fingerprint=fingerprint, dead=detail.get("dead") is True)
    return Trigger(EXPIRED, ())


def _accounts(event: dict[str, Any]) -> tuple[str, ...] | None:
    if "accounts" not in event:
        return None
    ids = event["accounts"]
    if not (isinstance(ids, list) and ids and all(map(_is_id, ids))):
        raise InvalidEvent(
            "accounts must be a list of at least one account id, strings of 1 to 64 characters; leave it out "
            "for all accounts"
        )
    return tuple(dict.fromkeys(ids))


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64


def _flag(event: dict[str, Any], field: str) -> bool:
    value = event.get(field, False)
    if not isinstance(value, bool):
        raise InvalidEvent(f"{field} must be true or false")
    return value
