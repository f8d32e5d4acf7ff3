"""Plays a day: rules fire, Lambda retries, people interfere, everything fails. Checks the rules meanwhile."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID

from chaos import rules
from chaos.accounts import ACCOUNTS, GROUPS, Account, api_key_of
from chaos.checks import Checks, Found
from chaos.handler import Handler, Process
from chaos.plan import HOUR, MINUTE, Plan
from chaos.rules import Run, Violation
from chaos.timekeeper import asleep
from chaos.traffic import SECONDS, Call, Traffic
from chaos.wire import Wire
from chaos.world import START, ChaosWorld
from local.aws.stack import REGION

MOST_PROCESSES = 6
COLD = 0.12  # the share of runs that start cold
KILLED = 0.04  # the share of runs that are killed
WEIGHT = 24  # per minute for futures: little enough to matter for two dozen accounts
RETRY_AFTER = (60.0, 120.0)
TICK = {"source": "aws.events", "detail-type": "Scheduled Event"}
SWEEP = {"overdueOnly": True}


class Day:
    """A world and its day. `program` replaces the project's code. `parameters` are those of the stack."""

    def __init__(
        self,
        seed: str,
        hours: float,
        folder: Path,
        plan: Plan | None = None,
        program: Path | None = None,
        **parameters: str,
    ) -> None:
        self.seed, self.hours, self.program = seed, hours, program
        # Six consecutive seeds have all combinations.
        number = int(seed) if seed.isdecimal() else 0
        chosen = {
            "MaxWeightPerMinute": str(WEIGHT),
            "LedgerMode": ["changes", "all"][number % 2],
            "ShardCount": ["1", "1", "2"][number % 3],
            "MaxConcurrency": "8",
            **parameters,
        }
        self.world = ChaosWorld(seed, folder, plan or Plan(seed, START, hours), chosen)
        self.plan, self.keeper, self.tell = self.world.plan, self.world.keeper, self.world.tell
        self.runs: list[Run] = []
        self.traffic = Traffic(self.world)
        self.checks = Checks(self.world, self.traffic, self.runs)
        self.rng = random.Random(f"{seed}/events")
        self.handlers: list[Handler] = []
        self.others: list[Process] = []  # other processes that use the shared time
        self.replaced: list[tuple[str, float]] = []  # accounts whose key somebody else has replaced, and when
        self.wires: dict[int, Wire] = {}
        self.said: list[tuple[int, dict[str, Any]]] = []  # messages of processes that are not yet handled
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.tick_every = 30 * MINUTE

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Call `act` at `when`, in epoch seconds."""
        heapq.heappush(self.events, (when, next(self.numbers), act))

    def play(self) -> None:
        """Play the day and check it. `checks.violations` are the results."""
        try:
            with contextlib.suppress(Found):
                self._schedule()
                self._until(self.plan.quiet_from)
                self._until(self.plan.quiet_from + 45 * MINUTE)
                self.drain()
                self.check_at_the_end()
        finally:
            self.close()

    def check_at_the_end(self) -> None:
        """Check the rules that hold for the whole day."""
        self.checks.check_at_the_end()

    def close(self) -> None:
        """End all processes and servers."""
        for handler in list(self.handlers):
            self._end(handler)
        self.keeper.release_all()
        for wire in self.wires.values():
            wire.stop()
        self.world.stack.close()

    def _schedule(self) -> None:
        rng, end = self.rng, START + self.hours * HOUR + 45 * MINUTE
        phase = rng.uniform(0, 60)
        self.at(START + 1, lambda: self.send(Call("lambda_handler", TICK, "tick-first", "tick")))
        for n in itertools.count(1):
            at = START + phase + n * self.tick_every + rng.uniform(0, 40)
            if at > end:
                break
            self._rule(at, TICK, f"tick-{n}", "tick")
        sweeps = rng.uniform(0, 300)
        for n in itertools.count():
            at = START + sweeps + n * 5 * MINUTE + rng.uniform(0, 40)
            if at > end:
                break
            self._rule(at, SWEEP, f"sweep-{n}", "sweep")
        for n in range(int(self.hours)):
            at = START + (n + rng.random()) * HOUR
            names = rng.sample([a.name for a in ACCOUNTS if a.promised], 3)
            event: dict[str, Any] = {"accounts": names} if rng.random() < 0.7 else {}
            forced = rng.random() < 0.5
            event |= {"force": True} if forced else {}
            event |= {"dryRun": True} if rng.random() < 0.2 else {}
            manual = Call("lambda_handler", event, f"manual-{n}", "manual", forced=forced)
            self.at(at, lambda call=manual: self.send(call))  # type: ignore[misc]
        for n in range(int(self.hours / 3)):
            at = START + (3 * n + 3 * rng.random()) * HOUR
            account = rng.choice([a for a in ACCOUNTS if a.promised])
            rotated = rng.random() < 0.4
            self.at(at, lambda a=account, r=rotated: self._dies_early(a, r))  # type: ignore[misc]
        [left] = [account for account in ACCOUNTS if not account.creates]
        for part in (0.3, 0.5, 0.7):
            self.at(START + part * self.hours * HOUR, lambda: self._dies_early(left, rotated=False))
        for outage in self.plan.outages:
            self.at(outage.start, lambda o=outage: self.tell(f"OUTAGE {o.kind} for {o.end - o.start:.0f} s"))  # type: ignore[misc]
            self.at(outage.end, lambda o=outage: self.tell(f"OVER: {o.kind}"))  # type: ignore[misc]

    def _rule(self, at: float, event: Any, run_id: str, trigger: str) -> None:
        self.at(at, lambda: self.send(Call("lambda_handler", event, run_id, trigger)))
        twice = self.plan.chance(f"twice/{run_id}", 0.08, at)
        if twice:
            # If EventBridge delivers an event twice, the request ids differ. If Lambda runs one twice, they
            # are the same.
            again = run_id if self.rng.random() < 0.5 else f"{run_id}-twice"
            later = at + self.rng.choice([0.0, self.rng.uniform(0, 20)])
            self.at(later, lambda: self.send(Call("lambda_handler", event, again, trigger)))

    def _dies_early(self, account: Account, rotated: bool) -> None:
        now, key = self.keeper.now(), api_key_of(account.name)
        if self.plan.calm(now) or (rotated and not account.creates):
            return
        if rotated:
            self.tell(f"somebody else makes another key for {account.name}")
            self.world.secrets.add(self.world.exchange.rotate(key, account.product))
            self.world.lives(account)
            self.world.died[account.name] = now  # an earlier record is no longer true
            self.replaced.append((account.name, now))
            return
        self.tell(f"the key of {account.name} dies early")
        self.world.exchange.expire(key, account.product)
        self.world.died[account.name] = self.world.ends[account.name] = now
        if not account.creates:
            self.at(now + 20 * MINUTE, lambda: self.world.bot_makes(account))

    def send(self, call: Call) -> None:
        """Run an event now, in a warm process or in a new one."""
        now, number = self.keeper.now(), len(self.runs)
        cold = self.plan.chance(f"cold/{number}", COLD, now)
        idle = [handler for handler in self.handlers if handler.number not in self.traffic.running]
        if cold and len(idle) > 1:
            self._end(idle.pop(0))
        handler = idle[-1] if idle and not cold else self._start()
        again = sum(run.id == call.run_id for run in self.runs)
        name = f"{call.run_id}~{again + 1}" if again else call.run_id
        run = Run(call.run_id, name, call.trigger, now, call.forced)
        run.fresh = {
            name: instant
            for name, record in self.world.current().items()
            if record.get("outcome") in rules.SUCCESSES
            and now - (instant := rules.instant(record["renewedAt"])) < rules.FRESH
        }
        self.runs.append(run)
        if self.plan.chance(f"kill/{number}", KILLED, now):
            rng = random.Random(f"{self.world.seed}/kill/{number}")
            self.traffic.kill_at[handler.number] = rng.randint(1, 30), rng.random() < 0.5
        self.traffic.running[handler.number] = call, run
        self.world.counts[call.trigger] += 1
        self.tell(f"{name} begins ({call.handler}, try {call.attempt + 1})")
        handler.invoke(call.handler, call.event, call.run_id, call.seconds, f"{self.seed}/{name}")

    def _start(self) -> Handler:
        if len(self.handlers) >= MOST_PROCESSES:
            for handler in self.handlers:
                if handler.number not in self.traffic.running:
                    self._end(handler)
                    break
        number = next(self.numbers)
        wire = Wire(number, self.keeper, lambda request: self.traffic.respond(number, request))
        self.wires[number] = wire
        environment = {
            **self.world.local.environment(), "BINANCE_BASE_URL": wire.url, "AWS_ENDPOINT_URL": wire.url,
            "AWS_ENDPOINT_URL_DYNAMODB": wire.url, "PYTHONPATH": str(self.program or ""),
        }  # fmt: skip
        handler = Handler(number, self.world.time_file, environment)
        self.handlers.append(handler)
        while not handler.ready:
            for _ in handler.read():
                raise AssertionError("an answer before the first question")
        self.world.counts["cold"] += 1
        return handler

    def _end(self, handler: Handler) -> None:
        self.handlers.remove(handler)
        said = handler.kill()
        self.wires.pop(handler.number).stop()
        self.checks.holds(rules.nothing_secret, "the standard error", said, self.world.secrets)

    def _until(self, end: float) -> None:
        """Play until this time."""
        while True:
            if not self.keeper.quiet(self._asleep, self._heard):
                self._listen()
                continue
            if self._settle() or self.keeper.next_turn():
                continue
            due = min(self._next(), end)
            if due > self.keeper.now():
                self._advance(due)
            if due >= end:
                return
            for number, (call, run) in self.traffic.running.items():
                if self.keeper.now() >= run.began + SECONDS:
                    why = f"{call.run_id} is still running after {SECONDS} s"
                    self.checks.violated(Violation("deadline", why, call.run_id))
                    self.traffic.to_kill.append(number)  # as Lambda does
            while self.events and self.events[0][0] <= self.keeper.now():
                heapq.heappop(self.events)[2]()

    def _processes(self) -> list[Process]:
        """Return the processes that may be active."""
        running = self.traffic.running
        return [
            *(h for h in self.handlers if h.number in running or h.sleepers or not h.acknowledged),
            *self.others,
        ]

    def _asleep(self) -> bool:
        """Whether all threads that matter are asleep. With bots, those include all threads of the harness."""
        processes = self._processes()
        if not all(process.acknowledged and asleep(process.pid) for process in processes):
            return False
        if self.others:
            return asleep(os.getpid())
        return all(asleep(os.getpid(), list(self.wires[each.number].threads)) for each in processes)

    def _heard(self) -> bool:
        return any(process.hears() for process in self._processes())

    def _listen(self) -> None:
        for process in self._processes():
            while process.hears():
                self.said += [(process.number, item) for item in process.read()]

    def _settle(self) -> bool:
        """Handle the messages of processes, then kill those that must end, then deliver the work queue.

        Return whether there was anything to do.
        """
        said, self.said = sorted(self.said, key=lambda each: (each[0], each[1].get("account", ""))), []
        killed, self.traffic.to_kill = sorted(self.traffic.to_kill), []
        for number, item in said:
            self._take_in(number, item)
        for number in killed:
            self._kill(number)
        delivered = self._deliver()
        return bool(said or killed or delivered)

    def _take_in(self, number: int, done: dict[str, Any]) -> None:
        """Handle the end of an invocation. `done` is what the process has reported."""
        call, run = self.traffic.running.pop(number)
        self.traffic.kill_at.pop(number, None)
        run.raised, run.output = done["raised"], done["output"]
        self.tell(f"{run.name} ends: {run.raised or _brief(done['report'])}")
        failed = bool(run.raised) or bool((done["report"] or {}).get("batchItemFailures"))
        for line in run.output.splitlines():
            if "RECORD_UNAVAILABLE" in line or "lost" in line:
                with contextlib.suppress(ValueError, KeyError):
                    run.undone.add(json.loads(line)["accountId"])
        if "could not be written" in run.output or "could not be written" in run.raised:
            run.undone.update(ask.account for ask in run.asks)
        self._ended(call, run, failed)

    def _kill(self, number: int) -> None:
        [handler] = [h for h in self.handlers if h.number == number]
        call, run = self.traffic.running.pop(number)
        run.killed = True
        self.traffic.kill_at.pop(number, None)
        self._end(handler)
        self.tell(f"{run.name} is killed at its {run.calls}th request")
        self.world.counts["killed"] += 1
        self._ended(call, run, failed=True)

    def _next(self) -> float:
        """Return the next time at which something is due."""
        now = self.keeper.now()
        # A thread that was woken and still counts as asleep is about to continue.
        wakes = [u for each in self._processes() for u in each.sleepers.values() if u > now]
        ends = [run.began + SECONDS for _, run in self.traffic.running.values()]
        events = [self.events[0][0]] if self.events else []
        return min([*wakes, *ends, *events, self.keeper.next_release()])

    def drain(self) -> None:
        """Play until all runs in progress have ended."""
        while self.traffic.running:
            self._until(self.keeper.now() + 10)

    def _advance(self, due: float) -> None:
        self.keeper.advance(due)
        for process in self._processes():
            if any(until <= due for until in process.sleepers.values()):
                process.wake()

    def _ended(self, call: Call, run: Run, failed: bool) -> None:
        now = run.ended = self.keeper.now()
        self.checks.holds(rules.nothing_secret, f"what {run.name} printed", run.output, self.world.secrets)
        self.checks.holds(rules.nothing_secret, f"what {run.name} raised", run.raised, self.world.secrets)
        self.checks.holds(rules.asked_too_often, run)
        self.checks.holds(rules.near_its_limit, run, GROUPS)
        self.checks.check()
        if not failed or call.trigger == "manual":
            return
        most = 2
        if call.attempt < most:
            wait = RETRY_AFTER[min(call.attempt, 1)]
            again = Call(
                call.handler, call.event, call.run_id, call.trigger, call.attempt + 1, call.since, call.forced
            )
            self.at(now + wait, lambda: self.send(again))
        else:
            self.world.counts["dead letters"] += 1

    def _deliver(self) -> bool:
        """Pass the messages of the work queue to processes, as Lambda's event source does."""
        if self.world.parameters["ShardCount"] == "1":
            return False
        queues = get_backend("sqs")[DEFAULT_ACCOUNT_ID][REGION].queues
        url = self.world.aws.resources["WorkQueue"]
        queue = queues[url.rpartition("/")[2]]
        messages, queue._messages = list(queue._messages), []
        for message in messages:
            body = json.loads(message.body)
            record = {
                "messageId": message.id, "receiptHandle": "none", "body": message.body,
                "attributes": {"SentTimestamp": str(int(self.keeper.now() * 1000))},
            }  # fmt: skip
            self.send(Call("shard_handler", {"Records": [record]}, body["run_id"], body["trigger"]))
        return bool(messages)


def _brief(report: dict[str, Any] | None) -> str:
    return ", ".join(
        f"{n} {v}" for n, v in (report or {}).items() if isinstance(v, int) and v and n != "durationMs"
    )
