"""No API key, no secret and no listenKey in anything that leaves the function, whatever fails: row 50.

Every key is a canary. All that the function printed, logged (at DEBUG, the root logger at DEBUG too), raised,
returned, sent or stored is searched for them and for parts of them; the attribute `listenKey` alone may hold
one. The function of every other test is searched as well, by tests/leaks.py.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from listenkeys.binance.answers import Answer
from listenkeys.binance.client import BinanceClient
from local.aws.rules import error_payload
from local.invoke import Context
from tests.faults.matrix import SWEEP, TICK, api_key_of
from tests.faults.refusals import Body
from tests.leaks import texts_of
from tests.scene import Scene
from tests.widget import event_of, load_widget

FORCE = {"force": True}
SECRET_NAME = "listenkeys/team"
SIGNING = "signing7secret7signing7secret7signing7"
DEAD_KEY = "deadListenKey".ljust(64, "5")
_PART = 12  # characters of a key in a row that must not show
_RUN = re.compile(rf"[A-Za-z0-9]{{{_PART},}}")
QUOTED = '{{"code":{code},"msg":"{api_key} {listen_key}"}}'
Arrange = Callable[[Scene], object]
LIVE = {"alice": "usdm", "bob": "coinm", "carol": "portfolio", "dora": "options"}
OTHERS = ("new", "forgotten", "rotated", "shared", "unknown")


def parts(text: str) -> Iterator[str]:
    """Yield every stretch of letters and digits that is long enough to be part of a key."""
    for run in _RUN.findall(text):
        yield from (run[start : start + _PART] for start in range(len(run) - _PART + 1))


def search(secrets: Iterable[str], texts: Iterable[str]) -> None:
    """Fail if a text holds a part of a secret."""
    wanted = {part for secret in secrets for part in parts(secret)}
    for text in texts:
        found = wanted.intersection(parts(text))
        assert not found, f"{found} is in {text[:300]!r}"


def answer_with_its_keys(
    stage: Scene, status: int, code: int = -1000, body: str = QUOTED, **how: Any
) -> None:
    """Let Binance repeat to each account its own API key and listenKey."""
    for name in [*LIVE, *OTHERS]:
        key = api_key_of(name)
        held = stage.current(name).get("listenKey", DEAD_KEY)
        text = body.format(code=code, api_key=key, listen_key=held)
        headers = {"Location": f"https://example.invalid/{key}", "X-Echo": f"{key} {held}"}
        stage.exchange.fault(api_key=key, status=status, body=text, headers=headers, **how)


@pytest.fixture
def stage(world: Scene, botocore_sleeps: None, caplog: pytest.LogCaptureFixture) -> Iterator[Scene]:
    """Accounts in every state."""
    world.function = world.variant(POWERTOOLS_LOG_LEVEL="DEBUG")
    for name, product in LIVE.items():
        world.live(name, minutes=0, product=product)
    world.clock.advance(minutes=35)
    earlier = world.clock.now() - timedelta(minutes=35)
    for name in ("new", "forgotten", "rotated"):
        world.add_account(name, api_key_of(name))
    world.put_current("forgotten", DEAD_KEY, earlier)
    world.put_current("rotated", DEAD_KEY[::-1], earlier)
    world.exchange.rotate(api_key_of("rotated"), "usdm")
    world.exchange.add_account(api_key_of("shared"))
    team = {"shared": api_key_of("shared"), "apiSecret": SIGNING, "other": SIGNING + "\n"}
    world.put_secret(SECRET_NAME, team)
    world.put_row("shared", secretId=SECRET_NAME, secretField="shared")
    world.put_row("malformed", secretId=SECRET_NAME, secretField="other")
    world.add_account("unknown", api_key_of("unknown"), known=False)
    world.function._learn()
    # From here on: the arrangement's own clients would log what they write.
    caplog.set_level(logging.DEBUG)
    yield world
    del world.function  # it is searched by the tests here, and some put keys where it would be found


def http(*args: Any, **how: Any) -> Arrange:
    return lambda stage: answer_with_its_keys(stage, *args, **how)


def aws(operation: str, code: str, status: int = 400) -> Arrange:
    """Let AWS refuse an operation, and repeat in its message what it must not."""
    service = {"PutEvents": "events", "BatchGetSecretValue": "secretsmanager"}.get(operation, "dynamodb")

    def arrange(stage: Scene) -> None:
        said = f"{api_key_of('alice')} {stage.current('alice').get('listenKey')} {SIGNING}"
        stage.refusals.refuse(service, operation, code, status=status, message=said, Message=said)

    return arrange


def unreachable(service: str, operation: str) -> Arrange:
    url = f"https://{api_key_of('alice')}:x@{service}.eu-west-1.amazonaws.com/"
    gone = EndpointConnectionError(endpoint_url=url)
    return lambda stage: stage.refusals.break_off(service, operation, gone, times=None)


def cancelled(reason: str) -> Arrange:
    return lambda stage: stage.refusals.cancel(reason)


def partly(stage: Scene) -> None:
    def refuse_all(answer: Body) -> None:
        answer["Errors"] = [
            {"SecretId": s["Name"], "ErrorCode": "DecryptionFailure", "Message": s["SecretString"]}
            for s in answer["SecretValues"]
        ]
        answer["SecretValues"] = []

    stage.refusals.half_do("secretsmanager", "BatchGetSecretValue", refuse_all)


def events_refused_one_by_one(stage: Scene) -> None:
    def refuse_all(answer: Body) -> None:
        for entry in answer["Entries"]:
            entry |= {"ErrorCode": "InternalFailure", "ErrorMessage": api_key_of("new")}

    stage.refusals.half_do("events", "PutEvents", refuse_all)


def a_bug_that_quotes(stage: Scene) -> None:
    """A worker's bug whose message, cause and frames hold the key."""

    class Buggy(BinanceClient):
        def keepalive(self, product: str, api_key: str) -> Answer:
            try:
                raise ValueError(f"bad header value {api_key!r}")
            except ValueError as cause:
                raise RuntimeError(f"while sending {api_key}", {"X-MBX-APIKEY": api_key}) from cause

    stage.use(binance=Buggy(stage.clock.now, stage.binance_url))


