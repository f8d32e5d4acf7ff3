"""What an operator is told to do about an account."""

import pytest

from listenkeys.errors import Rejected
from listenkeys.model import Account, Current
from listenkeys.view.status import AccountStatus

ALICE = Account("alice", "usdm")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (AccountStatus(ALICE, Current(outcome="EXTENDED"), 40, 20), None),
        (AccountStatus(ALICE, Current(outcome="EXTENDED"), 14, 46), "see listenkeys check"),
        (AccountStatus(ALICE, Current(), None, None), "next sweep"),
        (AccountStatus(ALICE, Current(error_code="SECRET_INVALID"), None, 1), "accounts add --replace alice"),
        (
            AccountStatus(Account("x", problem=Rejected("INVALID_ACCOUNT", "no")), Current(), None),
            "correct it",
        ),
        (AccountStatus(ALICE, Current(error_code="FROM_A_LATER_VERSION"), 40, 1), None),
        (AccountStatus(Account("alice", enabled=False), Current(error_code="TIMEOUT"), None, 1), None),
    ],
    ids=["well", "no run", "new", "secret", "row", "unknown code", "disabled"],
)
def test_an_operator_is_told_what_to_do_and_only_when_there_is_something(
    row: AccountStatus, said: str | None
) -> None:
    told = row.to_do
    assert (told is None) if said is None else said in str(told)
