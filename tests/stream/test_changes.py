"""ListenKeyChanges: the keeper's own event, by a rule and a queue, wakes the streams of that account."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from listenkey_keeper import ListenKeyChanges
from listenkeys.aws.announcements import Announcer
from local.world import World
from tests.end_to_end.bot_stack import bot_stack
from tests.waiting import eventually

from .conftest import ALICE, in_loop, listening, until


def readers() -> int:
    return [thread.name for thread in threading.enumerate()].count("listen-key-changes")


@pytest.fixture
def queue_url(world: World) -> Iterator[str]:
    """The queue of examples/bot, for two accounts."""
    with bot_stack(world.aws, AccountIds="alice,bob") as outputs:
        yield outputs["QueueUrl"]


@pytest.fixture
def changes(world: World, queue_url: str) -> Iterator[ListenKeyChanges]:
    made = ListenKeyChanges(queue_url, sqs=world.aws.client("sqs"), wait_seconds=1)
    yield made
    for account, wake in list(made._subscribed):
        made.unsubscribe(account, wake)
    eventually(lambda: readers() == 0)


def announce(world: World, account: str) -> None:
    news = json.dumps({"detailType": "Listen Key Changed", "detail": {"accountId": account}})
    Announcer(world.aws.client("events"), world.aws.outputs["ListenKeysTableName"]).send({account: [news]})


@in_loop
async def test_the_keepers_announcement_wakes_the_stream(world, changes, queue_url, bot, keeper):
    keeper.renew()
    async with bot(changes=changes) as alice:
        await listening(alice)
        world.exchange.rotate(ALICE, "usdm")
        keeper.renew()
        announce(world, "alice")
        await until(lambda: len(alice.gaps) == 2)
    sqs = world.aws.client("sqs")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    await until(
        lambda: (
            set(sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"].values())
            == {"0"}
        )
    )


def test_only_the_streams_of_that_account_are_woken(world: World, changes: ListenKeyChanges) -> None:
    woken: list[str] = []
    for name, account in (("alice", "alice"), ("alice again", "alice"), ("bob", "bob")):
        changes.subscribe(account, lambda name=name: woken.append(name))
    announce(world, "alice")
    eventually(lambda: len(woken) == 2)
    announce(world, "bob")
    eventually(lambda: len(woken) == 3)
    assert sorted(woken) == ["alice", "alice again", "bob"]


@pytest.mark.parametrize("body", ["", "not JSON", "[]", '{"detail": "none"}', '{"detail": {}}'])
def test_what_is_no_announcement_is_taken_away_and_ignored(
    world: World, changes: ListenKeyChanges, queue_url: str, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    woken: list[bool] = []
    sqs = world.aws.client("sqs")
    sqs.send_message(QueueUrl=queue_url, MessageBody=body or " ")
    changes.subscribe("alice", lambda: woken.append(True))
    announce(world, "alice")
    eventually(lambda: woken)
    assert len(woken) == 1
    assert caplog.messages == []


class Refusing:
    """An SQS client that refuses."""

    def __init__(self) -> None:
        self.asked = 0

    def receive_message(self, **_: Any) -> Any:
        self.asked += 1
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "CANARY"}}, "ReceiveMessage")


def test_trouble_is_logged_by_its_code_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listenkey_keeper.stream.changes._RETRY_SECONDS", 0.001)
    sqs: Any = Refusing()
    changes = ListenKeyChanges("url", sqs=sqs)
    changes.subscribe("alice", print)
    eventually(lambda: sqs.asked > 3)
    changes.unsubscribe("alice", print)
    eventually(lambda: readers() == 0)
    assert caplog.messages == ["the queue of changes cannot be read (AccessDenied)"]


def test_the_queue_is_read_while_somebody_listens_and_by_one_thread(changes: ListenKeyChanges) -> None:
    for account in ("alice", "bob"):
        changes.subscribe(account, print)
    assert readers() == 1
    for account in ("alice", "bob"):
        changes.unsubscribe(account, print)
    eventually(lambda: readers() == 0)
    changes.subscribe("alice", print)
    assert readers() == 1
    changes.unsubscribe("alice", print)
