"""The template and Settings agree, both ways: nothing is set in vain, nothing is read that is not set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product

import pytest
from hypothesis import given
from hypothesis import settings as settings_for_hypothesis
from hypothesis.strategies import DataObject, data, from_regex, sampled_from

from listenkeys.settings import Settings, rate_minutes
from listenkeys.timing import LEASE_MINUTES
from local.aws.stack import LocalAws, expand

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


def test_every_variable_is_read_and_has_no_default_in_the_code(aws: LocalAws) -> None:
    deployed = aws.function_environment()
    noting = Noting(deployed)
    assert Settings.from_env(noting).shard_count == 1
    assert noting.asked == deployed.keys() - POWERTOOLS
    assert deployed.keys() >= POWERTOOLS

    for name in noting.asked:
        with pytest.raises(Exception, match=f"^{name} is not set"):
            Settings.from_env({other: value for other, value in deployed.items() if other != name})


PARAMETERS = {
    "SCHEDULE_EXPRESSION": ("ScheduleExpression", "schedule_expression", "rate(20 minutes)"),
    "SWEEP_EXPRESSION": ("SweepExpression", "sweep_expression", "rate(4 minutes)"),
    "RENEW_AFTER_MINUTES": ("RenewAfterMinutes", "renew_after_minutes", "25"),
    "SECRET_PREFIX": ("SecretPrefix", "secret_prefix", "team/keys"),
    "BINANCE_BASE_URL": ("BinanceBaseUrl", "binance_base_url", "https://demo-fapi.binance.com"),
    "BINANCE_STREAM_URL": ("BinanceStreamUrl", "binance_stream_url", "wss://demo-fstream.binance.com"),
    "MAX_CONCURRENCY": ("MaxConcurrency", "max_concurrency", "3"),
    "MAX_WEIGHT_PER_MINUTE": ("MaxWeightPerMinute", "max_weight_per_minute", "600"),
    "LEDGER_MODE": ("LedgerMode", "ledger_mode", "changes"),
    "LEDGER_DAYS": ("LedgerDays", "ledger_days", "7"),
}


def test_a_parameter_reaches_the_setting_of_its_name() -> None:
    chosen = {parameter: value for parameter, _, value in PARAMETERS.values()}
    with LocalAws({**chosen, "LogLevel": "DEBUG"}) as aws:
        environment, outputs = aws.function_environment(), aws.outputs
        settings = Settings.from_env(environment)

    assert {field: str(getattr(settings, field)) for _, field, _ in PARAMETERS.values()} == {
        field: value for _, field, value in PARAMETERS.values()
    }
    assert settings.accounts_table == outputs["AccountsTableName"]
    assert settings.listen_keys_table == outputs["ListenKeysTableName"]
    assert settings.ledger_table == outputs["LedgerTableName"]
    assert environment["POWERTOOLS_LOG_LEVEL"] == "DEBUG"


TEMPLATE = expand()
# What the patterns let through: the ends of each range, and what lies oddest within it.
TEXTS = {
    "ScheduleExpression": ["rate(1 minute)", "rate(30 minutes)", "rate(60 minutes)", "cron(0/30 * * * ? *)"],
    "SweepExpression": [f"rate({minutes} minutes)" for minutes in range(2, 9)],
    "SecretPrefix": ["a", "team/keys@eu=1+.-_"],
    "RenewAfterMinutes": ["5", "38"],
    "MaxConcurrency": ["1", "64"],
    "MaxWeightPerMinute": ["1", "2400"],
    "LedgerDays": ["1", "3650"],
    "ShardCount": ["1", "10000"],
    "BinanceBaseUrl": ["", "https://demo-fapi.binance.com:59999", "http://127.0.0.1:1", "http://localhost"],
    "BinanceStreamUrl": ["", "wss://demo-fstream.binance.com:59999", "ws://127.0.0.1:1", "ws://localhost"],
    "HeartbeatSecretId": ["", "a"],
}


def variables() -> dict[str, str]:
    """Return each environment variable of the function that is a parameter, and that parameter."""
    environment = TEMPLATE["Resources"]["KeepaliveFunction"]["Properties"]["Environment"]["Variables"]
    return {
        name: value["Ref"]
        for name, value in environment.items()
        if name not in POWERTOOLS and value.get("Ref") in TEMPLATE["Parameters"]
    }


def limits(parameter: str) -> list[str]:
    declared = TEMPLATE["Parameters"][parameter]
    if "AllowedValues" in declared:
        return [str(value) for value in declared["AllowedValues"]]
    return TEXTS[parameter]


def settings_of(values: Mapping[str, str]) -> Settings:
    """Return the settings of a function deployed with these parameters."""
    queue = "" if values["ShardCount"] == "1" else "https://sqs.example/queue"
    tables = {"ACCOUNTS_TABLE": "accounts", "LISTEN_KEYS_TABLE": "keys", "LEDGER_TABLE": "ledger"}
    named = tables | {"WORK_QUEUE_URL": queue}
    return Settings.from_env(named | {name: values[parameter] for name, parameter in variables().items()})


def test_settings_take_every_combination_of_the_limits() -> None:
    parameters = sorted(variables().values())
    taken = 0
    for combination in product(*map(limits, parameters)):
        settings = settings_of(dict(zip(parameters, combination, strict=True)))
        sweep = rate_minutes(settings.sweep_expression)
        assert sweep
        # Two attempts before a key dies, the first at an age of up to a sweep more.
        assert settings.overdue_after() + 2 * sweep < LEASE_MINUTES
        taken += 1
    assert taken > 10_000


def test_the_texts_that_stand_for_a_pattern_are_within_it() -> None:
    for parameter, texts in TEXTS.items():
        for text in texts:
            assert re.fullmatch(TEMPLATE["Parameters"][parameter]["AllowedPattern"], text)


@settings_for_hypothesis(max_examples=100, deadline=None)
@given(data())
def test_settings_take_whatever_a_pattern_takes(draw: DataObject) -> None:
    defaults = {name: str(declared["Default"]) for name, declared in TEMPLATE["Parameters"].items()}
    parameter = draw.draw(sampled_from(sorted(TEXTS)))
    # ASCII: to CloudFormation, that is to Java, \d is 0 to 9.
    pattern = re.compile(TEMPLATE["Parameters"][parameter]["AllowedPattern"], re.ASCII)
    text = draw.draw(from_regex(pattern, fullmatch=True).filter(lambda text: "\n" not in text))
    settings_of(defaults | {parameter: text})


# Where a whole number has its limits; no other number passes, in whichever way it is written.
NUMBERS = {
    "RenewAfterMinutes": (5, 38),
    "MaxConcurrency": (1, 64),
    "MaxWeightPerMinute": (1, 2400),
    "LedgerDays": (1, 3650),
    "MemorySize": (128, 3008),
    "ShardCount": (1, 10_000),
    "ShardConcurrency": (2, 1000),
}


@pytest.mark.row(74)
@pytest.mark.parametrize("parameter", NUMBERS)
def test_a_whole_number_within_its_limits_passes_and_no_other_text(parameter: str) -> None:
    least, most = NUMBERS[parameter]
    pattern = re.compile(TEMPLATE["Parameters"][parameter]["AllowedPattern"])
    passed = [number for number in range(12_000) if pattern.fullmatch(str(number))]

    assert passed == list(range(least, most + 1))
    for text in ("", "7.5", "30.0", "3e1", "+30", "-30", "030", " 30", "30 ", "1_0", "٣٠", "thirty"):
        assert not pattern.fullmatch(text), text


def test_reserved_concurrency_is_none_or_enough() -> None:
    declared = TEMPLATE["Parameters"]
    assert not [name for name, parameter in declared.items() if parameter["Type"] == "Number"]
    pattern = declared["ReservedConcurrency"]["AllowedPattern"]
    passed = [number for number in range(12_000) if re.fullmatch(pattern, str(number))]
    # A tick, a sweep and Lambda's retry may run at the same time.
    assert passed == [0, *range(3, 10_000)]