def broken_secrets(stage: Scene) -> None:
    for number, name in enumerate([*LIVE, *OTHERS]):
        key = api_key_of(name)
        contents = (
            key,
            f'["{key}"]',
            {"apiKey": key + "\r\n"},
            {"apiKey": {"x": key}},
            f'{{"apiKey": "{key}',
        )
        if name != "shared":
            stage.put_secret(f"listenkeys/{name}", contents[number % len(contents)])


def broken_records(stage: Scene) -> None:
    at = stage.clock.now() - timedelta(minutes=35)
    for name, broken in zip(LIVE, ("outcome", "renewedAt", "unannounced", "errorCode"), strict=True):
        key = stage.current(name)["listenKey"]
        stage.put_current(name, key, at, **{broken: {"L": [{"S": "{"}]}})


def rotated_secrets(stage: Scene) -> None:
    def rotate(_: Body) -> None:
        for name in LIVE:
            stage.exchange.revoke(api_key_of(name))
            stage.put_secret(f"listenkeys/{name}", {"apiKey": api_key_of(name + "again")})

    stage.refusals.half_do("secretsmanager", "BatchGetSecretValue", rotate)


SCENARIOS: dict[str, Arrange] = {
    "all is well": lambda stage: None,
    # rows 1 to 6
    "500 that quotes the keys": http(500),
    "503 as text": http(503, body="{api_key} {listen_key}"),
    "408": http(408),
    "429 with Retry-After": lambda stage: stage.exchange.fault(status=429, headers={"Retry-After": "30"}),
    "429 without": http(429),
    # rows 7 to 15
    "418": http(418, code=-1003),
    "403 with a page": http(403, body="<html>{api_key} {listen_key}</html>"),
    "451": http(451, code=0),
    "-1125": http(400, code=-1125),
    "-1125, then POST fails": lambda stage: [
        answer_with_its_keys(stage, 400, -1125, method="PUT"),
        answer_with_its_keys(stage, 500, method="POST"),
    ],
    "-2015": http(401, code=-2015),
    "-2014": http(401, code=-2014),
    "-1102": http(400, code=-1102),
    "404": http(404, body="<html>{api_key}</html>"),
    "200 with the API key as the listenKey": http(200, body='{{"listenKey":"{api_key}"}}'),
    "200 with nothing": http(200, body="{{}}"),
    "200 with an error inside": http(200, code=-1000),
    # rows 16 to 24
    "not JSON": http(200, body="{api_key} {listen_key}"),
    "JSON that is none": http(200, body='{{"listenKey":"{listen_key} {api_key}"}}'),
    "huge": http(200, body="{api_key}" * 2000),
    "redirect": http(307),
    "truncated": http(200, body='{{"listenKey":"{listen_key}"}}', kind="truncate"),
    "reset": lambda stage: stage.exchange.fault("reset"),
    # rows 25 to 35 and 48
    **{
        f"{operation}: {code}": aws(operation, code, 500 if code == "InternalServerError" else 400)
        for operation in ("Scan", "BatchGetItem", "TransactWriteItems", "PutEvents", "BatchGetSecretValue")
        for code in ("ValidationException", "InternalServerError")
    },
    **{
        f"{operation}: unreachable": unreachable(service, operation)
        for service, operation in (
            ("dynamodb", "Scan"),
            ("dynamodb", "TransactWriteItems"),
            ("secretsmanager", "BatchGetSecretValue"),
            ("events", "PutEvents"),
        )
    },
    "secrets refused one by one": partly,
    "events refused one by one": events_refused_one_by_one,
    "a transaction in conflict": cancelled("TransactionConflict"),
    "a record that takes no write": cancelled("ItemCollectionSizeLimitExceeded"),
    "malformed secrets": broken_secrets,
    "secrets rotated in mid-run": rotated_secrets,
    # rows 41 and 47
    "a bug in the workers": a_bug_that_quotes,
    "broken records": broken_records,
}


