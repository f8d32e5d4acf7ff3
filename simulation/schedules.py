"""Who keeps the keys alive in the simulation: this program under different settings, and its peers' loops.

This program is the real one: Keeper, selection, sending and journal, one worker in place of sixteen.
Runs take turns by the virtual clock, so that the same seed gives the same run. Around it, as in AWS:

- EventBridge fires anywhere within the minute of the rule's time;
- a run that raises is tried again a minute after it ended, and once more two minutes after that;
- a run that has not ended when the next one fires does not hold it up: both go on at the same time, each in
  a process of its own.

The peers are plain loops, one in each account's own process, begun at a random time. What is modelled of
each is its schedule and what it does about a failure; all are assumed never to crash or to be restarted.

- 5 min (python-binance): POST, then PUT, every 5 minutes; a failure is logged and the next try is the next
  time's. POST brings a dead key back.
- 20 min (ccxt pro): PUT every 20 minutes; a failure drops the key and fails the bot's pending call. The bot
  is taken to call again after a minute, which POSTs, and so on until it works.
- 30 min, plain (hummingbot, nautilus, cryptofeed, and most bots): PUT every 30 minutes; a failure is logged
  and the next try is the next time's. -1125 is answered with POST at once, which many of them do not.
- 50 min (tiagosiebler's binance): PUT every 50 minutes; after a failure three more tries, 15 s apart, then
  the stream is set up again with POST, tried once a minute until it works.
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
START_SECONDS = 1.0  # from the event to the handler's first line, cold
RUN_SECONDS = 300.0
LATE = 59.9  # seconds: the last moment of a minute
Jitter = Callable[[str, int], float]  # a rule's name and the number of its firing, to seconds
Bot = Generator[float, None, None]  # yields the seconds until it goes on


@dataclass(frozen=True, slots=True)
class Schedule:
    """A way to keep keys alive. One of `loop` and `settings` is given; without `sweep`, only ticks.

    `neighbours`: with two accounts in the table that Binance refuses; its rules fire as they do without.
    """

    name: str
    settings: Settings | None = None
    sweep: bool = True
    neighbours: bool = False
    loop: Callable[[BinanceClient, str], Bot] | None = None

    @property
    def label(self) -> str:
        """What stands in the table; a schedule with neighbours comes below the same without."""
        return "  beside two accounts that Binance refuses" if self.neighbours else self.name

    @property
    def latency(self) -> float:
        """Seconds from a request to the next of one process: 0.15 s each, sixteen at once or alone."""
        return 0.15 / 16 if self.settings else 0.15

    def play(
        self, world: World, until: float, jitter: Jitter | None = None, sweep_phase: float | None = None
    ) -> None:
        """Play the schedule on a world's timeline, up to `until` seconds."""
        if self.loop:
            _play_bots(self.loop, world, until)
        else:
            assert self.settings
            _play_keeper(self.settings, self.sweep, world, until, jitter, sweep_phase)
        world.clock.go_to(max(until, world.clock.monotonic()))
        world.exchange.close(until)


@cache
def default_settings(renew_after_minutes: int | None = None) -> Settings:
    """Return the settings that the template's defaults make."""
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
    """A pool without threads: work is done when it is started."""

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
        """End nothing: there are no threads."""


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
        # As app.lambda_handler decides whether it raises.
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
    """Play python-binance's KeepAliveWebsocket."""
    while True:
        with suppress(AccountError):
            client.start("usdm", api_key)
            client.keepalive("usdm", api_key)
        yield 5 * MINUTE


def twenty_minutes(client: BinanceClient, api_key: str) -> Bot:
    """Play ccxt pro, and a bot that calls it again."""
    while True:
        yield from _post_until_it_works(client, api_key)
        with suppress(AccountError):
            while True:
                yield 20 * MINUTE
                client.keepalive("usdm", api_key)
        yield MINUTE


def thirty_minutes(client: BinanceClient, api_key: str) -> Bot:
    """Play the plain loop."""
    yield from _post_until_it_works(client, api_key)
    while True:
        yield 30 * MINUTE
        with suppress(AccountError):
            try:
                client.keepalive("usdm", api_key)
            except ListenKeyNotFound:
                client.start("usdm", api_key)


def fifty_minutes(client: BinanceClient, api_key: str) -> Bot:
    """Play tiagosiebler's binance."""
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
    """Return what is compared, this program's schedules first."""
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
