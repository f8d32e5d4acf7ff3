"""`make up`: run a local environment, with the tick and the sweep, until Ctrl-C.

Use `listenkeys` with it from another terminal. SPEED makes time run faster: at 60 a listenKey lives a minute.
Each run of the function is printed as one line, and below it each account message that AWS would send.
"""

from __future__ import annotations

import json
import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from listenkey_keeper.cli.output import some_of
from listenkey_keeper.cli.stack import CLOCK
from listenkeys.aws.clients import AwsError
from listenkeys.errors import InvalidEvent, Unavailable
from listenkeys.model import Outcome
from listenkeys.trigger import EXPIRED, Trigger
from listenkeys.view.status import AccountStatus, read_status
from local.aws.rules import FUNCTION, SWEEP, TICK, Call, Scheduler
from local.aws.stack import REGION
from local.clock import ScaledClock, VirtualClock
from local.front import CONTROLS, Controls, Front
from local.invoke import Context, Invocation, LocalFunction
from local.page_server import PageServer
from local.real import RealAccount, add_options, chosen
from local.running import IN_USE, STATE, StopSignal, alone, commands, running_world, state
from local.terminal import Parser, doing
from local.world import MAKING, SPARE_KEYS, World, demo_world

FASTEST = 600.0
LOG = STATE.with_name("function.log")
_PATIENCE = 3.0  # real seconds that a run in progress gets when the environment stops


class Runs:
    """Runs the function, one run at a time. Prints one line for each run and appends its log to LOG.

    `read` returns the status of all accounts, and `messages` the account messages so far. `ended` is set if
    the terminal is gone.
    """

    def __init__(
        self,
        function: LocalFunction,
        clock: ScaledClock | VirtualClock,
        ended: threading.Event,
        read: Callable[[], list[AccountStatus]],
        messages: Callable[[], list[str]] = list,
    ) -> None:
        self._function = function
        self._read, self._messages = read, messages
        self._sent = 0
        self._ended = ended
        self._clock = clock
        self._out = sys.stdout  # kept, because a run redirects sys.stdout
        self._lock = threading.Lock()
        self.last: deque[str] = deque(maxlen=10)  # the lines of the last runs, newest first
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_text("")

    def invoke(self, event: Any, context: Context | None = None, if_it_fails: str = "") -> Invocation:
        """Run the function with an event. `if_it_fails` says what happens after a failure, for the line."""
        with self._lock:
            at = self._clock.now()
            done = self._function.invoke(event, context)
            with LOG.open("a") as log:
                log.write(done.output)
            told = self._told(done, if_it_fails)
            line = f"{at:%m-%d %H:%M:%S}  {_kind(event):<10}  {told}"
            self.last.appendleft(line)
            self.say(line)
            messages = self._messages()
            for text in messages[self._sent :]:
                self.say(f"  email and chat: {text}")
            self._sent = len(messages)
            return done

    def renew(self, account_id: str) -> str:
        """Run the function for one account and return the result in one line. Raises ValueError for ""."""
        if not account_id:
            raise ValueError("no account chosen")
        return f"{account_id}: {self._told(self.invoke({'accounts': [account_id]}), '')}"

    def _told(self, done: Invocation, if_it_fails: str) -> str:
        if done.report is None:
            tail = f" ({if_it_fails})" if if_it_fails else ""
            return f"{type(done.error).__name__}: {done.error}{tail}"
        try:
            rows = self._read()
        except (*AwsError, Unavailable):  # the environment is stopping
            rows = []
        return _counts(done.report, rows)

    def say(self, text: str) -> None:
        """Print a line. If that fails because the terminal is gone, stop the environment."""
        try:
            print(text, file=self._out, flush=True)
        except OSError:
            self._ended.set()


def _kind(event: Any) -> str:
    try:
        name = Trigger.from_event(event).name
        return "bot report" if name == EXPIRED else name
    except InvalidEvent:
        return "event"


def _counts(report: dict[str, Any], rows: list[AccountStatus]) -> str:
    """Return one line: how many accounts had which outcome, and which have no live listenKey now."""
    if report.get("dryRun"):
        sent = "only the probe sent" if report.get("probe") else "nothing sent"
        return f"dry run: {len(report['plan'])} due, {report['skipped']} not due, {sent}"
    # A sweep's `rejected` includes accounts that it did not try because Binance rejected them before.
    of_run = [row.current.outcome for row in rows if row.current.run_id == report["runId"]]
    tried = min(of_run.count(Outcome.REJECTED), report["rejected"])
    counts = {o.lower(): report[o.lower()] for o in Outcome}
    counts |= {"rejected": tried, "not tried (rejected before)": report["rejected"] - tried}
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "no accounts"
    dead = [row.account.id for row in rows if row.state == "dead"]
    least = report["minRemainingSeconds"]
    if least:
        return f"{said}; least time left: {least // 60} min"
    if least is None or not dead:
        return said
    return f"{said}; {some_of(dead)} {'has' if len(dead) == 1 else 'have'} no live listenKey"


def account_messages(world: World) -> list[str]:
    """Return the texts of the account messages that AWS would have sent by email and chat."""
    with suppress(KeyError):  # the environment is stopping
        details = (event["detail"] for event in world.aws.sent_events())
        place = f"Stack {world.aws.stack_name}, {REGION}."  # as the template's InputTemplate adds it
        return [f"{detail['text']} {place}" for detail in details if "text" in detail]
    return []