class Searcher:
    """Searches everywhere at once."""

    def __init__(self, stage: Scene, caplog: pytest.LogCaptureFixture) -> None:
        self.stage, self.caplog = stage, caplog
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.widget = load_widget(stage, stage.clock)

    def texts(self, error: BaseException | None) -> Iterator[str]:
        yield self.stdout.getvalue()
        yield self.stderr.getvalue()
        for record in self.caplog.records:
            if record.name.partition(".")[0] not in ("moto", "werkzeug"):  # not in Lambda
                yield f"{record.getMessage()} {record.__dict__}"
        yield from texts_of(error)
        if isinstance(error, Exception):
            # What stays behind for 14 days, and what the Lambda runtime itself prints of it.
            yield json.dumps(error_payload(error))
            yield "".join(traceback.format_exception(error))

    def stored(self) -> Iterator[str]:
        """Yield the records, without the one attribute that may hold a key, the events and the widget."""
        for record in self.stage.all_records():
            yield json.dumps({**record, "listenKey": None}, default=repr)  # claims are bytes
        yield from map(json.dumps, self.stage.aws.sent_events())
        yield self.widget(event_of())

    def invoke(self, event: Any, context: Context | None = None) -> None:
        """Invoke the function and search what came of it; the report and the records too."""
        saved = sys.stderr
        sys.stderr = self.stderr
        try:
            done = self.stage.invoke(event, context)
        finally:
            sys.stderr = saved
        self.stdout.write(f"{done.output} {json.dumps(done.report)}")
        secrets = self.stage.function.secrets | {SIGNING}
        search(secrets, self.texts(done.error))
        self.stage.function.search_world()
        search(secrets, self.stored())
        self.caplog.clear()


