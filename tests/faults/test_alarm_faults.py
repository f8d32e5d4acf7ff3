"""Alarms that must page once for each trouble, and say when it is over: rows 68 to 71."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.aws.rules import SWEEP, TICK
from local.aws.stack import LocalAws
from local.clock import VirtualClock
from local.world import World
from tests.faults.matrix import HookedExchange, add_live, api_key_of, kept
from tests.faults.shards import Shards
from tests.integration.alarms import ALARM, OK, Alarms, Metrics
from tests.integration.watched import Watched
from tests.scene import Scene

CRASHED, WAITING, MISSED = "CrashedShardsAlarm", "WaitingShardsAlarm", "MissedRunsAlarm"
DEAD_LETTER, REJECTED, AT_RISK = "DeadLetterAlarm", "RejectedAccountsAlarm", "KeyAtRiskAlarm"
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank")
pytestmark = pytest.mark.usefixtures("botocore_sleeps")


def mails(alarms: Alarms, since: float) -> dict[str, list[tuple[float, str]]]:
    """Return what each alarm mailed and in which minute, the quiet ones left out."""
    return {
        name: [((at - since) / 60, state) for at, state in alarm.mails]
        for name, alarm in alarms.items()
        if alarm.mails
    }


def take_out(world: World, how: str, name: str) -> None:
    if how == "disabled":
        world.put_row(name, enabled=False)
    else:
        key = {"accountId": {"S": name}}
        world.aws.client("dynamodb").delete_item(TableName=world.aws.outputs["AccountsTableName"], Key=key)


@pytest.mark.slow
@pytest.mark.row(68)
@pytest.mark.parametrize("how", ["disabled", "removed"])
@pytest.mark.parametrize("others", [["bob"], []], ids=["another account left", "none left"])
def test_the_alarm_ends_with_the_last_account_at_risk_and_fires_again(
    world: Scene, how: str, others: list[str]
) -> None:
    world.live("alice", *others, minutes=10)
    watched = Watched(world, world.function, world.clock)
    watched.go(10)
    began = world.clock.timestamp()
    world.exchange.fault(status=503, api_key=api_key_of("alice"))

    watched.go(50)
    assert AT_RISK in watched.alarms.firing()
    take_out(world, how, "alice")
    watched.go(16)
    assert AT_RISK not in watched.alarms.firing()

    world.live("carol", minutes=0)
    world.exchange.fault(status=503, api_key=api_key_of("carol"))
    watched.go(60)
    states = [state for at, state in watched.alarms[AT_RISK].mails if at > began]
    assert states == [ALARM, OK, ALARM]


@pytest.mark.row(69)
def test_a_stack_whose_rules_never_run_pages_when_its_warm_up_is_over(world: Scene) -> None:
    deployed = world.clock.timestamp()
    watched = Watched(world, world.function, world.clock, new=True)

    watched.go(29, disabled={TICK, SWEEP})
    assert mails(watched.alarms, deployed) == {}

    watched.go(60, disabled={TICK, SWEEP})
    assert mails(watched.alarms, deployed)[MISSED] == [(30, ALARM)]

    watched.go(10)
    assert mails(watched.alarms, deployed)[MISSED] == [(30, ALARM), (93, OK)]


@pytest.mark.row(69)
def test_a_stack_that_may_never_read_its_accounts_sets_off_an_alarm(world: Scene) -> None:
    deployed = world.clock.timestamp()
    world.refusals.refuse("dynamodb", "Scan", "AccessDeniedException")
    watched = Watched(world, world.function, world.clock, new=True)

    watched.go(60)

    assert mails(watched.alarms, deployed)[MISSED] == [(30, ALARM)]


@pytest.mark.row(69)
def test_an_account_wrong_from_the_start_sets_off_an_alarm_after_warm_up(world: Scene) -> None:
    deployed = world.clock.timestamp()
    world.add_account("bob", api_key_of("bob"))
    world.exchange.revoke(api_key_of("bob"))
    watched = Watched(world, world.function, world.clock, new=True)

    watched.go(45)

    assert mails(watched.alarms, deployed)[AT_RISK] == [(30, ALARM)]
    assert REJECTED in watched.alarms.firing()
    assert MISSED not in watched.alarms.firing()


@pytest.fixture(scope="module")
def sharded_aws() -> Iterator[LocalAws]:
    with LocalAws({"ShardCount": "2"}) as deployed:
        yield deployed


@pytest.fixture
def shards(sharded_aws: LocalAws, clock: VirtualClock) -> Iterator[Shards]:
    sharded_aws.reset()
    with World(exchange=HookedExchange(now=clock.timestamp), aws=sharded_aws) as world:
        add_live(world, clock, *NAMES, minutes=25)
        yield Shards(world, clock)


@pytest.mark.slow
@pytest.mark.row(70)
@pytest.mark.parametrize("dead_after", [60, 61, 64, 88])
def test_a_shard_that_always_crashes_sets_off_an_alarm_in_time(shards: Shards, dead_after: int) -> None:
    shards.go(dead_after)
    assert {state for alarm in shards.alarms.values() for _, state in alarm.mails} == {OK}
    world, died_at = shards.world, shards.clock.timestamp()
    first_end = min(world.exchange.expires_at(api_key_of(name), "usdm") or 0 for name in NAMES)
    shards.crashing = {0}
    shards.go(70)

    assert first_end - shards.alarms.fired_at(CRASHED) >= 10 * 60
    assert {kept(world, name) for name in NAMES} == {True, False}  # only the dead shard's keys die
    assert {WAITING, CRASHED} <= shards.alarms.firing()
    assert MISSED not in shards.alarms.firing()

    shards.crashing = set()
    shards.go(60)
    for name in (CRASHED, WAITING):
        assert [state for at, state in shards.alarms[name].mails if at > died_at] == [ALARM, OK]
    assert all(kept(world, name) for name in NAMES)
    assert shards.alarms.firing() == set()


@pytest.mark.slow
@pytest.mark.row(70)
def test_a_shard_that_crashes_once_pages_nobody(shards: Shards) -> None:
    shards.go(61)
    shards.crashing = {1}
    shards.go(4)
    shards.crashing = set()
    shards.go(9)
    assert CRASHED not in shards.alarms.firing()


def letters(
    clock: VirtualClock, world: World, hours: dict[float, int | None], late: int = 0
) -> list[tuple[float, str]]:
    """Play how many letters are in the queue from each hour on (None: no data); return the alarm's states.

    `late`: the first data come that many minutes late, with the times they are of.
    """
    names = {**world.aws.resources, "AWS::StackName": world.aws.stack_name}
    alarm = Alarms(world.aws.template, names, clock.timestamp() - 3600)[DEAD_LETTER]
    queue = {"QueueName": world.aws.resources["DeadLetterQueue"].rpartition("/")[2]}
    metrics, start, count = Metrics(), clock.timestamp(), None
    held: list[tuple[float, int]] = []
    for minute in range(int(60 * max(hours)) + 60):
        count = hours.get(minute / 60, count)
        at = start + 60 * minute
        if count is not None:
            held.append((at, count))
        if held and at >= held[0][0] + 60 * late:
            for of, number in held:
                metrics.put("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue, of, number)
            held, late = [], 0
        alarm.evaluate(metrics, at)
    assert not alarm.mails, "what has filled the queue is told by other alarms"
    return [((at - start) / 3600, state) for at, state in alarm.history if at > start]


def turned_on(sent: list[tuple[float, str]]) -> list[float]:
    return [hour for hour, state in sent if state == ALARM]


@pytest.mark.row(71)
@pytest.mark.parametrize(
    ("hours", "paged_at"),
    [
        pytest.param({0: 0, 1: 1, 3: 2}, [1, 3], id="a second letter while the first is there"),
        pytest.param({0: 0, 1: 1, 3: 0, 4: 1}, [1, 4], id="a letter after a purge"),
        pytest.param({0: 0, 1: 1, 2: None, 2.1: 1}, [1], id="a gap in what SQS reports"),
        pytest.param({0: None, 1: 1, 9: None, 12: 2}, [1, 12], id="a queue that nobody used for hours"),
        pytest.param({0: 0, 1: 3, 2: 2, 3: 1}, [1], id="letters read and deleted one by one"),
    ],
)
def test_each_new_letter_turns_the_alarm_on_and_it_ends_without_a_purge(
    world: Scene, hours: dict[float, int | None], paged_at: list[float]
) -> None:
    sent = letters(world.clock, world, hours)

    assert turned_on(sent) == paged_at
    ended = [hour for hour, state in sent if state == OK and hour > 0.5]
    lasted = [round(60 * (end - begin)) for begin, end in zip(paged_at, ended, strict=True)]
    assert lasted == [20] * len(ended)


@pytest.mark.row(71)
@pytest.mark.parametrize("late", [1, 5, 14, 15])
def test_the_first_letter_in_an_idle_queue_counts_though_reported_late(world: Scene, late: int) -> None:
    """ "A delay of up to 15 minutes occurs in CloudWatch metrics when a queue is activated" (SQS guide)."""
    [paged_at] = turned_on(letters(world.clock, world, {1: 1}, late))
    assert round(60 * (paged_at - 1)) == late


@pytest.mark.row(71)
@pytest.mark.parametrize("minutes_apart", [30, 60])
def test_letters_of_one_tick_after_the_other_count_each(world: Scene, minutes_apart: int) -> None:
    hours: dict[float, int | None] = {0: 0} | {1 + n * minutes_apart / 60: n + 1 for n in range(4)}
    assert len(turned_on(letters(world.clock, world, hours))) == 4


@pytest.mark.row(71)
def test_a_letter_that_somebody_reads_is_not_new_afterwards(world: Scene) -> None:
    """SQS goes on to report a queue that holds messages, so the count before is known, hours later, too."""
    hours: dict[float, int | None] = {0: 0, 1: 1, 9: 0, 9 + 1 / 60: 1}
    assert turned_on(letters(world.clock, world, hours)) == [1]
