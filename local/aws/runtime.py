"""Runs the built function in Lambda's own runtime, without Docker: AWS's runtime emulator with awslambdaric.

`RuntimeEmulator` is one execution environment: cold at its first invocation, then warm, and cold again after
a crash or a timeout. `main` is `make invoke`. The emulator comes with aws-sam-cli (.venv-sam). The runtime
client and the version of boto3 in AWS's runtime are in .venv-runtime. It runs on Linux only.

Unlike in AWS, memory and processor are not limited. On a processor other than arm64, the compiled part of a
package is left out if the package also has a Python version of it.
"""

import http.client
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from listenkey_keeper.cli.stack import CLOCK
from local.aws.stack import REGION, expand
from local.clock import ScaledClock
from local.run import options, show, world

ROOT = Path(__file__).parents[2]
BUILD = ROOT / ".aws-sam/build"
_RUNTIME = ROOT / ".venv-runtime/bin/python"
_EMULATORS = {"x86_64": "x86_64", "aarch64": "arm64"}
_START_SECONDS = 10.0
_PATH = "/2015-03-31/functions/function/invocations"
# The variables with which this machine reaches Binance. All others are those of the deployed function.
_OF_THIS_MACHINE = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "REQUESTS_CA_BUNDLE")


class Unusable(Exception):
    """This machine cannot run the emulator, or something must be built first. The text says what to do."""


class FunctionError(NamedTuple):
    """The error that Lambda reports for a failed invocation. `type` is the name of the exception."""

    type: str
    message: str


class Answer(NamedTuple):
    """What the function returned, or the error with which it ended. The other is None."""

    payload: Any
    error: FunctionError | None


def emulator() -> Path:
    """Return the path of the emulator for this machine. Raises Unusable if there is none."""
    if sys.platform != "linux":
        raise Unusable("AWS's runtime emulator runs on Linux only: `make run` needs no emulator")
    name = f"aws-lambda-rie-{_EMULATORS.get(platform.machine(), platform.machine())}"
    for found in ROOT.glob(f".venv-sam/lib/python3*/site-packages/samcli/local/rapid/{name}"):
        return found
    raise Unusable(f"{name} is not there: `make .venv-sam/.installed` installs it, for x86_64 and arm64")


