"""Settings say what is wrong in one line, and refuse a lease that cannot hold."""

from __future__ import annotations

import pytest

from listenkeys.errors import SettingsError
from listenkeys.settings import Settings, rate_minutes

GOOD = {
    "ACCOUNTS_TABLE": "accounts",
    "LISTEN_KEYS_TABLE": "keys",
    "LEDGER_TABLE": "ledger",
    "SECRET_PREFIX": "listenkeys",
    "SCHEDULE_EXPRESSION": "rate(30 minutes)",
    "SWEEP_EXPRESSION": "rate(5 minutes)",
    "RENEW_AFTER_MINUTES": "30",
    "BINANCE_BASE_URL": "",
    "BINANCE_STREAM_URL": "",
    "MAX_CONCURRENCY": "16",
    "MAX_WEIGHT_PER_MINUTE": "1200",
    "LEDGER_MODE": "all",
    "LEDGER_DAYS": "30",
}
ONE_FUNCTION = {"SHARD_COUNT": "1", "WORK_QUEUE_URL": "", "HEARTBEAT_SECRET_ID": ""}


def read(environ: dict[str, str]) -> Settings:
    return Settings.from_env(ONE_FUNCTION | environ)


def refusal_of(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        read(environ)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCHEDULE_EXPRESSION", "every now and then"),
        ("SWEEP_EXPRESSION", "cron(0/5 * * * ? *)"),
        ("SWEEP_EXPRESSION", "rate(0 minutes)"),
        ("SWEEP_EXPRESSION", "5 minutes"),
        ("SWEEP_EXPRESSION", "rate(1 minutes)"),
        ("SWEEP_EXPRESSION", "rate(9 minutes)"),
        ("SWEEP_EXPRESSION", "rate(1 hour)"),
        ("RENEW_AFTER_MINUTES", "half an hour"),
        ("RENEW_AFTER_MINUTES", "4"),
        ("RENEW_AFTER_MINUTES", "39"),
        ("RENEW_AFTER_MINUTES", "30.5"),
        ("RENEW_AFTER_MINUTES", "-30"),
        ("MAX_CONCURRENCY", "0"),
        ("MAX_CONCURRENCY", "65"),
        ("MAX_WEIGHT_PER_MINUTE", "0"),
        ("MAX_WEIGHT_PER_MINUTE", "2401"),
        ("LEDGER_MODE", "ALL"),
        ("LEDGER_MODE", "none"),
        ("LEDGER_DAYS", "0"),
        ("LEDGER_DAYS", "3651"),
        ("LEDGER_DAYS", "99999999999999999999"),
        ("BINANCE_BASE_URL", "fapi.binance.com"),
        ("BINANCE_BASE_URL", "http://fapi.binance.com"),
        ("BINANCE_BASE_URL", "ftp://127.0.0.1"),
        ("BINANCE_BASE_URL", "https://"),
        ("BINANCE_BASE_URL", "https://host/"),
        ("BINANCE_BASE_URL", "https://host/fapi"),
        ("BINANCE_BASE_URL", "https://host?a=b"),
        ("BINANCE_BASE_URL", "https://host#a"),
        ("BINANCE_BASE_URL", "https://me:secret@host"),
        ("BINANCE_BASE_URL", "https://[::1"),
        ("BINANCE_BASE_URL", "https://host:port"),
        ("BINANCE_BASE_URL", "https://host:99999"),
        ("BINANCE_STREAM_URL", "https://fstream.binance.com"),
        ("BINANCE_STREAM_URL", "ws://fstream.binance.com"),
        ("BINANCE_STREAM_URL", "wss://fstream.binance.com/ws"),
    ],
)
def test_nonsense_is_refused_in_one_line_that_names_the_variable(name: str, value: str) -> None:
    said = refusal_of(GOOD | {name: value})

    assert said.startswith(f"{name} must be ")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        (" https://testnet.binancefuture.com ", "https://testnet.binancefuture.com"),
        ("https://demo-fapi.binance.com:443", "https://demo-fapi.binance.com:443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_a_base_url_is_a_scheme_and_a_host(given: str, kept: str) -> None:
    assert read(GOOD | {"BINANCE_BASE_URL": given}).binance_base_url == kept


@pytest.mark.parametrize(
    ("schedule", "renew_after", "overdue"),
    [
        ("rate(30 minutes)", 30, 31),  # the tick's own job, and a minute for EventBridge
        ("rate(30 minutes)", 38, 39),
        ("rate(30 minutes)", 10, 8),  # the sweep's job: half a sweep early rather than a sweep late
        ("rate(1 hour)", 30, 28),
        ("rate(1 day)", 38, 36),
        ("cron(0/30 * * * ? *)", 30, 31),
    ],
)
def test_the_sweep_leaves_the_tick_a_minute_and_takes_none_from_the_key(
    schedule: str, renew_after: int, overdue: int
) -> None:
    environ = GOOD | {"SCHEDULE_EXPRESSION": schedule, "RENEW_AFTER_MINUTES": str(renew_after)}

    assert read(environ).overdue_after() == overdue


@pytest.mark.parametrize(("expression", "minutes"), [("rate(1 hour)", 60), ("rate(2 days)", 2880)])
def test_a_rate_is_read_in_minutes(expression: str, minutes: int) -> None:
    assert rate_minutes(expression) == minutes
