"""The template and Settings agree, both ways: nothing is set in vain, nothing is read that is not set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from listenkeys.settings import Settings
from local.aws.stack import LocalAws

# Powertools' own variables: https://docs.powertools.aws.dev/lambda/python/latest/#environment-variables
POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}


class Noting(Mapping[str, str]):
    """An environment that notes what is asked of it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("settings are read by name")

    def __len__(self) -> int:
        return len(self._variables)


def held(aws: LocalAws, logical_id: str) -> Settings:
    """Return the settings of a deployed function, after holding its environment against what they read."""
    deployed = Noting(aws.function_environment(logical_id))
    settings = Settings.from_env(deployed)
    assert deployed.asked == aws.function_environment(logical_id).keys() - POWERTOOLS
    assert aws.function_environment(logical_id).keys() >= POWERTOOLS
    return settings


def test_every_variable_of_the_deployed_function_is_read_and_every_one_read_is_set(aws: LocalAws) -> None:
    assert held(aws, "KeepaliveFunction").shard_count == 1


def test_with_shards_both_functions_have_the_same_settings() -> None:
    with LocalAws({"ShardCount": "4", "ShardConcurrency": "5"}) as aws:
        settings = held(aws, "KeepaliveFunction")

        assert held(aws, "ShardFunction") == settings
        assert (settings.shard_count, settings.shard_concurrency) == (4, 5)
        assert settings.work_queue_url


def test_the_template_is_the_only_place_that_knows_a_default(aws: LocalAws) -> None:
    deployed = aws.function_environment()

    for name in deployed.keys() - POWERTOOLS:
        without = {other: value for other, value in deployed.items() if other != name}
        with pytest.raises(Exception, match=f"^{name} is not set"):
            Settings.from_env(without)


PARAMETERS = {
    "SCHEDULE_EXPRESSION": ("ScheduleExpression", "schedule_expression", "rate(20 minutes)"),
    "SWEEP_EXPRESSION": ("SweepExpression", "sweep_expression", "rate(4 minutes)"),
    "RENEW_AFTER_MINUTES": ("RenewAfterMinutes", "renew_after_minutes", "25"),
    "SECRET_PREFIX": ("SecretPrefix", "secret_prefix", "team/keys"),
    "BINANCE_BASE_URL": ("BinanceBaseUrl", "binance_base_url", "https://demo-fapi.binance.com"),
    "MAX_CONCURRENCY": ("MaxConcurrency", "max_concurrency", "3"),
    "MAX_WEIGHT_PER_MINUTE": ("MaxWeightPerMinute", "max_weight_per_minute", "600"),
    "LEDGER_MODE": ("LedgerMode", "ledger_mode", "changes"),
    "LEDGER_DAYS": ("LedgerDays", "ledger_days", "7"),
}


def test_a_parameter_reaches_the_setting_of_its_name() -> None:
    chosen = {parameter: value for parameter, _, value in PARAMETERS.values()}
    with LocalAws(chosen) as aws:
        settings = Settings.from_env(aws.function_environment())
        outputs = aws.outputs

    assert {field: str(getattr(settings, field)) for _, field, _ in PARAMETERS.values()} == {
        field: value for _, field, value in PARAMETERS.values()
    }
    assert settings.accounts_table == outputs["AccountsTableName"]
    assert settings.listen_keys_table == outputs["ListenKeysTableName"]


@pytest.mark.parametrize(
    ("parameter", "setting", "least", "most"),
    [
        ("RenewAfterMinutes", "RENEW_AFTER_MINUTES", 5, 50),
        ("MaxConcurrency", "MAX_CONCURRENCY", 1, 64),
        ("MaxWeightPerMinute", "MAX_WEIGHT_PER_MINUTE", 1, 2400),
        ("LedgerDays", "LEDGER_DAYS", 1, 3650),
        ("ShardConcurrency", "SHARD_CONCURRENCY", 2, 1000),
    ],
)
def test_the_template_refuses_the_numbers_that_settings_refuses(
    aws: LocalAws, parameter: str, setting: str, least: int, most: int
) -> None:
    declared: dict[str, Any] = aws.template["Parameters"][parameter]
    assert (int(declared["MinValue"]), int(declared["MaxValue"])) == (least, most)

    # A short sweep, so that the longest renewal still leaves two attempts.
    environ = aws.function_environment() | {"SWEEP_EXPRESSION": "rate(2 minutes)"}
    for number in (least, most):
        Settings.from_env(environ | {setting: str(number)})
    for number in (least - 1, most + 1):
        with pytest.raises(Exception, match=f"^{setting} must be"):
            Settings.from_env(environ | {setting: str(number)})
