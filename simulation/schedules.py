"""The schedules that the simulation compares: this program's with different settings, and others' loops.

This program is the real code (Keeper, selection, sending and journal), with one worker instead of sixteen.
Its runs take turns by the virtual clock, so that the same seed gives the same run. As in AWS:

- EventBridge fires at any time within the minute of the rule's time;
- a run that raises is retried a minute after it ended, and once more two minutes after that;
- a run that has not ended when the next one fires does not delay it: both run at the same time, each in its
  own process.

The others are plain loops, each in its account's own process, which begin at a random time. The model has
the schedule of each and how it handles a failure. It assumes that none of them ever crashes or restarts.

- 5 min (python-binance): POST, then PUT, every 5 minutes. A failure is logged, and the next try comes 5
  minutes later. POST replaces a dead key.
- 20 min (ccxt pro): PUT every 20 minutes. A failure drops the key and fails the bot's pending call. The bot
  is assumed to call again after a minute, which sends POST, and so on until it works.
- 30 min, plain (hummingbot, nautilus, cryptofeed, and most bots): PUT every 30 minutes. A failure is logged,
  and the next try comes 30 minutes later. After -1125 it sends POST at once, which many of them do not do.
- 50 min (tiagosiebler's binance): PUT every 50 minutes. After a failure it tries three more times, 15 s
  apart, and then sets up the stream again with POST, once a minute until it works.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from samtranslator.yaml_helper import yaml_parse

from listenkeys.aws.accounts import Accounts
from listenkeys.aws.announcements import Announcer
from listenkeys.aws.clients import Deadline
from listenkeys.aws.counter import WeightCounter
from listenkeys.aws.credentials import Credentials
from listenkeys.aws.records import Records
from listenkeys.binance.client import BinanceClient
from listenkeys.clock import Clock
from listenkeys.errors import AccountError, ListenKeyNotFound
from listenkeys.keeper import Keeper
from listenkeys.pool import Pool
from listenkeys.sending.weight import Budget
from listenkeys.settings import Settings, rate_minutes
from listenkeys.trigger import SWEEP, TICK, Trigger
from simulation.aws import ACCOUNTS, KEYS, LEDGER, PREFIX, Bus, Secrets, Tables
from simulation.world import MINUTE, World

TEMPLATE = Path(__file__).parent.parent / "template.yaml"
START_SECONDS = 1.0  # from the event to the handler's first line, in a cold start
RUN_SECONDS = 300.0
LATE = 59.9  # seconds: the last moment of a minute
Jitter = Callable[[str, int], float]  # returns the delay in seconds of a firing, by rule name and number
Bot = Generator[float, None, None]  # yields the seconds until its next step


@dataclass(frozen=True, slots=True)
class Schedule:
    """A way to keep keys alive: this program with `settings`, or another program's `loop`.

    Without `sweep`, only the tick fires. With `neighbours`, the table also has two accounts that Binance
    refuses; the rules fire at the same times as without them.
    """

    name: str
    settings: Settings | None = None
    sweep: bool = True
    neighbours: bool = False
    loop: Callable[[BinanceClient, str], Bot] | None = None

    @property
    def label(self) -> str:
        """The text for the table, in which a schedule with neighbours is below the same one without."""
        return "  beside two accounts that Binance refuses" if self.neighbours else self.name

    @property
    def latency(self) -> float:
        """Seconds from one request of a process to the next.

        A request takes 0.15 s. This program sends sixteen at the same time, a loop one.
        """
        return 0.15 / 16 if self.settings else 0.15

    def play(
        self, world: World, until: float, jitter: Jitter | None = None, sweep_phase: float | None = None
    ) -> None:
        """Play the schedule on the timeline of a world, up to `until` seconds."""
        if self.loop:
            _play_bots(self.loop, world, until)
        else:
            assert self.settings
            _play_keeper(self.settings, self.sweep, world, until, jitter, sweep_phase)
        world.clock.go_to(max(until, world.clock.monotonic()))
        world.exchange.close(until)


@cache
def default_settings(renew_after_minutes: int | None = None) -> Settings:
    """Return the settings of the template's defaults, with another RenewAfterMinutes if one is given."""
    template = yaml_parse(TEMPLATE.read_text())
    values = {name: parameter["Default"] for name, parameter in template["Parameters"].items()}
    if renew_after_minutes:
        values["RenewAfterMinutes"] = renew_after_minutes
    function = template["Globals"]["Function"] | template["Resources"]["KeepaliveFunction"]["Properties"]

    def value_of(node: Any) -> str:
        match node:
            case {"Ref": name}:
                return str(values.get(name, name))
            case {"Fn::If": [_, _, otherwise]}:  # by default every option is off
                return value_of(otherwise)
        return str(node)

    return Settings.from_env(
        {name: value_of(node) for name, node in function["Environment"]["Variables"].items()}
    )


