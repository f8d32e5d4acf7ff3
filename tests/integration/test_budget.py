"""The weight counter in a table: never more than the cap, however many runs take from it at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from listenkeys.aws.budget import Budget
from listenkeys.aws.calls import Deadline
from listenkeys.aws.counter import WeightCounter
from local.aws.stack import LocalAws
from local.clock import VirtualClock
from local.world import World

CAP = 60


@pytest.fixture
def tables(world: World) -> LocalAws:
    return world.aws


def budget_of(aws: LocalAws, clock: VirtualClock, cap: int = CAP) -> Budget:
    deadline = Deadline(clock.clock.monotonic)
    counter = WeightCounter(aws.client("dynamodb"), aws.outputs["LedgerTableName"], deadline)
    return Budget(counter, cap, clock.clock)


def counters(aws: LocalAws) -> list[dict[str, Any]]:
    return list(aws.items("LedgerTable"))


def send(budget: Budget, *ids: str) -> int:
    """Ask for these accounts and send for as many as there is weight for, as a run does; return how many."""
    admitted, _ = budget.admit("futures", dict.fromkeys(ids, 1))
    for _ in range(admitted):
        budget.spend("futures")
    return admitted


def used(aws: LocalAws) -> int:
    [counter] = counters(aws)
    return int(counter["used"]["N"])


def test_a_full_minute_refuses_and_says_how_much_is_left(tables: LocalAws, clock: VirtualClock) -> None:
    one, two = budget_of(tables, clock), budget_of(tables, clock)

    assert send(one, *(f"a{n}" for n in range(50))) == 50
    assert send(two, *(f"b{n}" for n in range(20))) == 10
    assert send(two, "c") == 0
    assert used(tables) == CAP


def test_a_second_run_learns_which_accounts_the_first_has_claimed(
    tables: LocalAws, clock: VirtualClock
) -> None:
    one, two = budget_of(tables, clock), budget_of(tables, clock)

    assert one.admit("futures", {"alice": 1, "bob": 1}) == (2, set())
    assert two.admit("futures", {"bob": 1, "carol": 1}) == (2, {"bob"})


def test_a_run_that_asks_again_for_an_account_that_it_has_claimed_is_told_so(
    tables: LocalAws, clock: VirtualClock
) -> None:
    budget = budget_of(tables, clock)

    assert budget.admit("futures", {"alice": 1})[1] == set()
    assert budget.admit("futures", {"bob": 1})[1] == set()
    assert budget.admit("futures", {"alice": 1})[1] == {"alice"}


def test_what_is_given_back_can_be_taken_and_the_unrenewed_claimed_again(
    tables: LocalAws, clock: VirtualClock
) -> None:
    one, two = budget_of(tables, clock), budget_of(tables, clock)
    one.admit("futures", {"alice": 1, "bob": 1})
    one.spend("futures")
    one.give_back("futures", ["bob"])

    assert used(tables) == 1
    assert two.admit("futures", {"alice": 1, "bob": 1}) == (2, {"alice"})


def test_the_last_claim_given_back_leaves_a_counter_without_claims(
    tables: LocalAws, clock: VirtualClock
) -> None:
    budget = budget_of(tables, clock)
    budget.admit("futures", {"alice": 1})
    budget.give_back("futures", ["alice"])

    [counter] = counters(tables)
    assert "claimed" not in counter
    assert budget_of(tables, clock).admit("futures", {"alice": 1}) == (1, set())


def test_many_runs_at_once_never_take_more_than_the_cap(tables: LocalAws, clock: VirtualClock) -> None:
    budgets = [budget_of(tables, clock) for _ in range(8)]

    def take(numbered: tuple[int, Budget]) -> int:
        number, budget = numbered
        return sum(send(budget, *(f"{number}-{n}-{m}" for m in range(3))) for n in range(5))

    with ThreadPoolExecutor(8) as pool:
        granted = list(pool.map(take, enumerate(budgets)))

    assert not any(budget.trouble for budget in budgets)
    assert sum(granted) == used(tables) == CAP


def test_each_clock_minute_and_each_group_has_a_counter_of_its_own(
    tables: LocalAws, clock: VirtualClock
) -> None:
    budget = budget_of(tables, clock)
    budget.admit("futures", {f"a{n}": 1 for n in range(CAP)})
    clock.advance(60)

    assert budget.admit("futures", {"a": 1}) == (1, set())
    assert budget.admit("options", {"a": 1}) == (1, set())
    assert len(counters(tables)) == 3


def test_a_broken_counter_costs_no_run_its_cap(tables: LocalAws, clock: VirtualClock) -> None:
    budget_of(tables, clock).admit("futures", {"alice": 1})
    [counter] = counters(tables)
    counter["used"] = {"S": "many"}
    tables.client("dynamodb").put_item(TableName=tables.outputs["LedgerTableName"], Item=counter)
    budget = budget_of(tables, clock)

    admitted, _ = budget.admit("futures", {f"b{n}": 1 for n in range(CAP + 1)})

    # DynamoDB refuses the write as if the minute were full; moto breaks on it.
    why = "does not hold a number" if tables.dynamodb_url else "could not be reached"
    assert admitted == CAP
    assert why in str(budget.trouble)
