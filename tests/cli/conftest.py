"""Fixtures: the command, run in this process against the local AWS, and a proxy that injects AWS errors."""

import functools
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.session
import pytest
from typer.testing import CliRunner, Result

from listenkey_keeper.cli.main import app
from local.aws.rules import FUNCTION
from local.clock import VirtualClock
from local.front import Controls, Front
from local.invoke import LocalFunction
from local.service import Service
from local.world import World
from tests.terminal import Terminal
from tests.waiting import SECONDS

Run = Callable[..., Result]
Start = Callable[..., Terminal]


def put_alarm(cloudwatch: Any, name: str, description: str, actions: Sequence[str] = ()) -> None:
    """Create an alarm; only its name, description and actions matter."""
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        AlarmDescription=description,
        AlarmActions=list(actions),
        Namespace="N",
        MetricName="M",
        Statistic="Sum",
        Period=60,
        Threshold=1,
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
    )


@pytest.fixture(scope="module", autouse=True)
def one_loader() -> Iterator[None]:
    """Have botocore load its service descriptions once: this would take most of each command's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture
def api_key() -> str:
    """An API key that the stand-in does not know yet. It must never appear in the output."""
    return "CANARYkey".ljust(64, "7")


@pytest.fixture
def clean_environment(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty directory, and no AWS settings but the local environment's."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "LISTENKEYS_")):
            monkeypatch.delenv(name)
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LISTENKEYS_STACK_NAME", world.aws.stack_name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(clean_environment: None, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `listenkeys` with these arguments, at the virtual clock's time."""

    def listenkeys(*arguments: str, stdin: str = "") -> Result:
        # With speed 0, the command's time stands still.
        monkeypatch.setenv("LISTENKEYS_CLOCK", f"{time.time()},{clock.timestamp()},0")
        done = CliRunner().invoke(app, arguments, input=stdin, prog_name="listenkeys")
        assert "Traceback" not in done.output
        return done

    return listenkeys


@pytest.fixture
def front(
    world: World, function: LocalFunction, run: Run, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Front]:
    """Lambda's Invoke, which runs the function."""
    with Front(world.aws.resources[FUNCTION], function.invoke, lambda _: None, Controls(world)) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", made.url)
        yield made


def cbor(text: str) -> bytes:
    """Return a short text in CBOR, which CloudWatch's protocol uses."""
    return b"\x78" + bytes([len(text)]) + text.encode()


class AwsFaults(Service):
    """A proxy to AWS that makes operations fail, for example `fail("Scan", "AccessDeniedException")`.

    `edits` has functions that change an operation's answer. `calls` has the operations that were called, and
    `bodies` their requests.
    """

    def __init__(self, endpoint_url: str) -> None:
        self.faults: dict[str, tuple[str, str, int]] = {}
        self.edits: dict[str, Callable[[bytes], bytes]] = {}
        self.calls: list[str] = []
        self.bodies: list[bytes] = []
        outer, target = self, urlsplit(endpoint_url).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                header = self.headers.get("X-Amz-Target")
                # CloudWatch's operation is in the path, CloudFormation's is a field of a form.
                path = self.path.partition("/operation/")[2]
                named = header or path or parse_qs(body.decode()).get("Action", [""])[0]
                operation = named.rpartition(".")[2]
                outer.calls.append(operation)
                outer.bodies.append(body)
                if operation in outer.faults:
                    code, message, status = outer.faults[operation]
                    text = json.dumps({"__type": code, "message": message}).encode()
                    kind = "application/x-amz-json-1.1"
                    if path:
                        text, kind = b"\xa1" + cbor("__type") + cbor(code), "application/cbor"
                    elif not header:
                        error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
                        text, kind = f"<ErrorResponse>{error}</ErrorResponse>".encode(), "text/xml"
                    self._answer(status, kind, text)
                    return
                connection = http.client.HTTPConnection(target, timeout=SECONDS)
                connection.request("POST", self.path, body, dict(self.headers))
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                content = outer.edits.get(operation, bytes)(content)
                self._answer(answer.status, answer.headers["Content-Type"], content)

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)

    def fail(self, operation: str, code: str, message: str = "CANARYmessage", status: int = 400) -> None:
        """Answer this operation with this error from now on."""
        self.faults[operation] = code, message, status


@pytest.fixture
def faults(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsFaults]:
    """Have the command reach AWS through this proxy."""
    with AwsFaults(world.aws.endpoint_url) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        yield made


@pytest.fixture
def start(run: Run, clock: VirtualClock) -> Iterator[Start]:
    """Start `listenkeys` in a terminal, in the environment of `run`."""
    started: list[Terminal] = []

    def terminal(*arguments: str, columns: int = 80, **environment: str) -> Terminal:
        clock_text = f"{time.time()},{clock.timestamp()},0"
        made = Terminal(arguments, columns, {"LISTENKEYS_CLOCK": clock_text, **environment})
        started.append(made)
        return made

    yield terminal
    for made in started:
        made.close()
