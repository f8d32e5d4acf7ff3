"""What the environment says, read and checked once. The defaults are in template.yaml."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import SettingsError

# Plain http or ws only to this machine: the API key travels in a header, the listenKey in the URL.
_BASE_URL = r"|({0}s://[A-Za-z0-9][A-Za-z0-9.-]*|{0}://(127\.0\.0\.1|localhost))(:[1-6]?\d{{1,4}})?"
_MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60}


@dataclass(frozen=True, slots=True)
class Settings:
    """The function's settings; times in minutes where the name says so."""

    accounts_table: str
    listen_keys_table: str
    ledger_table: str
    secret_prefix: str
    schedule_expression: str
    sweep_expression: str
    renew_after_minutes: int
    binance_base_url: str
    binance_stream_url: str
    max_concurrency: int
    max_weight_per_minute: int
    ledger_mode: str
    ledger_days: int
    shard_count: int
    work_queue_url: str
    heartbeat_secret_id: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check the environment; raises SettingsError, one line that names the variable."""
        settings = cls(
            accounts_table=_text(environ, "ACCOUNTS_TABLE"),
            listen_keys_table=_text(environ, "LISTEN_KEYS_TABLE"),
            ledger_table=_text(environ, "LEDGER_TABLE"),
            secret_prefix=_text(environ, "SECRET_PREFIX"),
            schedule_expression=_matching(
                environ, "SCHEDULE_EXPRESSION", r"(rate|cron)\(.+\)", "rate(...) or cron(...)"
            ),
            sweep_expression=_matching(
                environ, "SWEEP_EXPRESSION", r"rate\([2-8] minutes\)", "rate(n minutes), n from 2 to 8"
            ),
            renew_after_minutes=_number(environ, "RENEW_AFTER_MINUTES", 5, 38),
            binance_base_url=_base_url(environ, "BINANCE_BASE_URL", "http"),
            binance_stream_url=_base_url(environ, "BINANCE_STREAM_URL", "ws"),
            max_concurrency=_number(environ, "MAX_CONCURRENCY", 1, 64),
            max_weight_per_minute=_number(environ, "MAX_WEIGHT_PER_MINUTE", 1, 2400),
            ledger_mode=_matching(environ, "LEDGER_MODE", "all|changes", "all or changes"),
            ledger_days=_number(environ, "LEDGER_DAYS", 1, 3650),
            shard_count=_number(environ, "SHARD_COUNT", 1, 10_000),
            # Empty where one function does all the work.
            work_queue_url=_text(environ, "WORK_QUEUE_URL", may_be_empty=True),
            # Empty where nobody listens for finished ticks. The function never reads the secret.
            heartbeat_secret_id=_text(environ, "HEARTBEAT_SECRET_ID", may_be_empty=True),
        )
        if (settings.shard_count > 1) != bool(settings.work_queue_url):
            raise SettingsError("WORK_QUEUE_URL must be set where SHARD_COUNT is above 1, and only there")
        return settings

    def overdue_after(self, renew_after_minutes: int | None = None) -> int:
        """Return the age in minutes from which the sweep renews a key; a row may ask for its own.

        EventBridge fires anywhere within the minute. Where the tick comes every RenewAfterMinutes or sooner,
        the sweep waits a minute longer, so that it has nothing to do while all is ok. Where the sweep
        renews, it does so half an interval early: a key that was renewed late in its minute, or at the end
        of a long run, may be a second too young, and the next sweep is a whole interval away.
        """
        after = renew_after_minutes or self.renew_after_minutes
        if (rate_minutes(self.schedule_expression) or 30) <= after:
            return after + 1
        return max(1, after - (rate_minutes(self.sweep_expression) or 5) // 2)


def rate_minutes(expression: str) -> int | None:
    """Return the minutes between two firings of a rate() expression, None for anything else."""
    match = re.fullmatch(r"rate\(([1-9]\d{0,4}) (minute|hour|day)s?\)", expression)
    return int(match[1]) * _MINUTES[match[2]] if match else None


def _text(environ: Mapping[str, str], name: str, may_be_empty: bool = False) -> str:
    value = environ.get(name)
    if value is None or not (may_be_empty or value.strip()):
        raise SettingsError(f"{name} is not set: the template sets it, deploy with it")
    return value.strip()


def _number(environ: Mapping[str, str], name: str, low: int, high: int) -> int:
    value = _text(environ, name)
    if not re.fullmatch(r"\d{1,9}", value) or not low <= int(value) <= high:
        raise SettingsError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    return int(value)


def _matching(environ: Mapping[str, str], name: str, pattern: str, what: str) -> str:
    value = _text(environ, name)
    if not re.fullmatch(pattern, value):
        raise SettingsError(f"{name} must be {what}, not {value!r}")
    return value


def _base_url(environ: Mapping[str, str], name: str, scheme: str) -> str:
    value = _text(environ, name, may_be_empty=True).rstrip("/")
    if not re.fullmatch(_BASE_URL.format(scheme), value):
        # Not repeated: it may hold a password.
        raise SettingsError(f"{name} must be empty or {scheme}s://host, without a path")
    return value
