"""`listenkeys check` on messages: what was left behind, who may use the KMS keys, and the test by --page."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from listenkey_keeper.cli.paging import EMAIL_ONLY, HOLD, Page
from local.aws.stack import REGION, LocalAws
from local.clock import VirtualClock
from local.front import Front
from local.invoke import LocalFunction
from local.world import World
from tests.faults.matrix import TICK, add_live, api_key_of
from tests.faults.refusals import Refusals
from tests.integration.test_webhook import POSTED, TELLING
from tests.paths import ROOT
from tests.waiting import SECONDS, eventually

from .conftest import AwsFaults, Run, Start, put_alarm

MAIL = "ops@example.com"
NAMES = [name for name in TELLING if "Shards" not in name]  # the alarms that send, without shards


@pytest.fixture
def on_aws(world: World, faults: AwsFaults, front: Front, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The stack as if it were on AWS, with an address and its alarms, which moto's stack has not."""
    aws = world.aws
    monkeypatch.setenv("AWS_ENDPOINT_URL", faults.url.replace("127.0.0.1", "localhost"))
    cloudwatch, made = aws.client("cloudwatch"), []
    for name, resource in aws.template["Resources"].items():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            given = resource["Properties"]
            actions = [aws.outputs["AlarmTopicArn"]] if "AlarmActions" in given else []
            put_alarm(cloudwatch, f"its-{name}", given["AlarmDescription"], actions)
            cloudwatch.set_alarm_state(AlarmName=f"its-{name}", StateValue="OK", StateReason="-")
            made.append(name)
    member = (
        "<member><LogicalResourceId>{0}</LogicalResourceId><PhysicalResourceId>its-{0}</PhysicalResourceId>"
    )
    member += "<ResourceType>AWS::CloudWatch::Alarm</ResourceType></member>"
    end = b"</StackResources>"
    faults.edits["DescribeStackResources"] = lambda answer: answer.replace(
        end, "".join(member.format(name) for name in made).encode() + end
    )
    topic = aws.client("sns").subscribe(
        TopicArn=aws.outputs["AlarmTopicArn"], Protocol="email", Endpoint=MAIL
    )
    yield world
    aws.client("sns").unsubscribe(SubscriptionArn=topic["SubscriptionArn"])
    cloudwatch.delete_alarms(AlarmNames=[f"its-{name}" for name in made])


def states(world: World) -> dict[str, str]:
    found = world.aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    return {alarm["AlarmName"].removeprefix("its-"): alarm["StateValue"] for alarm in found}


def findings(run: Run, *arguments: str) -> dict[str, tuple[str, str]]:
    """Return what the command says of each check: the last of those with the same name."""
    done = run("check", "--json", *arguments)
    return {each["check"]: (each["status"], each["says"]) for each in json.loads(done.stdout)["checks"]}


def set_to(faults: AwsFaults) -> list[tuple[str, str]]:
    """Return each call of SetAlarmState: the alarm and the state."""
    bodies = [b for call, b in zip(faults.calls, faults.bodies, strict=True) if call == "SetAlarmState"]
    return [
        (re.findall(rb"its-(\w+Alarm)", body)[0].decode(), "ALARM" if b"ALARM" in body else "OK")
        for body in bodies
    ]


def test_page_asks_sets_off_each_alarm_and_says_what_should_come(
    start: Start, on_aws: World, faults: AwsFaults
) -> None:
    terminal = start("check", "--page", columns=200)
    terminal.wait_for("[y/N]: ")
    assert set_to(faults) == []
    terminal.type("y\n")
    assert terminal.end() == 0, terminal.output

    calls = set_to(faults)
    assert sorted(calls[: len(NAMES)]) == [(name, "ALARM") for name in sorted(NAMES)]
    assert sorted(calls[len(NAMES) :]) == [(name, "OK") for name in sorted(NAMES)]
    assert set(states(on_aws).values()) == {"OK"}
    [message] = on_aws.aws.sent_events()
    assert (message["source"], message["detail-type"]) == ("listenkey-keeper", "Listen Keys Failing")
    assert message["detail"] == {
        "count": 0,
        "accounts": [],
        "text": "TEST. This is a test by `listenkeys check --page`. No account fails. "
        "See `listenkeys status`.",
        "listenKeysTable": on_aws.aws.resources["ListenKeysTable"],
    }
    said = " ".join(terminal.output.split())
    assert f"{MAIL}: {2 * len(NAMES)} messages (ALARM and OK of " in said
    assert "and one that begins with TEST should have arrived" in said