class RuntimeEmulator:
    """One execution environment of the function in `code`, a directory with what the zip contains.

    The function gets the variables in `environment` and those that Lambda sets. `timeout` (seconds) and
    `memory` (MB) are the function's settings. The function's code is loaded at the first invocation, and one
    invocation runs at a time. Use it as a context manager, or call `close()`, which ends all its processes.
    Raises Unusable.
    """

    def __init__(
        self,
        code: Path,
        environment: Mapping[str, str],
        *,
        handler: str = "app.lambda_handler",
        timeout: int = 300,
        memory: int = 256,
        runtime: Path = _RUNTIME,
    ) -> None:
        if not (code / f"{handler.partition('.')[0]}.py").exists():
            raise Unusable(f"{code} holds no built function: `make build` builds it")
        if not runtime.exists():
            raise Unusable(f"{runtime} is not there: `make .venv-runtime/.installed` makes it")
        self._timeout = timeout
        api, self._port = _free_ports()
        # A file, not a pipe: a full pipe that nobody reads would stop the function.
        self._log = tempfile.NamedTemporaryFile(prefix="rie-", suffix=".log")  # noqa: SIM115 - closed by close()
        command = [
            str(emulator()),
            "--runtime-api-address", f"127.0.0.1:{api}",
            "--runtime-interface-emulator-address", f"127.0.0.1:{self._port}",
            str(runtime), "-m", "awslambdaric", handler,
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            cwd=code,
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "LANG": "en_US.UTF-8",
                "TZ": ":UTC",
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_LAMBDA_FUNCTION_NAME": "KeepaliveFunction",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                # Running the built code must not change it.
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment,
                "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
                "LAMBDA_TASK_ROOT": str(code),
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def invoke(self, event: Any) -> Answer:
        """Call the function with an event, and wait for its result."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout + 30)
        reports = self.log.count("\nREPORT RequestId")
        try:
            connection.request("POST", _PATH, json.dumps(event))
            body = connection.getresponse().read()
        finally:
            connection.close()
        # The emulator answers before it writes its last lines, and takes the next invocation only after them.
        self._wait(lambda: self.log.count("\nREPORT RequestId") > reports, 1.0)
        return _answer(body)

    @property
    def log(self) -> str:
        """Everything that the function and its runtime have printed."""
        # Not read_text(), which changes carriage returns: a traceback is one line that contains them.
        return Path(self._log.name).read_bytes().decode(errors="replace")

    @property
    def cold_starts(self) -> int:
        """How many runtime processes have been started for this environment."""
        return len(re.findall(r"^.*\(rapid\) INIT START\(.*$", self.log, re.MULTILINE))

    def runtime_pid(self) -> int | None:
        """Return the process id of the runtime, or None before the first invocation and after a crash."""
        with suppress(OSError):
            for task in Path(f"/proc/{self._process.pid}/task").iterdir():
                for child in (task / "children").read_text().split():
                    return int(child)
        return None

    def kill(self) -> None:
        """Kill the runtime process, as the kernel does when it runs out of memory."""
        pid = self.runtime_pid()
        if pid is None:
            raise RuntimeError("no runtime is running")
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End the emulator and the runtime process."""
        # The emulator does not end the runtime process that it has started.
        runtime = self.runtime_pid()
        self._process.kill()
        if runtime is not None:
            with suppress(ProcessLookupError):
                os.kill(runtime, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _wait_until_it_listens(self) -> None:
        def listens() -> bool:
            if self._process.poll() is not None:
                raise Unusable(f"the runtime emulator did not start:\n{self.log}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self._port)) == 0

        if not self._wait(listens, _START_SECONDS):
            raise Unusable(f"the runtime emulator did not listen in {_START_SECONDS:.0f} s:\n{self.log}")

    @staticmethod
    def _wait(condition: Any, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def function_of(template: Path) -> dict[str, Any]:
    """Return the properties of KeepaliveFunction in a template, such as the one that `sam build` writes."""
    expanded = expand(template)
    properties: dict[str, Any] = expanded["Resources"]["KeepaliveFunction"]["Properties"]
    return properties | {"MemorySize": expanded["Parameters"]["MemorySize"]["Default"]}


def _free_ports() -> list[int]:
    """Return two free ports, because the emulator cannot choose them itself."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (first, second)]


def _answer(body: bytes) -> Answer:
    text = body.decode(errors="replace")
    try:
        payload = json.loads(text)
    except ValueError:
        # The emulator reports a timeout as plain text.
        return Answer(
            None, FunctionError("Sandbox.Timedout" if "timed out" in text else "Unknown", text.strip())
        )
    if isinstance(payload, dict) and "errorMessage" in payload:
        return Answer(None, FunctionError(str(payload.get("errorType")), payload["errorMessage"]))
    return Answer(payload, None)


def main(arguments: list[str]) -> int:
    event, keep, real = options("invoke", __doc__, arguments)
    try:
        emulator()
        function = function_of(BUILD / "template.yaml")
        proxies = {name: os.environ[name] for name in _OF_THIS_MACHINE if name in os.environ}
        with world(keep, real) as variables:
            clock = ScaledClock.of(variables[CLOCK]) if CLOCK in variables else ScaledClock()
            if clock.speed != 1:
                raise Unusable("time runs faster here than in Lambda: stop this environment with `make down`")
            with RuntimeEmulator(
                BUILD / "KeepaliveFunction",
                proxies | dict(variables),
                handler=function["Handler"],
                timeout=function["Timeout"],
                memory=function["MemorySize"],
            ) as lambda_:
                answer = lambda_.invoke(event)
                log = lambda_.log
            # Of the emulator's own lines, keep only the two that show how long the start took.
            lines = [line for line in log.splitlines() if "(rapid)" not in line or " INIT " in line]
            error = f"{answer.error.type}: {answer.error.message}" if answer.error else ""
            show(answer.payload, error, lines, variables, clock)
    except Unusable as unusable:
        raise SystemExit(str(unusable)) from None
    return 1 if answer.error else 0
