"""Faults that meet: scenes and hours of `make chaos`, with moto in place of DynamoDB Local.

Each scene is one that random days have found. The handler runs in processes of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos.accounts import ACCOUNTS
from chaos.day import SWEEP, TICK, Day
from chaos.plan import HOUR, MINUTE, Plan
from chaos.traffic import SECONDS, Call
from chaos.world import START

pytestmark = pytest.mark.slow
PROMISED = [account.name for account in ACCOUNTS if account.promised]
FUTURES = [account.name for account in ACCOUNTS if account.promised and account.group == "futures"]


class Scene(Plan):
    """Nothing goes wrong but what a scene says of a run's calls of AWS and requests to Binance, in order."""

    def __init__(self) -> None:
        super().__init__("scene", START, 2, only=frozenset())
        self.aws_fates: dict[tuple[str, str], list[str]] = {}
        self.binance_fates: dict[tuple[str, str], list[str]] = {}

    def aws(self, now: float, run: str, what: str, operation: str) -> str:
        fates = self.aws_fates.get((run, operation.partition(".")[2]), [])
        return fates.pop(0) if fates else ""

    def binance(self, now: float, what: str, group: str) -> str:
        run, account, _ = what.split("/")
        fates = self.binance_fates.get((run, account)) or self.binance_fates.get((run, "*")) or []
        return fates.pop(0) if fates else ""


class Stage(Day):
    """A world whose accounts have just been renewed; the scene says which runs there are."""

    def __init__(self, folder: Path, **parameters: str) -> None:
        self.scene = Scene()
        super().__init__(
            "scene",
            2,
            folder,
            self.scene,
            LedgerMode="all",
            ShardCount="1",
            MaxWeightPerMinute="60",
            **parameters,
        )
        self.run("first", TICK, "tick", START + 1)
        self._until(START + 3 * MINUTE)

    def run(self, run_id: str, event: Any, trigger: str, at: float, seconds: float = SECONDS) -> None:
        """Let a run begin."""
        call = Call("lambda_handler", event, run_id, trigger, forced="force" in event, seconds=seconds)
        self.at(at, lambda: self.send(call))

    def finish(self) -> None:
        """Let the rules go on for an hour; everything has to be in order then."""
        begins = self.world.keeper.now() + 3 * MINUTE
        for n in range(1, 14):
            self.run(f"last-{n}", SWEEP, "sweep", begins + n * 5 * MINUTE)
        self._until(begins + HOUR + 10 * MINUTE)
        self.drain()
        self.check_at_the_end()
        self.close()
        assert [str(violation) for violation in self.checks.violations] == []


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.mark.row(92)
def test_a_success_that_waited_while_a_person_failed_announces_the_recovery(stage: Stage) -> None:
    at = START + 40 * MINUTE
    stage.scene.binance_fates["waits", "*"] = ["5xx"] * 6
    for name in set(PROMISED) - set(FUTURES):  # other groups have hosts of their own
        stage.scene.binance_fates["waits", name] = [""] * 9
    stage.scene.binance_fates["person", "own07"] = ["5xx"] * 30

    stage.run("waits", TICK, "tick", at)
    stage.run("person", {"accounts": ["own07"], "force": True}, "manual", at + 5)
    stage._until(at + 5 * MINUTE)

    stage.finish()


@pytest.mark.row(93)
def test_a_lost_answer_of_the_counter_skips_nobody(stage: Stage) -> None:
    at = START + 40 * MINUTE
    stage.scene.aws_fates["loses", "UpdateItem"] = ["lost", ""] * 8

    stage.run("loses", TICK, "tick", at)
    stage._until(at + 2 * MINUTE)

    [run] = [run for run in stage.runs if run.id == "loses"]
    assert {ask.account for ask in run.asks if ask.clean} >= set(FUTURES)
    stage.finish()


@pytest.mark.row(93)
def test_weight_that_is_given_back_twice_lets_nobody_exceed_the_cap(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    at = START + 40 * MINUTE
    names = {"accounts": FUTURES, "force": True}
    # Taking is the first call, giving back the second; a 403 leaves weight that is given back.
    stage.scene.aws_fates["gives", "UpdateItem"] = ["", "lost", "lost"]
    stage.scene.binance_fates["gives", "*"] = ["403", "403"]
    stage.run("gives", names, "manual", at)
    for n in range(8):
        stage.run(f"person-{n}", names, "manual", at + 10 + 5 * n)
    stage._until(at + 2 * MINUTE)

    minute = int(at // 60)
    assert stage.world.exchange.weight("futures")[minute] <= 60
    stage.finish()


@pytest.mark.row(94)
def test_a_failure_that_ends_after_a_later_success_does_not_undo_it(stage: Stage) -> None:
    at = START + 40 * MINUTE + 57  # the second run is in the next minute: in one they would not both ask
    stage.scene.binance_fates["hangs", "own05"] = ["hang"]

    stage.run("hangs", {"accounts": ["own05"], "force": True}, "manual", at, seconds=32)
    stage.run("succeeds", {"accounts": ["own05"], "force": True}, "manual", at + 3.3)
    stage._until(at + 5 * MINUTE)

    stage.finish()


@pytest.mark.row(95)
def test_most_keys_unprocessed_every_time_fails_nobody(stage: Stage) -> None:
    at = START + 40 * MINUTE
    stage.scene.aws_fates["halves", "BatchGetItem"] = ["partial"] * 40

    stage.run("halves", {"accounts": PROMISED, "force": True}, "manual", at)
    stage._until(at + 5 * MINUTE)

    [run] = [run for run in stage.runs if run.id == "halves"]
    assert {ask.account for ask in run.asks if ask.clean} >= set(PROMISED)
    stage.finish()


@pytest.mark.row(98)
def test_what_binance_says_of_the_address_ends_the_minute_for_the_admitted(stage: Stage) -> None:
    at = START + 40 * MINUTE
    stage.scene.binance_fates["near", "*"] = ["near"] * 9

    stage.run("near", TICK, "tick", at)
    stage._until(at + 5 * MINUTE)

    stage.finish()


@pytest.mark.row(96)
@pytest.mark.parametrize("seed", ["96", "97"])
def test_hours_of_chaos_break_no_promise(tmp_path: Path, seed: str) -> None:
    day = Day(seed, 2, tmp_path)

    day.play()

    assert ["\n".join([str(violation), *violation.story]) for violation in day.checks.violations] == []
