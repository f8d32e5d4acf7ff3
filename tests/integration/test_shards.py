"""Past one function: a tick as messages, and each message as a run over its segment of the accounts."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local.aws.stack import LocalAws
from local.clock import VirtualClock
from local.invoke import Context, Invocation
from tests.faults.matrix import SWEEP, TICK
from tests.scene import Scene

SHARDS = 23


@pytest.fixture(scope="module")
def sharded_aws() -> Iterator[LocalAws]:
    with LocalAws({"ShardCount": str(SHARDS), "ShardConcurrency": "4"}) as deployed:
        yield deployed


@pytest.fixture
def world(sharded_aws: LocalAws, clock: VirtualClock) -> Iterator[Scene]:
    sharded_aws.reset()
    with Scene(clock, sharded_aws) as made:
        yield made


def messages(aws: LocalAws) -> list[dict[str, Any]]:
    """Take what is in the queue, in the form in which Lambda hands it to the function."""
    asked: dict[str, Any] = {"QueueUrl": aws.resources["WorkQueue"], "AttributeNames": ["All"]}
    taken: list[Any] = []
    while batch := aws.client("sqs").receive_message(**asked, MaxNumberOfMessages=10).get("Messages"):
        taken += [{name[0].lower() + name[1:]: value for name, value in each.items()} for each in batch]
    return taken


def work(world: Scene, record: dict[str, Any]) -> Invocation:
    """Invoke the shard's handler with one message, sent when the virtual clock says now."""
    record["attributes"]["SentTimestamp"] = str(int(world.clock.timestamp() * 1000))
    return world.function.invoke({"Records": [record]}, handler="shard_handler")


def test_a_tick_sends_one_message_per_shard_and_reads_no_account(world: Scene) -> None:
    context = Context()
    done = world.invoke(TICK, context)

    assert done.report == {"runId": context.aws_request_id, "trigger": "tick", "shards": SHARDS}
    sent = [json.loads(message["body"]) for message in messages(world.aws)]
    assert sorted(body["segment"] for body in sent) == list(range(SHARDS))
    assert {(body["run_id"], body["trigger"], body["total"]) for body in sent} == {
        (context.aws_request_id, "tick", SHARDS)
    }
    assert world.exchange.count == 0


def test_a_message_that_the_queue_does_not_take_fails_the_tick(world: Scene) -> None:
    calls = 0

    def leave_out(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        return params | {"Entries": params["Entries"][1:]} if calls == 1 else params

    def say_so(parsed: dict[str, Any], **_: Any) -> None:
        if calls == 1:
            parsed["Failed"] = [{"Id": "0", "SenderFault": False, "Code": "InternalError"}]

    events = world.function.app.work_queue.sqs.meta.events
    events.register("provide-client-params.sqs.SendMessageBatch", leave_out)
    events.register("after-call.sqs.SendMessageBatch", say_so)

    done = world.invoke(TICK)

    assert str(done.error) == "WorkQueue did not take all shards: InternalError"
    assert sorted(json.loads(each["body"])["segment"] for each in messages(world.aws)) == list(
        range(1, SHARDS)
    )
    assert world.invoke(TICK).error is None
    assert len(messages(world.aws)) == SHARDS


def test_a_shards_run_tells_which_run_and_which_shard_it_is(world: Scene) -> None:
    context = Context()
    world.invoke(TICK, context)
    record = messages(world.aws)[0]
    record["attributes"]["SentTimestamp"] = str(int(world.clock.timestamp() * 1000))
    own = Context()
    done = world.function.invoke({"Records": [record]}, own, handler="shard_handler")

    [line] = [line for line in map(json.loads, done.output.splitlines()) if line.get("message") == "run"]
    assert line["report"]["runId"] == context.aws_request_id
    assert line["report"]["shard"].endswith(f" of {SHARDS}")
    assert line["function_request_id"] == own.aws_request_id


def test_a_redelivered_shard_renews_only_what_is_still_due(world: Scene) -> None:
    world.add_account("alice", "a" * 64)
    world.invoke(TICK)
    records = messages(world.aws)
    for record in records * 2:
        work(world, record)

    assert [request.method for request in world.exchange.requests] == ["PUT", "POST"]


def test_a_shard_that_is_not_complete_comes_back(
    world: Scene,
) -> None:
    world.add_account("alice", "a" * 64)
    world.add_account("bob", "b" * 64)
    world.exchange.fault(status=500, api_key="a" * 64)
    world.invoke(TICK)
    failed = []
    for record in messages(world.aws):
        done = work(world, record)
        assert done.error is None  # not an error of the function's
        assert done.report
        failed += [
            record
            for each in done.report["batchItemFailures"]
            if each == {"itemIdentifier": record["messageId"]}
        ]

    [record] = failed
    unknown = record | {"receiptHandle": "gone"}  # nor does a refusal by the queue hide what the run says
    assert work(world, unknown).report == {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}
    assert world.current("alice")["outcome"] == "FAILED"
    assert world.current("bob")["outcome"] == "CREATED"
    visible = world.aws.client("sqs").change_message_visibility  # it must still be a message of the queue
    visible(
        QueueUrl=world.aws.resources["WorkQueue"], ReceiptHandle=record["receiptHandle"], VisibilityTimeout=0
    )
    assert [message["body"] for message in messages(world.aws)] == [record["body"]]


@pytest.mark.parametrize(("waited", "done"), [(0, True), (301, False)], ids=["in time", "for 5 minutes"])
def test_a_sweeps_shard_that_waited_for_the_next_is_left_to_it(world: Scene, waited: int, done: bool) -> None:
    world.add_account("alice", "a" * 64)
    world.invoke(SWEEP)
    sent_at = str(int(world.clock.timestamp() * 1000))
    world.clock.advance(waited)
    for record in messages(world.aws):
        record["attributes"]["SentTimestamp"] = sent_at
        assert world.function.invoke({"Records": [record]}, handler="shard_handler").error is None

    assert bool(world.exchange.live_key("a" * 64, "usdm")) is done
    assert bool(world.exchange.count) is done


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"segment": 1}', "null"])
def test_a_message_that_no_tick_has_sent_is_refused(world: Scene, body: str) -> None:
    world.invoke(TICK)
    record = messages(world.aws)[0] | {"body": body}
    done = work(world, record)

    assert done.error  # which Lambda counts, and CrashedShardsAlarm reads
    assert world.exchange.count == 0


def test_a_manual_run_does_its_work_itself(world: Scene) -> None:
    world.add_account("alice", "a" * 64)
    done = world.invoke({"accounts": ["alice"]})

    assert done.report is not None
    assert done.report["created"] == 1
    assert messages(world.aws) == []