@pytest.mark.parametrize(("answer", "code"), [("n\n", 2), ("\x03", 130)])
def test_page_sends_nothing_that_was_not_confirmed(
    start: Start, on_aws: World, faults: AwsFaults, answer: str, code: int
) -> None:
    terminal = start("check", "--page")
    terminal.wait_for("[y/N]: ")
    terminal.type(answer)
    assert terminal.end() == code
    assert "SetAlarmState" not in faults.calls


def test_ctrl_c_ends_the_alarms_that_it_set_off(start: Start, on_aws: World, faults: AwsFaults) -> None:
    go_on = threading.Event()

    def late(answer: bytes) -> bytes:
        go_on.wait(SECONDS)
        return answer

    faults.edits["PutEvents"] = late  # the command waits here, after the last alarm
    terminal = start("check", "--page", "--yes")
    eventually(lambda: on_aws.aws.sent_events(), lambda: terminal.output)
    assert {states(on_aws)[name] for name in NAMES} == {"ALARM"}
    terminal.type("\x03")
    assert terminal.end() == 130
    go_on.set()
    assert set(states(on_aws).values()) == {"OK"}
    assert "Traceback" not in terminal.output


def test_page_wants_yes_where_it_cannot_ask(run: Run, on_aws: World, faults: AwsFaults) -> None:
    done = run("check", "--page")
    assert done.exit_code == 2
    assert "pass --yes" in done.stderr
    assert "SetAlarmState" not in faults.calls


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alarms are not held."""
    monkeypatch.setattr("listenkey_keeper.cli.paging.sleep", lambda seconds: seconds == HOLD)


def test_an_alarm_that_is_on_is_not_touched(
    run: Run, on_aws: World, faults: AwsFaults, at_once: None
) -> None:
    on = "its-KeyAtRiskAlarm"
    on_aws.aws.client("cloudwatch").set_alarm_state(AlarmName=on, StateValue="ALARM", StateReason="-")
    found = findings(run, "--page", "--yes")
    assert states(on_aws)["KeyAtRiskAlarm"] == "ALARM"
    assert "KeyAtRiskAlarm" not in {name for name, _ in set_to(faults)}
    assert found["test messages"][1].endswith("; not KeyAtRiskAlarm, which is on")
    assert f"{2 * len(NAMES) - 2} messages" in found["email"][1]


def test_page_without_the_permission_says_which_and_the_other_checks_run(
    run: Run, on_aws: World, faults: AwsFaults, at_once: None
) -> None:
    faults.fail("SetAlarmState", "AccessDenied")
    found = findings(run, "--page", "--yes")
    assert found["test messages"][0] == "action needed"
    assert "they do not allow SetAlarmState" in found["test messages"][1]
    assert found["email"][1] == f"{MAIL}: nothing should have arrived"
    assert found["function"][0] == "ok"


def test_each_alarm_that_is_not_set_back_is_named(
    run: Run, on_aws: World, faults: AwsFaults, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = "listenkey_keeper.cli.paging.sleep"
    monkeypatch.setattr(sleep, lambda _: faults.fail("SetAlarmState", "AccessDenied"))
    said = run("check", "--page", "--yes").stdout
    assert all(f"{name} was not set back; CloudWatch does it within minutes: " in said for name in NAMES)


def test_what_was_not_tried_is_never_ok(run: Run, on_aws: World, faults: AwsFaults) -> None:
    found = findings(run)
    assert found["email"] == (
        "unknown", f"{MAIL}: not tried: `listenkeys check --page` sends test messages"
    )  # fmt: skip
    assert "SetAlarmState" not in faults.calls
    assert on_aws.aws.sent_events() == []


def test_the_webhook_gets_what_the_template_posts() -> None:
    assert set(TELLING) - set(POSTED) == EMAIL_ONLY
    assert (
        Page(["KeyAtRiskAlarm", *EMAIL_ONLY]).said("webhook") == "2 messages (ALARM and OK of KeyAtRiskAlarm)"
    )


def test_the_page_names_the_permissions_that_the_command_uses(
    run: Run, on_aws: World, faults: AwsFaults, at_once: None
) -> None:
    run("check", "--page", "--yes")
    text = (ROOT / "docs/command.md").read_text().partition("\n`check` needs ")[2]
    page = text.partition("\n## ")[0]
    named = {action.partition(":")[2] for action in re.findall(r"`([a-z]+:[A-Z]\w+)`", page)}
    # No queue with letters, no webhook, no shards and no KMS key are here; Lambda is the local front.
    elsewhere = {
        "ReceiveMessage", "DescribeApiDestination", "GetEventSourceMapping", "GetKeyPolicy", "InvokeFunction",
        "Decrypt",
    }  # fmt: skip
    assert named | {"DescribeStacks"} == set(faults.calls) | elsewhere


def send(aws: LocalAws, queue: str, body: str, **attributes: str) -> None:
    given = {name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()}
    aws.client("sqs").send_message(QueueUrl=aws.resources[queue], MessageBody=body, MessageAttributes=given)


def test_empty_queues_are_ok(run: Run, front: Front) -> None:
    found = findings(run)
    assert [found[name] for name in ("dead letters", "undelivered", "account messages")] == [
        ("ok", "none: no run has failed after all retries"),
        ("ok", "none: no email, webhook or heartbeat call has failed in the last day"),
        ("ok", "every account message was sent"),
    ]


def test_dead_letters_are_counted_with_since_when_and_why(world: World, run: Run, front: Front) -> None:
    why = "2 of 2 accounts left for another try: 2 FAILED TIMEOUT" + "." * 146  # 200 letters, and some more
    # Of more than ten SQS shows some.
    for new, runs, since in (
        (1, "1 run", "since"),
        (1, "2 runs", "since"),
        (10, "12 runs", "at least since"),
    ):
        for _ in range(new):
            send(world.aws, "DeadLetterQueue", json.dumps({"responsePayload": {"errorMessage": why}}))
        status, says = findings(run)["dead letters"]
        assert status == "action needed"
        time = r"\d\d-\d\d \d\d:\d\d UTC"
        queue = world.aws.resources["DeadLetterQueue"]
        assert re.sub(time, "TIME", says) == (
            f"{runs} failed after all retries, {since} TIME, the last at TIME: {why[:200]}; later runs have "
            "tried again; if `listenkeys status` is ok, purge the queue: "
            f"`aws sqs purge-queue --queue-url {queue} --region {REGION}`"
        )


def test_dead_letters_are_no_trouble_once_no_new_one_comes(
    world: World, run: Run, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(world.aws, "DeadLetterQueue", json.dumps({"responsePayload": {"errorMessage": "TIMEOUT"}}))
    sent = datetime.now(UTC)
    for minutes, status in ((19, "action needed"), (21, "ok")):
        later = sent + timedelta(minutes=minutes)
        monkeypatch.setattr("listenkey_keeper.cli.left_over.now", lambda later=later: later)
        found = findings(run)["dead letters"]
        assert (found[0], "purge-queue" in found[1]) == (status, True)
    assert "UTC: TIMEOUT; none since; `aws sqs purge-queue" in found[1]
    for _ in range(11):  # of more than ten SQS shows some: a later one may be among the others
        send(world.aws, "DeadLetterQueue", "{}")
    assert findings(run)["dead letters"][0] == "action needed"


@pytest.mark.parametrize("body", ["null", "no JSON", "{}"])
def test_a_dead_letter_that_says_nothing_is_counted_too(
    world: World, run: Run, front: Front, body: str
) -> None:
    send(world.aws, "DeadLetterQueue", body)
    status, says = findings(run)["dead letters"]
    assert (status, ": without an error message; " in says) == ("action needed", True)


def test_messages_that_did_not_arrive_say_why_without_a_url(world: World, run: Run, front: Front) -> None:
    why = "API destination returned HTTP status 404 for https://example.com/CANARYtoken"
    send(world.aws, "UndeliveredQueue", "{}", ERROR_MESSAGE=why)
    status, says = findings(run)["undelivered"]
    assert (status, re.sub(r"\d\d-\d\d \d\d:\d\d UTC", "TIME", says)) == (
        "action needed",
        "1 message did not arrive, since TIME, the last at TIME: API destination returned HTTP status 404 "
        "for <URL>; if its URL is gone, put another into a new secret, set the parameter, deploy, then purge "
        "the queue: `aws sqs purge-queue --queue-url "
        f"{world.aws.resources['UndeliveredQueue']} --region {REGION}`",
    )


def test_a_message_that_was_not_taken_is_told_after_the_next_runs(
    world: World, run: Run, front: Front, function: LocalFunction, clock: VirtualClock
) -> None:
    add_live(world, clock, "alice", minutes=30)
    world.exchange.revoke(api_key_of("alice"))
    refusal = Refusals(function, clock).refuse("events", "PutEvents", "InternalFailure", status=500)
    function.invoke(TICK)
    assert findings(run)["account messages"] == (
        "ok",
        "every account message was sent; 1 of just now on the way",
    )

    clock.advance(minutes=12)
    todo = "each run tries again; the function's log says why EventBridge does not take it"
    says = f"an account message of alice was not sent, since 2026-01-01T00:30:00.000Z: {todo}"
    assert findings(run)["account messages"] == ("action needed", says)

    refusal.end()
    function.invoke(TICK)
    assert findings(run)["account messages"] == ("ok", "every account message was sent")


def grants(
    principal: Any, actions: Any = ("kms:Decrypt", "kms:GenerateDataKey*"), **more: Any
) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": list(actions), "Resource": "*", **more}


ROOT_USER = {"AWS": "arn:aws:iam::123456789012:root"}
CLOUDWATCH, RULES = {"Service": "cloudwatch.amazonaws.com"}, {"Service": ["events.amazonaws.com"]}
IAM = grants(ROOT_USER, ["kms:*"])
HERE = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
VIA = {"StringEquals": {"kms:ViaService": f"dynamodb.{REGION}.amazonaws.com"}}
DENIED = grants("*") | {"Effect": "Deny"}
ALL = [
    f"{who}: {what}"
    for who in ("cloudwatch.amazonaws.com", "events.amazonaws.com", "KeepaliveRole")
    for what in ("kms:Decrypt", "kms:GenerateDataKey")
]
OK = "allows what cloudwatch.amazonaws.com, events.amazonaws.com, ROLE need"
LOST = ": alarms or dead letters are dropped silently; allow it in the key's policy"
FREE = " (for events.amazonaws.com without a condition)"
POLICIES = {
    "all": ([IAM, grants(CLOUDWATCH), grants(RULES)], "ok", OK),
    "anybody": ([grants("*")], "ok", OK),
    "the default": ([IAM], "action needed", f"does not allow {', '.join(ALL[:4])}{FREE}{LOST}"),
    "for this account": ([IAM, grants(CLOUDWATCH, Condition=HERE), grants(RULES)], "ok", OK),
    "rules under a condition": (
        [IAM, grants(CLOUDWATCH), grants(RULES, Condition=HERE)], "action needed",
        f"does not allow {', '.join(ALL[2:4])}{FREE}{LOST}",
    ),
    "half": (
        [IAM, grants(CLOUDWATCH, ["kms:Decrypt"]), grants(RULES)], "action needed",
        f"does not allow {ALL[1]}{LOST}",
    ),
    "nobody but services": (
        [grants(CLOUDWATCH), grants(RULES)], "action needed", f"does not allow {', '.join(ALL[4:])}{LOST}",
    ),
    "some condition": (
        [IAM, grants(CLOUDWATCH, Condition=VIA), grants(RULES)], "unknown",
        f"allows or denies {', '.join(ALL[:2])} under a condition, which is not checked",
    ),
    "denied": (
        [DENIED, IAM, grants(CLOUDWATCH), grants(RULES)], "action needed",
        f"does not allow {', '.join(ALL)}{FREE}{LOST}",
    ),
    "perhaps denied": (
        [DENIED | {"Condition": VIA}, IAM, grants(CLOUDWATCH), grants(RULES)], "unknown",
        f"allows or denies {', '.join(ALL)} under a condition, which is not checked",
    ),
    "all but some": (
        [IAM, grants(CLOUDWATCH), {"Effect": "Allow", "NotPrincipal": {}, "Action": "kms:*"}], "unknown",
        f"allows or denies {', '.join(ALL[2:4])} under a condition, which is not checked",
    ),
}  # fmt: skip


@pytest.fixture
def with_key(world: World, faults: AwsFaults, front: Front) -> Callable[[list[dict[str, Any]]], str]:
    """Deploy, as far as the command can see, with a KMS key of this policy; return its ARN."""

    def made(statements: list[dict[str, Any]], parameter: str = "KmsKeyArn") -> str:
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        arn: str = world.aws.client("kms").create_key(Policy=policy)["KeyMetadata"]["Arn"]
        given = f"<ParameterKey>{parameter}</ParameterKey>"
        faults.edits["DescribeStacks"] = lambda answer: re.sub(
            rf"{given}\s*<ParameterValue ?/?>(</ParameterValue>)?".encode(),
            f"{given}<ParameterValue>{arn}</ParameterValue>".encode(), answer,
        )  # fmt: skip
        return arn

    return made


@pytest.mark.parametrize(("statements", "status", "says"), POLICIES.values(), ids=POLICIES)
def test_the_policy_of_your_key_must_let_the_stack_use_it(
    run: Run, with_key: Any, statements: list[dict[str, Any]], status: str, says: str
) -> None:
    with_key(statements)
    found = findings(run)["KMS key"]
    assert (found[0], re.sub(r"[\w-]*KeepaliveRole[\w-]*", "ROLE", found[1])) == (
        status,
        f"the policy of KmsKeyArn {says}".replace("KeepaliveRole", "ROLE"),
    )


def test_the_key_of_the_secrets_needs_nothing_but_the_role(run: Run, with_key: Any) -> None:
    with_key([IAM], "SecretsKmsKeyArn")
    assert findings(run)["KMS key"][0] == "ok"
    with_key([grants(CLOUDWATCH)], "SecretsKmsKeyArn")
    status, says = findings(run)["KMS key"]
    assert status == "action needed"
    assert "no listenKey is renewed" in says


def test_a_policy_that_may_not_be_read_is_unknown(run: Run, faults: AwsFaults, with_key: Any) -> None:
    with_key([IAM])
    faults.fail("GetKeyPolicy", "AccessDeniedException")
    status, says = findings(run)["KMS key"]
    assert status == "unknown"
    assert "they do not allow GetKeyPolicy" in says


def test_without_a_key_of_yours_there_is_nothing_to_say(run: Run, front: Front) -> None:
    assert "KMS key" not in findings(run)