def serve(speed: float, still: bool = False, real: RealAccount | None = None) -> None:
    """Run the environment until Ctrl-C. With `still`, no rule fires."""
    made = real.world() if real else None  # before StopSignal, so that Ctrl-C ends its prompt
    stop, ended = StopSignal(), threading.Event()
    clock = ScaledClock(speed)
    with doing("creating AWS from template.yaml on this machine" if real else MAKING):
        made = made or demo_world(clock)
    with made as world:

        def give_up(letter: dict[str, Any]) -> None:
            queue = world.aws.resources["DeadLetterQueue"]
            world.aws.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(letter))

        def read() -> list[AccountStatus]:
            outputs = world.aws.outputs
            tables = outputs["AccountsTableName"], outputs["ListenKeysTableName"]
            return read_status(world.aws.client("dynamodb"), *tables, clock.now())

        function = LocalFunction(world.environment(), clock.clock)
        runs = Runs(function, clock, ended, read, lambda: account_messages(world))

        def invoke(call: Call) -> Invocation:
            return runs.invoke(call.event, call.context, call.if_it_fails)

        first = {TICK: math.inf, SWEEP: math.inf} if still else None
        scheduler = Scheduler(world.aws, clock.clock, invoke, give_up, first)
        controls = Controls(world)
        with (
            PageServer(
                read, clock.now, controls.do if world.binance else None, runs.renew, lambda: list(runs.last)
            ) as page,
            Front(world.aws.resources[FUNCTION], runs.invoke, scheduler.send, controls) as front,
        ):
            environment = {
                **world.environment(),
                "AWS_ENDPOINT_URL_LAMBDA": front.url,
                "LISTENKEYS_STACK_NAME": world.aws.stack_name,
                CLOCK: clock.text,
                CONTROLS: front.url,
            }
            with commands(environment), state(environment):
                runs.say(f"Status page: {page.url}\n")
                greet(world, scheduler, clock, runs)
                # A daemon thread: a run that hangs must not delay the exit after Ctrl-C.
                thread = threading.Thread(target=scheduler.run, args=(ended, speed), daemon=True)
                thread.start()
                stop.wait(ended)
                ended.set()
                thread.join(_PATIENCE)
        runs.say("\nthe local environment has stopped")


def greet(world: World, scheduler: Scheduler, clock: ScaledClock, runs: Runs) -> None:
    """Print the rules, the accounts and the commands to try."""
    pace = f"; an hour takes {3600 / clock.speed:g} s" if clock.speed != 1 else ""
    runs.say(f"The local environment is running{pace}. Press Ctrl-C to stop it. Its rules:\n")
    for rule in scheduler.rules:
        kind, wait = _kind(rule.event) if rule.event else "tick", rule.seconds / clock.speed
        first = f"{wait / 60:g} min" if wait >= 60 else f"{wait:g} s"
        runs.say(f"  {kind}: {rule.expression}, first run in {first}")
    runs.say("\nIn another terminal, here:\n\n  alias listenkeys=\"'$PWD/.local/listenkeys'\"")
    runs.say("  listenkeys status --watch\n")
    if world.binance:
        runs.say("alice starts with a live listenKey, bob with none, and carol with one that Binance has")
        runs.say(
            "forgotten: the first run fixes both. dave is meant to fail: the stand-in for Binance does not"
        )
        runs.say("know his API key. Try these:\n")
        runs.say("  listenkeys renew                         runs the function now")
        keys = f"{SPARE_KEYS[0]} to {SPARE_KEYS[-1]}"
        runs.say(f"  listenkeys accounts add dave --replace   fixes dave: enter one of {keys}")
        runs.say("  .local/binance revoke alice              makes alice's API key fail")
        runs.say("  .local/binance order alice               places an order: a bot that listens gets it")
        runs.say("  .local/binance --help                    lists the rest\n")
    if world.streams:
        runs.say(f"WebSocket URL: {world.streams.url}")
    runs.say(f"Log of the function: {LOG}. Its runs, a line each (UTC, in the environment's time):\n")


def main(arguments: list[str]) -> int:
    parser = Parser(prog="make up", description=__doc__)
    parser.add_argument("--speed", default="1", help=f"how fast time runs, up to {FASTEST:g}")
    parser.add_argument("--still", action="store_true", help="fire no rules, as for `make run KEEP=1`")
    add_options(parser)
    options = parser.parse_args(arguments)
    real, speed = chosen(options), 0.0
    with suppress(ValueError):
        speed = float(options.speed)
    if not 1 <= speed <= FASTEST:
        raise SystemExit(f"SPEED must be a number from 1 to {FASTEST:g}, not {options.speed}")
    if speed != 1 and real:
        raise SystemExit("SPEED must be 1 with ACCOUNT=real: listenKeys at Binance expire in real time")
    try:
        with alone():
            serve(speed, options.still, real)
    except BlockingIOError:
        found = running_world()
        process = f" (process {found['pid']})" if found else ""
        print(f"a local environment is already running{process}: `make down` stops it", file=sys.stderr)
        return IN_USE
    return 0
