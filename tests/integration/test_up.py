"""`make up`: the rules fire, Lambda's retries follow, the command works beside it, and all of it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from listenkey_keeper.cli.stack import world_time
from listenkeys.trigger import SWEEP, TICK, Trigger
from listenkeys.view.status import AccountStatus, read_status
from local.aws.rules import FUNCTION, Call, Scheduler, read_rules
from local.clock import ScaledClock, VirtualClock
from local.front import Controls, Front
from local.front import main as front_main
from local.invoke import Invocation, LocalFunction
from local.running import IN_USE, STATE, commands
from local.up import Runs, account_messages, main
from local.world import World
from tests.pages import blocks
from tests.paths import PYTHONPATH, ROOT
from tests.scene import Scene
from tests.waiting import SECONDS, eventually


def test_the_rules_are_those_of_the_deployed_stack(world: World) -> None:
    sweep, tick = read_rules(world.aws)
    assert (sweep.expression, sweep.seconds, sweep.event) == ("rate(5 minutes)", 300, {"overdueOnly": True})
    assert (tick.expression, tick.seconds, tick.event) == ("rate(30 minutes)", 1800, None)


class Recorder:
    """The function, as the scheduler sees it: what it was called with, and when."""

    def __init__(self, clock: VirtualClock, error: Exception | None = None) -> None:
        self.clock = clock
        self.error = error
        self.calls: list[tuple[float, Any, str]] = []

    def invoke(self, call: Call) -> Invocation:
        self.calls.append((self.clock.monotonic() / 60, call.event, call.if_it_fails))
        return Invocation(None if self.error else {}, self.error, "")

    def times(self) -> list[tuple[float, str]]:
        return [(minutes, Trigger.from_event(event).name) for minutes, event, _ in self.calls]


def live(scheduler: Scheduler, clock: VirtualClock, minutes: float) -> None:
    """Let the scheduler have this much time."""
    end = clock.monotonic() + 60 * minutes
    while (left := end - clock.monotonic()) >= 0:
        clock.advance(min(scheduler.step(), left + 1e-6))


def test_rules_fire_at_their_rate_with_the_events_of_eventbridge(world: World, clock: VirtualClock) -> None:
    function = Recorder(clock)
    live(Scheduler(world.aws, clock.clock, function.invoke, pytest.fail), clock, 61)
    assert sorted(function.times()) == sorted(
        [(5.0 * number, SWEEP) for number in range(1, 13)] + [(30.0, TICK), (60.0, TICK)]
    )
    tick = next(event for minutes, event, _ in function.calls if Trigger.from_event(event).name == TICK)
    assert tick["resources"] == [read_rules(world.aws)[1].arn]
    assert tick["time"] == "2026-01-01T00:30:00Z"


def test_what_came_too_late_is_left_out_and_the_rate_goes_on(world: World, clock: VirtualClock) -> None:
    function = Recorder(clock)
    scheduler = Scheduler(world.aws, clock.clock, function.invoke, pytest.fail)
    clock.advance(minutes=17)
    live(scheduler, clock, 4)
    assert function.times() == [(17.0, SWEEP), (20.0, SWEEP)]


def test_a_disabled_rule_does_not_fire(world: World, clock: VirtualClock) -> None:
    events, (sweep, _) = world.aws.client("events"), read_rules(world.aws)
    function = Recorder(clock)
    scheduler = Scheduler(world.aws, clock.clock, function.invoke, pytest.fail)
    events.disable_rule(Name=sweep.name)
    try:
        live(scheduler, clock, 31)
    finally:
        events.enable_rule(Name=sweep.name)
    assert function.times() == [(30.0, TICK)]
    live(scheduler, clock, 5)
    assert function.times()[1:] == [(35.0, SWEEP)]


def test_an_event_that_fails_is_tried_twice_more_and_then_given_up(world: World, clock: VirtualClock) -> None:
    function = Recorder(clock, ValueError("no"))
    given_up: list[dict[str, Any]] = []
    scheduler = Scheduler(world.aws, clock.clock, function.invoke, given_up.append)
    scheduler.send({"mine": 1})
    live(scheduler, clock, 4)
    assert function.calls == [
        (0.0, {"mine": 1}, "again in 1 min"),
        (1.0, {"mine": 1}, "again in 2 min"),
        (3.0, {"mine": 1}, "given up: a dead letter"),
    ]
    [letter] = given_up
    assert letter["requestPayload"] == {"mine": 1}
    assert letter["requestContext"]["approximateInvokeCount"] == 3
    assert letter["responsePayload"]["errorType"] == "ValueError"


def test_the_command_reads_the_clock_of_the_world() -> None:
    clock = ScaledClock(60.0)
    at = time.time()
    shown = world_time(clock.text, at)
    assert abs(ScaledClock.of(clock.text).timestamp() - shown.timestamp()) < 60
    assert world_time("1000,5000,60", 1010) == datetime.fromtimestamp(5600, UTC)


@pytest.fixture
def front(world: World, function: LocalFunction) -> Iterator[Front]:
    with Front(world.aws.resources[FUNCTION], function.invoke, lambda _: None, Controls(world)) as made:
        yield made


def post(url: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, body, headers, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_invoke_answers_as_lambda_does(front: Front, world: World) -> None:
    url = f"{front.url}/2015-03-31/functions/{world.aws.resources[FUNCTION]}/invocations"
    status, report = post(url, b'{"dryRun": true}')
    assert (status, report["trigger"], report["dryRun"]) == (200, "manual", True)
    status, error = post(url, b'{"nonsense": true}')
    assert (status, error["errorType"]) == (200, "InvalidEvent")
    assert post(url, b"not json")[0] == 400
    assert post(f"{front.url}/2015-03-31/functions/other/invocations", b"{}")[0] == 404
    assert post(f"{front.url}/2015-03-31/functions/", b"{}")[0] == 501


def test_the_desk_breaks_and_repairs_accounts(
    front: Front, world: World, function: LocalFunction, clock: VirtualClock
) -> None:
    world.add_account("alice", "a" * 20)

    def outcome() -> str:
        clock.advance(1)
        done = function.invoke({"force": True})
        assert done.report is not None
        return str(world.current("alice")["outcome"])

    def control(verb: str) -> tuple[int, Any]:
        return post(f"{front.url}/controls/{verb}")

    assert outcome() == "CREATED"
    assert control("revoke/alice") == (200, {"done": "Binance no longer knows alice's API key"})
    assert outcome() == "REJECTED"
    control("restore/alice")
    assert outcome() == "EXTENDED"
    assert control("newkey/alice") == (200, {"done": "alice has another API key: newkey0001"})
    world.put_secret("listenkeys/alice", {"apiKey": "newkey0001"})
    assert outcome() == "EXTENDED"
    control("revoke/alice")
    assert outcome() == "REJECTED"
    control("restore/alice")
    assert outcome() == "EXTENDED"
    assert control("newkey/alice")[1]["done"].endswith("newkey0002")
    control("forget/alice")
    nobody = "alice has order 1: 0 streams received it"
    why = "alice has no live listenKey: `.local/listenkeys renew --force alice` makes one"
    assert control("order/alice") == (200, {"done": f"{nobody} ({why})"})
    assert outcome() == "RECREATED"
    assert control("order/alice") == (200, {"done": nobody.replace("1", "2")})
    for typed, code in (
        ("down/alice", "SERVER_ERROR"),
        ("down/418", "IP_BANNED"),
        ("down/403", "WAF_BLOCKED"),
    ):
        assert control(typed)[0] == 200
        outcome()
        assert world.current("alice")["errorCode"] == code
    control("up/")
    assert outcome() == "EXTENDED"
    assert control("delete/alice")[0] == 200
    assert outcome() == "RECREATED"
    assert control("revoke/nobody")[0] == 400
    assert control("revoke/")[0] == 400
    assert control("nonsense/alice")[0] == 400


@pytest.mark.slow
def test_the_readmes_bot_hears_an_order_in_the_world_that_is_up(
    up: subprocess.Popen[str], tmp_path: Path
) -> None:
    def binance(*arguments: str) -> str:
        command = [str(tmp_path / ".local/binance"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout

    state = json.loads((tmp_path / ".local/world.json").read_text())
    assert state["environment"]["BINANCE_STREAM_URL"].startswith("ws://127.0.0.1:")
    [example] = blocks((ROOT / "README.md").read_text(), "python")
    program = subprocess.Popen(
        [tmp_path / ".local/with", sys.executable, "-u", "-c", example],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout
        assert "why='started'" in program.stdout.readline()
        assert binance("order", "alice") == "alice has order 1: 1 stream received it\n"
        assert program.stdout.readline().startswith("{'e': 'ORDER_TRADE_UPDATE'")
        assert binance("fill", "alice") == "order 1 of alice is filled: 1 stream received it\n"
        assert "'X': 'FILLED'" in program.stdout.readline()
        assert binance("drop") == "every websocket was cut\n"
        assert "why='connection lost'" in program.stdout.readline()
    finally:
        program.kill()
        program.communicate()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`make up SPEED=60` in an empty directory: half a minute between two ticks."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BINANCE_"))
    }
    environment["PYTHONPATH"] = PYTHONPATH
    process = subprocess.Popen(
        [sys.executable, "-m", "local", "up", "--speed", "60"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        eventually(lambda: (tmp_path / ".local/world.json").exists() or process.poll() is not None)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_world_that_is_up_can_be_operated_and_ends_with_ctrl_c(
    up: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listenkeys(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        # What the person's own terminal has must not matter.
        environment = {**os.environ, "AWS_PROFILE": "nope", "AWS_REGION": "us-east-1"}
        command = [str(tmp_path / ".local/listenkeys"), *arguments]
        return subprocess.run(
            command, env=environment, input=stdin, capture_output=True, text=True, timeout=SECONDS
        )

    def accounts() -> dict[str, Any]:
        done = listenkeys("status", "--json")
        assert done.stderr == ""
        return {account["accountId"]: account for account in json.loads(done.stdout)["accounts"]}

    after_the_first_run = {"alice": "EXTENDED", "bob": "CREATED", "carol": "RECREATED", "dave": "REJECTED"}

    def settled() -> Any:
        found = accounts()
        outcomes = {name: account["outcome"] for name, account in found.items()}
        return found if outcomes == after_the_first_run else None

    found = eventually(settled)
    assert all(0 < found[name]["minutesLeft"] <= 60 for name in ("alice", "bob", "carol"))
    assert listenkeys("renew", "dave").returncode == 1
    assert listenkeys("accounts", "add", "dave", "--replace", stdin="sparekey999").returncode == 0
    renewed = json.loads(listenkeys("renew", "dave", "--force", "--json").stdout)
    assert renewed["created"] + renewed["extended"] == 1  # extended, where a tick was faster
    assert "CREATED" in listenkeys("history", "dave").stdout
    done = subprocess.run(
        [str(tmp_path / ".local/binance"), "revoke", "nobody"], capture_output=True, text=True
    )
    assert (done.returncode, "there is no account nobody" in done.stderr) == (2, True)
    run = subprocess.run(
        [sys.executable, "-m", "local", "run", str(ROOT / "events/force-all.json")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0
    assert (
        '"extended": 4' in run.stdout
    )  # at the world's time: by the real one, these records are of the future
    monkeypatch.chdir(tmp_path)
    assert main([]) == IN_USE

    # More than one, as from an impatient person or a terminal that closes.
    with suppress(ProcessLookupError):
        for number in [signal.SIGINT, signal.SIGHUP] * 20:
            os.killpg(up.pid, number)
    output, _ = up.communicate(timeout=SECONDS)
    assert up.returncode == 0
    assert "Traceback" not in output
    assert "Status page: http://127.0.0.1:" in output
    assert "sparekey01 to sparekey999" in output
    assert "  1 extended, 1 created, 1 recreated, 1 rejected; " in output
    assert output.endswith("the local environment has stopped\n")
    assert [file.name for file in (tmp_path / ".local").iterdir()] == ["function.log"]
    assert '"message":"run"' in (tmp_path / ".local/function.log").read_text()
    with pytest.raises(ProcessLookupError):
        os.killpg(up.pid, 0)


@pytest.mark.slow
def test_a_world_ends_when_nobody_reads_it_any_more(up: subprocess.Popen[str], tmp_path: Path) -> None:
    assert up.stdout
    up.stdout.close()
    assert up.wait(timeout=SECONDS) is not None
    assert [file.name for file in (tmp_path / ".local").iterdir()] == ["function.log"]
    up.stdout = None  # nothing is left to be read of it


def test_the_command_of_a_world_that_was_killed_says_that_it_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getpid", lambda: ended.pid)
    STATE.parent.mkdir()
    with commands({}):
        done = subprocess.run([tmp_path / ".local/listenkeys", "status"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "the local environment is not running: start one with make up\n",
    )
    assert list(STATE.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *[
            (f"--speed={speed}", "SPEED must be a number from 1 to 600, not ")
            for speed in ("0", "fast", "nan")
        ],
        ("--speed", "make up: argument --speed: expected one argument"),
        ("--speed 60 --account real", "SPEED must be 1 with ACCOUNT=real"),
        ("--account mine", "ACCOUNT can only be real, not mine"),
        ("--account real --product spot", "PRODUCT must be one of usdm, "),
        ("--account real --environment paper", "ENVIRONMENT must be one of live, demo, testnet, not paper"),
        ("--account real --host fapi.binance.com", "HOST must begin with https:// or http://, not fapi"),
        ("--product coinm", "PRODUCT, ENVIRONMENT and HOST need ACCOUNT=real"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_line(options: str, says: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options.split())
    assert str(ended.value).startswith(says)


@pytest.mark.parametrize(
    ("typed", "code", "says"),
    [
        ("--help", 0, "  drop             cuts every websocket\n"),
        ("--help", 0, "418 (a ban)"),
        ("", 2, "usage: .local/binance COMMAND [ACCOUNT]"),
        ("explode", 2, "there is no command explode (see `.local/binance --help`)"),
        ("revoke", 2, "revoke needs one account, such as `.local/binance revoke alice` (see"),
        ("revoke a b", 2, "revoke needs one account"),
        ("down alice", 2, "down takes nothing, or one of 403, 418, 429, 451, 500, 503"),
        ("up alice", 2, "up takes no account"),
        ("order alice", 2, "no local environment is running: start one with `make up`"),
    ],
)
def test_the_stand_ins_command_says_how_it_is_typed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    typed: str,
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [".local/binance", *typed.split()])
    with pytest.raises(SystemExit) as ended:
        front_main()
    assert ended.value.code == code
    assert says in "".join(capsys.readouterr())


def test_a_program_runs_with_the_environment_and_what_is_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    STATE.parent.mkdir()
    one_region = ".local/listenkeys: the local environment has one region: leave --region out\n"
    with commands({"LISTEN_KEYS_TABLE": "mine"}):
        for typed, code, says in (
            ("with --help", 0, "usage: .local/with PROGRAM [ARGUMENT]..."),
            ("with", 2, "usage: .local/with"),
            ("with no-such-program", 127, ".local/with: there is no program no-such-program\n"),
            ("with printenv LISTEN_KEYS_TABLE", 0, "mine\n"),
            ("listenkeys status --region xx", 2, one_region),
            ("listenkeys --region=eu-west-1 status", 2, one_region),
        ):
            program, *arguments = typed.split()
            command = [tmp_path / ".local" / program, *arguments]
            done = subprocess.run(command, capture_output=True, text=True)
            assert (done.returncode, (done.stdout + done.stderr)[: len(says)]) == (code, says)


def test_each_run_is_a_line_that_says_what_came_of_whom(
    world: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    world.add_demo_accounts(world.clock.now())
    for number in range(5):
        world.add_account(f"erin{number}", "e" * 20, known=False)
    tables = world.aws.outputs["AccountsTableName"], world.aws.outputs["ListenKeysTableName"]

    def read() -> list[AccountStatus]:
        return read_status(world.aws.client("dynamodb"), *tables, world.clock.now())

    runs = Runs(world.function, world.clock, threading.Event(), read, lambda: account_messages(world))
    detail = {"accountId": "alice", "fingerprint": "another"}
    asked = {"source": "listenkey-keeper.bot", "detail-type": "Listen Key Expired", "detail": detail}
    probe = {"dryRun": True, "probe": True}
    for event in (probe, {"dryRun": True}, {"overdueOnly": True}, {"overdueOnly": True}, asked):
        runs.invoke(event)
        world.clock.advance(minutes=1)
    day = f"{world.clock.now():%m-%d}"
    dead = "dave, erin0, erin1, erin2, erin3 and 1 more have no live listenKey"
    assert [re.sub(rf"^{day} \d\d:\d\d:\d\d  ", "", line) for line in reversed(runs.last)] == [
        "manual      dry run: 9 due, 0 not due, only the probe sent",
        "manual      dry run: 9 due, 0 not due, nothing sent",
        f"sweep       1 extended, 1 created, 1 recreated, 6 rejected; {dead}",
        f"sweep       3 skipped, 6 not tried (rejected before); {dead}",
        "bot report  1 skipped; least time left: 58 min",
    ]
    sent = re.findall(r"^  email and chat: ([^:]+):.*`\. (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert sent == [("FAILING 6 accounts. INVALID_API_KEY", "Stack listenkey-keeper, eu-west-1.")]