class Inline(Pool):
    """A pool without threads. Work runs when it is started."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._landing: deque[tuple[Callable[[Any], object], Any]] = deque()

    def start(self, work: Callable[[], Any], then: Callable[[Any], object]) -> None:
        self._landing.append((then, work()))

    def land(self, seconds: float) -> None:
        if not self._landing:
            self._clock.sleep(seconds)
        while self._landing:
            then, outcome = self._landing.popleft()
            then(outcome)

    def close(self) -> None:
        """Do nothing: there are no threads to end."""


def _play_keeper(
    settings: Settings,
    sweep: bool,
    world: World,
    until: float,
    jitter: Jitter | None,
    sweep_phase: float | None,
) -> None:
    clock, tables = world.clock.clock, cast(Any, Tables(world))
    deadline = Deadline(clock.monotonic)
    accounts = Accounts(tables, ACCOUNTS, PREFIX, clock.sleep)
    records = Records(tables, KEYS, LEDGER, settings.ledger_mode, settings.ledger_days, clock.sleep)
    credentials = Credentials(cast(Any, Secrets(world)))
    announcer = Announcer(cast(Any, Bus(world)), KEYS, heartbeat=False)
    counter = WeightCounter(tables, LEDGER, deadline)

    def new_process() -> Keeper:
        return Keeper(
            accounts=accounts,
            credentials=credentials,
            binance=world.wire,
            records=records,
            announcer=announcer,
            clock=clock,
            budget=Budget(counter, settings.max_weight_per_minute, clock),
            overdue=lambda minutes: timedelta(minutes=settings.overdue_after(minutes)),
            max_concurrency=1,
            aws_deadline=Deadline(clock.monotonic),
            pool=Inline,
        )

    pick = jitter or (lambda name, number: world.random.uniform(0, LATE))
    periods = {TICK: MINUTE * (rate_minutes(settings.schedule_expression) or 30)}
    phases = {TICK: 0.0}
    if sweep:
        periods[SWEEP] = MINUTE * (rate_minutes(settings.sweep_expression) or 5)
        phases[SWEEP] = world.random.uniform(0, periods[SWEEP]) if sweep_phase is None else sweep_phase

    def fire(name: str, number: int) -> None:
        def begin() -> None:
            fire(name, number + 1)
            run(name, number, 0)

        world.clock.at(phases[name] + periods[name] * number + pick(name, number), begin)

    def run(name: str, number: int, tried: int) -> None:
        world.clock.sleep(START_SECONDS)
        report = new_process().run(Trigger(name), f"{name}{number}", RUN_SECONDS)
        # The same condition under which app.lambda_handler raises.
        raises = report.incomplete() and (name == TICK or report.accounts_unread)
        if raises and tried < 2:
            again = world.clock.monotonic() + MINUTE * (tried + 1)
            world.clock.at(again, partial(run, name, number, tried + 1))

    for name in periods:
        fire(name, 0)
    world.clock.play(until)


def _play_bots(loop: Callable[[BinanceClient, str], Bot], world: World, until: float) -> None:
    turns = []
    for number, api_key in enumerate(world.api_keys):
        turns.append((world.random.uniform(0, 30 * MINUTE), number, loop(world.wire, api_key)))
    heapq.heapify(turns)
    while turns[0][0] < until:
        at, number, bot = turns[0]
        world.clock.go_to(at)
        wait = next(bot)
        heapq.heapreplace(turns, (world.clock.monotonic() + wait, number, bot))


def _post_until_it_works(client: BinanceClient, api_key: str) -> Bot:
    while True:
        try:
            client.start("usdm", api_key)
        except AccountError:
            yield MINUTE
        else:
            return


def five_minutes(client: BinanceClient, api_key: str) -> Bot:
    """Act as python-binance's KeepAliveWebsocket."""
    while True:
        with suppress(AccountError):
            client.start("usdm", api_key)
            client.keepalive("usdm", api_key)
        yield 5 * MINUTE


def twenty_minutes(client: BinanceClient, api_key: str) -> Bot:
    """Act as ccxt pro, with a bot that calls it again after a failure."""
    while True:
        yield from _post_until_it_works(client, api_key)
        with suppress(AccountError):
            while True:
                yield 20 * MINUTE
                client.keepalive("usdm", api_key)
        yield MINUTE


def thirty_minutes(client: BinanceClient, api_key: str) -> Bot:
    """Act as the plain loop."""
    yield from _post_until_it_works(client, api_key)
    while True:
        yield 30 * MINUTE
        with suppress(AccountError):
            try:
                client.keepalive("usdm", api_key)
            except ListenKeyNotFound:
                client.start("usdm", api_key)


def fifty_minutes(client: BinanceClient, api_key: str) -> Bot:
    """Act as tiagosiebler's binance."""
    while True:
        yield from _post_until_it_works(client, api_key)
        failures = 0
        while failures < 4:
            yield 15.0 if failures else 50 * MINUTE
            try:
                client.keepalive("usdm", api_key)
                failures = 0
            except ListenKeyNotFound:
                break
            except AccountError:
                failures += 1


def schedules() -> list[Schedule]:
    """Return the schedules to compare, this program's first."""
    settings = default_settings()
    renew_after = settings.renew_after_minutes
    default = Schedule(f"tick and sweep, RenewAfterMinutes {renew_after} (default)", settings)
    sooner = Schedule("tick and sweep, RenewAfterMinutes 10", default_settings(10))
    return [
        default,
        replace(default, neighbours=True),
        Schedule("tick and sweep, RenewAfterMinutes 20", default_settings(20)),
        sooner,
        replace(sooner, neighbours=True),
        Schedule("ticks only", settings, sweep=False),
        Schedule("5 min loop (python-binance)", loop=five_minutes),
        Schedule("20 min loop (ccxt pro)", loop=twenty_minutes),
        Schedule("30 min loop, plain", loop=thirty_minutes),
        Schedule("50 min loop, 3 more tries (binance, node)", loop=fifty_minutes),
    ]
