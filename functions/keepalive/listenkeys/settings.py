"""The settings, read from the environment and checked once. The defaults are in template.yaml."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import SettingsError

# Plain http or ws only to this machine: the API key travels in a header, the listenKey in the URL.
_BASE_URL = r"|({0}s://[A-Za-z0-9][A-Za-z0-9.-]*|{0}://(127\.0\.0\.1|localhost))(:[1-6]?\d{{1,4}})?"
_MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60}


def _text(pattern: str = ".+", must_be: str = "") -> Any:
    return field(metadata={"allowed": pattern, "must_be": must_be})


def _number(low: int, high: int) -> Any:
    return field(
        metadata={"allowed": range(low, high + 1), "must_be": f"a whole number from {low} to {high}"}
    )


def _base_url(scheme: str) -> Any:
    return _text(_BASE_URL.format(scheme), f"empty or {scheme}s://host, without a path")


@dataclass(frozen=True, slots=True)
class Settings:
    """The function's settings, each from the environment variable of the same name in upper case."""

    accounts_table: str = _text()
    listen_keys_table: str = _text()
    ledger_table: str = _text()
    secret_prefix: str = _text()
    schedule_expression: str = _text(r"(rate|cron)\(.+\)", "rate(...) or cron(...)")
    sweep_expression: str = _text(r"rate\([2-8] minutes\)", "rate(n minutes), n from 2 to 8")
    renew_after_minutes: int = _number(5, 38)
    binance_base_url: str = _base_url("http")
    binance_stream_url: str = _base_url("ws")
    max_concurrency: int = _number(1, 64)
    max_weight_per_minute: int = _number(1, 2400)
    ledger_mode: str = _text("all|changes", "all or changes")
    ledger_days: int = _number(1, 3650)
    shard_count: int = _number(1, 10_000)
    work_queue_url: str = _text(".*")  # empty if one function does all the work
    # Empty if nothing uses the event of a completed tick. The function never reads the secret.
    heartbeat_secret_id: str = _text(".*")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check the environment; raises SettingsError, one line that names the variable."""
        settings = cls(
            **{each.name: _read(environ, each.name.upper(), **each.metadata) for each in fields(cls)}
        )
        if (settings.shard_count > 1) != bool(settings.work_queue_url):
            raise SettingsError("WORK_QUEUE_URL must be set where SHARD_COUNT is above 1, and only there")
        return settings

    def overdue_after(self, renew_after_minutes: int | None = None) -> int:
        """Return the age in minutes from which the sweep renews a key; a row may have a setting of its own.

        EventBridge fires anywhere within the minute. If the tick comes every RenewAfterMinutes or sooner, the
        sweep waits a minute longer, so that it has nothing to do while all is ok. Otherwise the sweep renews
        the keys, and does so half an interval early: a key that was renewed late in its minute, or at the end
        of a long run, may be a second too young, and the next sweep comes a whole interval later.
        """
        after = renew_after_minutes or self.renew_after_minutes
        if (rate_minutes(self.schedule_expression) or 30) <= after:
            return after + 1
        return max(1, after - (rate_minutes(self.sweep_expression) or 5) // 2)


def rate_minutes(expression: str) -> int | None:
    """Return the minutes between two firings of a rate() expression, None for anything else."""
    match = re.fullmatch(r"rate\(([1-9]\d{0,4}) (minute|hour|day)s?\)", expression)
    return int(match[1]) * _MINUTES[match[2]] if match else None


def _read(environ: Mapping[str, str], name: str, allowed: str | range, must_be: str) -> Any:
    given = environ.get(name)
    value = (given or "").strip()
    if isinstance(allowed, range):
        fits = value.isdecimal() and int(value) in allowed
    else:
        fits = bool(re.fullmatch(allowed, value))
    if given is None or not (value or fits):
        raise SettingsError(f"{name} is not set: the template sets it, deploy with it")
    if not fits:  # the value is not shown: a URL may contain a password
        raise SettingsError(f"{name} must be {must_be}")
    return int(value) if isinstance(allowed, range) else value