@pytest.mark.slow
@pytest.mark.row(50)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_key_is_in_anything_that_leaves_the_function(
    stage: Scene, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    SCENARIOS[name](stage)
    searcher = Searcher(stage, caplog)
    caplog.clear()

    for event in (TICK, SWEEP, FORCE):
        searcher.invoke(event)
        stage.clock.advance(minutes=6)


@pytest.mark.row(50)
def test_no_key_is_in_what_a_run_leaves_that_comes_near_its_deadline(
    stage: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    searcher = Searcher(stage, caplog)
    caplog.clear()
    searcher.invoke(TICK, Context(remaining_seconds=1))
    searcher.invoke({"dryRun": True})


@pytest.mark.row(50)
def test_a_key_pasted_into_the_wrong_field_of_a_row_is_not_repeated(
    stage: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    key = api_key_of("alice")
    for field in ("product", "secretField", "secretId"):
        stage.put_row(f"in-{field}", **{field: key})
    stage.put_row("in-both", product=key, enabled={"S": key}, secretId=f"{key} ")
    caplog.clear()

    search({key}, [load_widget(stage, stage.clock)(event_of())])
    names = [f"in-{field}" for field in ("product", "secretField", "secretId", "both")]
    for event in (TICK, {"accounts": names}):
        done = stage.invoke(event)
        records = [stage.records(name) for name in names]
        search({key}, [done.output, json.dumps(done.report), json.dumps(records), *texts_of(done.error)])


@pytest.mark.row(50)
@pytest.mark.parametrize(
    "event",
    [
        {"accounts": [{"apiKey": "K" * 64}]},
        {"accounts": "K" * 64},
        {"force": "K" * 64},
        {"apiKey": "K" * 64},
        {"overdueOnly": "K" * 64},
        ["K" * 64],
    ],
    ids=str,
)
def test_what_somebody_put_into_an_event_is_not_repeated(stage: Scene, event: Any) -> None:
    done = stage.invoke(event)
    assert type(done.error).__name__ == "InvalidEvent"
    search({"K" * 64}, [done.output, *texts_of(done.error)])


def fail_with(key: str, cause: BaseException | None) -> None:
    """Raise an error that was raised while another that holds a key was handled."""
    try:
        raise KeyError(key)
    except KeyError:
        raise ValueError("no") from cause  # hidden when printed, and still held


CHANNELS: dict[str, Callable[[Scene, str], object]] = {
    "standard output": lambda stage, key: sys.stdout.write(key),
    "standard error": lambda stage, key: sys.stderr.write(key),
    "another library's log": lambda stage, key: logging.getLogger("urllib3").debug("sent %s", key),
    "the function's log": lambda stage, key: stage.function.app.logger.debug("sent", header=key),
    "a log's traceback": lambda stage, key: logging.getLogger("x").debug("no", exc_info=ValueError(key)),
    "an event": lambda stage, key: stage.aws.client("events").put_events(
        Entries=[{"Source": "x", "DetailType": "x", "Detail": json.dumps({"k": key})}]
    ),
    "a dead letter": lambda stage, key: stage.aws.client("sqs").send_message(
        QueueUrl=stage.aws.resources["DeadLetterQueue"], MessageBody=key
    ),
    "another field of a record": lambda stage, key: stage.put_current(
        "alice", key, stage.clock.now(), errorMessage=f"no: {key}"
    ),
    "an error's context": lambda stage, key: fail_with(key, None),
    "an error's cause": lambda stage, key: fail_with("", ValueError("no", key)),
    "part of one": lambda stage, key: sys.stdout.write(key[:20]),
}


@pytest.mark.slow
@pytest.mark.row(50)
@pytest.mark.parametrize("channel", CHANNELS)
def test_the_search_finds_a_key_wherever_one_is_put(
    stage: Scene, caplog: pytest.LogCaptureFixture, channel: str
) -> None:
    """Nothing above proves anything unless this does."""
    searcher = Searcher(stage, caplog)
    key = api_key_of("alice")
    app = stage.function.app
    real = app.lambda_handler

    def leaks(event: Any, context: Any) -> Any:
        CHANNELS[channel](stage, key)
        return real(event, context)

    app.lambda_handler = leaks
    with pytest.raises(AssertionError, match="is in"):
        searcher.invoke(SWEEP)
