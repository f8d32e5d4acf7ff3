"""A day: rules fire, Lambda retries, people interfere, everything breaks; what has to hold is checked."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID

from chaos import rules
from chaos.accounts import ACCOUNTS, BY_KEY, GROUPS, Account, api_key_of
from chaos.handler import Handler, Process
from chaos.partial import PARTIAL
from chaos.plan import HOUR, MINUTE, Plan
from chaos.rules import Ask, Run, Violation
from chaos.timekeeper import SharedTime, Timekeeper
from chaos.wire import Last, Request, Upstream, Wire, answer, aws_error
from local.aws.stack import REGION, LocalAws
from local.binance.exchange import PATHS, REAL_ANSWERS, Exchange
from local.binance.limits import WEIGHT_LIMITS
from local.world import World

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
SECONDS = 300.0  # that Lambda gives a run
HANGS = 5.0  # seconds until a client gives up: then the connection ends here
WEIGHT = 24  # a minute for futures: few enough to matter for two dozen accounts
MOST_PROCESSES = 6
COLD = 0.12  # of runs
KILLED = 0.04
RETRY_AFTER = (60.0, 120.0)
TICK = {"source": "aws.events", "detail-type": "Scheduled Event"}
SWEEP = {"overdueOnly": True}
NEVER = "9999-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Call:
    """An event on its way to a handler."""

    handler: str
    event: Any
    run_id: str
    trigger: str
    attempt: int = 0
    since: float = 0.0
    forced: bool = False
    seconds: float = SECONDS


class Day:
    """A world with its day. `tell` gets each line of the story."""

    def __init__(
        self, seed: str, hours: float, folder: Path, plan: Plan | None = None, **parameters: str
    ) -> None:
        self.seed, self.hours = seed, hours
        rng = random.Random(f"{seed}/world")
        self.parameters = {
            "MaxWeightPerMinute": str(WEIGHT),
            "LedgerMode": rng.choice(["all", "changes"]),
            "ShardCount": rng.choice(["1", "1", "2"]),
            "MaxConcurrency": "8",
            **parameters,
        }
        self.plan = plan or Plan(seed, START, hours)
        self.rng = random.Random(f"{seed}/events")
        self.shared = SharedTime.create(folder / "time", START)
        self.time_file = folder / "time"
        self.keeper = Timekeeper(self.shared)
        self.exchange = Exchange(now=self.keeper.now, seed=rng.randrange(10**9))
        self.exchange_lock = threading.Lock()
        self.stack = contextlib.ExitStack()
        self.aws = self.stack.enter_context(LocalAws(self.parameters))
        self.world = World(binance_url="", aws=self.aws)
        self.story: list[tuple[float, str]] = []
        self.handlers: list[Handler] = []
        self.others: list[Process] = []  # processes that live by this time, too
        self.wires: dict[int, Wire] = {}
        self.running: dict[int, tuple[Call, Run]] = {}
        self.to_kill: dict[int, threading.Event] = {}
        self.kill_at: dict[int, tuple[int, bool]] = {}
        self.runs: list[Run] = []
        self.asks: dict[str, list[Ask]] = defaultdict(list)
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.died: dict[str, float] = {}
        self.ends: dict[str, float] = {}
        self.secrets = {*BY_KEY}
        self.counts: Counter[str] = Counter()
        self.copies = 0
        self.violations: list[Violation] = []
        self.tick_every = 30 * MINUTE
        url = self.aws.dynamodb_url or self.aws.endpoint_url
        self.upstream = {"DynamoDB": Upstream(url), "": Upstream(self.aws.endpoint_url)}
        cap = int(self.parameters["MaxWeightPerMinute"])
        self.caps = {
            g: max(1, int(limit * cap / WEIGHT_LIMITS["futures"])) for g, limit in WEIGHT_LIMITS.items()
        }
        self.aws.reset()
        self._populate()

    # The world

    def _populate(self) -> None:
        shared = {a.name: api_key_of(a.name) for a in ACCOUNTS if a.name.startswith("shared")}
        self.world.put_secret("listenkeys/shared", shared)
        for account in ACCOUNTS:
            key = api_key_of(account.name)
            if account.name != "refused":
                self.exchange.add_account(key)
            row: dict[str, Any] = {"product": account.product}
            if account.name in shared:
                row |= {"secretId": "listenkeys/shared", "secretField": account.name}
            else:
                self.world.put_secret(f"listenkeys/{account.name}", {"apiKey": key})
            if not account.creates:
                row["createIfMissing"] = False
            if account.name == "malformed":
                row["product"] = "spot"
            self.world.put_row(account.name, **row)
            if not account.creates:
                self._bot_makes(account)
        self.world.put_row("disabled", enabled=False)

    def _bot_makes(self, account: Account) -> None:
        """Do what a bot does whose key the keeper may not make."""
        with self.exchange_lock:
            key = api_key_of(account.name)
            answer = self.exchange.handle("POST", PATHS[account.product], {"X-MBX-APIKEY": key})
            # It is the bot's own request, from an address of its own.
            self.exchange._usage[account.group].weight[int(self.keeper.now() // 60)] -= 1
            self._lives(account)
        self.secrets.add(json.loads(answer.body)["listenKey"])

    def _lives(self, account: Account) -> None:
        ends = self.exchange.expires_at(api_key_of(account.name), account.product)
        if ends is not None:
            self.ends[account.name] = ends
            self.died.pop(account.name, None)

    def tell(self, text: str) -> None:
        """Add to the story."""
        self.story.append((self.keeper.now(), text))

    # What happens to requests; in the servers' threads

    def respond(self, number: int, request: Request) -> bytes | None:
        """Answer a request of a process."""
        now = self.keeper.now()
        if number not in self.running:
            return None
        _, run = self.running[number]
        run.calls += 1
        call, after = self.kill_at.get(number, (0, False))
        if call == run.calls and not after:
            return self._wait_for_the_end(number)
        if operation := request.operation:
            found = self._aws(now, run, request, operation)
        else:
            found = self._binance(now, run, request)
        if call == run.calls:
            return self._wait_for_the_end(number)
        return found

    def _wait_for_the_end(self, number: int) -> bytes | None:
        killed = threading.Event()
        self.to_kill[number] = killed
        killed.wait()
        return None

    def _aws(self, now: float, run: Run, request: Request, operation: str) -> bytes | None:
        service = operation.split(".")[0]
        weighing = operation == "DynamoDB.UpdateItem" and b'"#weight:' in request.body
        fate = self.plan.aws(now, run.id, str(run.calls), operation)
        if fate and not (fate == "partial" and not PARTIAL.get(operation)):
            self.tell(f"{run.id}: {operation}: {fate}")
        if weighing and fate not in ("", "lost", "partial") and run.alone_since is None:
            run.alone_since = now
        if fate in ("hang", "refused"):
            self.keeper.hold(HANGS if fate == "hang" else 0)
            return None
        if fate == "throttle":
            name = (
                "ProvisionedThroughputExceededException" if service == "DynamoDB" else "ThrottlingException"
            )
            return aws_error(name)
        if fate == "500":
            return aws_error("InternalServerError" if service == "DynamoDB" else "InternalServiceError", 500)
        upstream = self.upstream.get(service, self.upstream[""])
        partial = PARTIAL.get(operation) if fate == "partial" else None
        rng = random.Random(f"{self.seed}/{run.id}/{run.calls}")
        found = partial(rng, request, upstream) if partial else upstream.ask(request)
        if fate in ("lost", "hang after"):
            self.keeper.hold(HANGS if fate == "hang after" else 0)
            return None
        return found if isinstance(found, bytes) else answer(*found)

    def _binance(self, now: float, run: Run, request: Request) -> bytes | None:
        key = request.headers.get("x-mbx-apikey", "")
        account = BY_KEY.get(key)
        if account is None:
            raise AssertionError("an API key that nobody has")
        nth = sum(ask.account == account.name for ask in run.asks)
        fate = self.plan.binance(now, f"{run.id}/{account.name}/{nth}", account.group)
        latency = random.Random(f"{self.seed}/{run.id}/{account.name}/{nth}").uniform(0.02, 0.4)
        how, _, after = fate.partition(" ")
        with self.exchange_lock:
            now = self.keeper.now()
            fault: dict[str, Any] | None = None
            if how in ("5xx", "429", "418", "403", "451"):
                fault = {"answer": _ANSWERS[how]}
                if how in ("429", "418"):
                    outage = self.plan.outage(now)
                    left = max(
                        1, int(min((outage.end if outage else now) - now, 60 if how == "429" else 1e9))
                    )
                    fault["headers"] = {"Retry-After": str(left)}
            elif how in ("hang", "reset"):
                fault = {"kind": how, "effect": bool(after)}
            elif how == "truncate":
                fault = {"kind": "truncate", "effect": True}
            if fault:
                if after and "answer" in fault:
                    fault["kind"] = "after"
                self.exchange.fault(api_key=key, times=1, **fault)
            if how == "near":
                usage = self.exchange._usage[account.group]
                usage.spend(now)
                used = usage.weight[int(now // 60)]
                usage.weight[int(now // 60)] = used - 1
            real = self.exchange.handle(request.method, request.path, request.headers)
            effect = (real.status == 200 and not fault) or bool(after) or how == "truncate"
            ends = self.exchange.expires_at(key, account.product)
            if effect and ends is not None and ends > now:
                self._lives(account)
            body = real.body
            if b'"listenKey"' in body:
                with contextlib.suppress(ValueError):
                    self.secrets.add(json.loads(body)["listenKey"])
            named = b'"listenKey"' in body
            clean = real.status == 200 and not fault and named
            ask = Ask(now, account.name, request.method, fate, real.status, clean, effect)
            run.asks.append(ask)
            self.asks[account.name].append(ask)
        self.counts["requests"] += 1
        if fate or real.status != 200:
            self.tell(f"{run.id}: {request.method} for {account.name}: {fate or real.status}")
        self.keeper.hold(HANGS if how == "hang" else latency)
        ask.delivered = self.keeper.now()
        if how in ("hang", "reset"):
            return None
        headers = dict(real.headers)
        if how == "near":
            headers["X-MBX-USED-WEIGHT-1M"] = str(int(WEIGHT_LIMITS[account.group] * 0.96))
        if how == "truncate":
            return Last(answer(real.status, headers, body)[: -len(body) // 2])
        return answer(real.status, headers, body)

    # The day

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self.events, (when, next(self.numbers), act))

    def play(self) -> None:
        """Play the day and check it: `violations` are what came of it."""
        try:
            self._schedule()
            self._until(self.plan.quiet_from)
            self._until(self.plan.quiet_from + 45 * MINUTE)
            self.drain()
            self._check_at_the_end()
        finally:
            self.close()

    def close(self) -> None:
        """End every process and server."""
        for handler in list(self.handlers):
            self._end(handler)
        self.keeper.release_all()
        for wire in self.wires.values():
            wire.stop()
        self.stack.close()

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
        for outage in self.plan.outages:
            self.at(outage.start, lambda o=outage: self.tell(f"OUTAGE {o.kind} for {o.end - o.start:.0f} s"))  # type: ignore[misc]
            self.at(outage.end, lambda o=outage: self.tell(f"OVER: {o.kind}"))  # type: ignore[misc]

    def _rule(self, at: float, event: Any, run_id: str, trigger: str) -> None:
        self.at(at, lambda: self.send(Call("lambda_handler", event, run_id, trigger)))
        twice = self.plan.chance(f"twice/{run_id}", 0.08, at)
        if twice:
            # EventBridge delivers an event twice: another request id. Lambda runs one twice: the same.
            again = run_id if self.rng.random() < 0.5 else f"{run_id}-twice"
            later = at + self.rng.choice([0.0, self.rng.uniform(0, 20)])
            self.at(later, lambda: self.send(Call("lambda_handler", event, again, trigger)))

    def _dies_early(self, account: Account, rotated: bool) -> None:
        now, key = self.keeper.now(), api_key_of(account.name)
        if self.plan.calm(now) or (rotated and not account.creates):
            return
        if rotated:
            self.tell(f"somebody else makes another key for {account.name}")
            with self.exchange_lock:
                self.secrets.add(self.exchange.rotate(key, account.product))
                self._lives(account)
            self.died[account.name] = now  # what was recorded before is not true any more
            return
        self.tell(f"the key of {account.name} dies early")
        with self.exchange_lock:
            self.exchange.expire(key, account.product)
        self.died[account.name] = self.ends[account.name] = now
        if not account.creates:
            self.at(now + 20 * MINUTE, lambda: self._bot_makes(account))

    def send(self, call: Call) -> None:
        """Run an event now, in a process that is warm or in a new one."""
        now, number = self.keeper.now(), len(self.runs)
        cold = self.plan.chance(f"cold/{number}", COLD, now)
        idle = [handler for handler in self.handlers if handler.number not in self.running]
        if cold and len(idle) > 1:
            self._end(idle.pop(0))
        handler = idle[-1] if idle and not cold else self._start()
        run = Run(call.run_id, number, call.trigger, now, call.forced)
        run.fresh = {
            name: instant
            for name, record in self.current().items()
            if record.get("outcome") in rules.SUCCESSES
            and now - (instant := rules.instant(record["renewedAt"])) < rules.FRESH
        }
        self.runs.append(run)
        if self.plan.chance(f"kill/{number}", KILLED, now):
            rng = random.Random(f"{self.seed}/kill/{number}")
            self.kill_at[handler.number] = rng.randint(1, 30), rng.random() < 0.5
        self.running[handler.number] = call, run
        self.counts[call.trigger] += 1
        self.tell(f"{call.run_id} begins ({call.handler}, try {call.attempt + 1})")
        handler.invoke(call.handler, call.event, call.run_id, call.seconds)

    def _start(self) -> Handler:
        if len(self.handlers) >= MOST_PROCESSES:
            for handler in self.handlers:
                if handler.number not in self.running:
                    self._end(handler)
                    break
        number = next(self.numbers)
        wire = self.wires[number] = Wire(self.keeper, lambda request: self.respond(number, request))
        environment = {
            **self.world.environment(), "BINANCE_BASE_URL": wire.url, "AWS_ENDPOINT_URL": wire.url,
            "AWS_ENDPOINT_URL_DYNAMODB": wire.url,
        }  # fmt: skip
        handler = Handler(number, self.time_file, environment)
        self.handlers.append(handler)
        while not handler.ready:
            for _ in handler.read():
                raise AssertionError("an answer before the first question")
        self.counts["cold"] += 1
        return handler

    def _end(self, handler: Handler) -> None:
        self.handlers.remove(handler)
        said = handler.kill()
        self.wires.pop(handler.number).stop()
        self._holds(rules.nothing_secret, "the standard error", said, self.secrets)

    def _until(self, end: float) -> None:
        """Go on until this time."""
        while True:
            self._listen()
            pids = [h.pid for h in self.handlers if h.number in self.running] + [o.pid for o in self.others]
            if pids and not self.keeper.quiet(pids, self._heard):
                continue
            due = min(self._next(), end)
            if due > self.keeper.now():
                self._advance(due)
            if due >= end:
                return
            for number, (call, run) in self.running.items():
                if self.keeper.now() >= run.began + SECONDS:
                    why = f"{call.run_id} is still running after {SECONDS} s"
                    self._violated(Violation("deadline", why, call.run_id))
                    self.to_kill[number] = threading.Event()  # as Lambda does
            while self.events and self.events[0][0] <= self.keeper.now():
                heapq.heappop(self.events)[2]()

    def _next(self) -> float:
        """Return the next moment that anybody waits for."""
        now = self.keeper.now()
        # Who has been woken and still sleeps is about to go on.
        wakes = [u for each in [*self.handlers, *self.others] for u in each.sleepers.values() if u > now]
        ends = [run.began + SECONDS for _, run in self.running.values()]
        events = [self.events[0][0]] if self.events else []
        return min([*wakes, *ends, *events, self.keeper.next_release()])

    def drain(self) -> None:
        """Let the runs that are under way end."""
        while self.running:
            self._until(self.keeper.now() + 10)

    def _advance(self, due: float) -> None:
        self.keeper.advance(due)
        for process in [*self.handlers, *self.others]:
            if any(until <= due for until in process.sleepers.values()):
                process.wake()

    def _heard(self) -> bool:
        processes = [*self.handlers, *self.others]
        return bool(self.to_kill) or any(not each.acknowledged or each.hears() for each in processes)

    def _listen(self) -> None:
        for number, killed in list(self.to_kill.items()):
            del self.to_kill[number]
            [handler] = [h for h in self.handlers if h.number == number]
            call, run = self.running.pop(number)
            run.killed = True
            self.kill_at.pop(number, None)
            self._end(handler)
            killed.set()
            self.tell(f"{run.id} is killed at its {run.calls}th request")
            self.counts["killed"] += 1
            self._ended(call, run, failed=True)
        for handler in list(self.handlers):
            while handler.hears():
                for done in handler.read():
                    call, run = self.running.pop(handler.number)
                    self.kill_at.pop(handler.number, None)
                    run.raised, run.output = done["raised"], done["output"]
                    self.tell(f"{run.id} ends: {run.raised or _brief(done['report'])}")
                    failed = bool(run.raised) or bool((done["report"] or {}).get("batchItemFailures"))
                    for line in run.output.splitlines():
                        if "RECORD_UNAVAILABLE" in line or "lost" in line:
                            with contextlib.suppress(ValueError, KeyError):
                                run.undone.add(json.loads(line)["accountId"])
                    if "could not be written" in run.output or "could not be written" in run.raised:
                        run.undone.update(ask.account for ask in run.asks)
                    self._ended(call, run, failed)
        self._deliver()

    def _ended(self, call: Call, run: Run, failed: bool) -> None:
        now = run.ended = self.keeper.now()
        self._holds(rules.nothing_secret, f"what {run.id} printed", run.output, self.secrets)
        self._holds(rules.nothing_secret, f"what {run.id} raised", run.raised, self.secrets)
        self._holds(rules.asked_too_often, run)
        self._holds(rules.near_its_limit, run, GROUPS)
        self._check()
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
            self.counts["dead letters"] += 1

    def _deliver(self) -> None:
        """Hand the messages of the work queue to processes, as Lambda's event source does."""
        if self.parameters["ShardCount"] == "1":
            return
        queues = get_backend("sqs")[DEFAULT_ACCOUNT_ID][REGION].queues
        url = self.aws.resources["WorkQueue"]
        queue = queues[url.rpartition("/")[2]]
        messages, queue._messages = list(queue._messages), []
        for message in messages:
            body = json.loads(message.body)
            record = {
                "messageId": message.id, "receiptHandle": "none", "body": message.body,
                "attributes": {"SentTimestamp": str(int(self.keeper.now() * 1000))},
            }  # fmt: skip
            self.send(Call("shard_handler", {"Records": [record]}, body["run_id"], body["trigger"]))

    # What has to hold

    def _holds(self, rule: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return rule(*arguments)
        except Violation as violation:
            self._violated(violation)
            return None

    def _violated(self, violation: Violation) -> None:
        """Note it with its story; what follows from one is not told again and again."""
        known = {(each.rule, each.about) for each in self.violations}
        if (violation.rule, violation.about) not in known:
            self.tell(f"VIOLATION of {violation}")
            violation.story = list(self.story_of(violation.about))
            self.violations.append(violation)

    def current(self) -> dict[str, dict[str, Any]]:
        """Return all current records, as they stand in the table."""
        table = self.aws.outputs["ListenKeysTableName"]
        keys = [{"accountId": {"S": a.name}, "record": {"S": "CURRENT"}} for a in ACCOUNTS]
        found = self.aws.client("dynamodb").batch_get_item(
            RequestItems={table: {"Keys": keys, "ConsistentRead": True}}
        )
        items = [_plain_item(item) for item in found["Responses"][table]]
        return {item["accountId"]: item for item in items}

    def entries(self) -> dict[str, list[dict[str, Any]]]:
        """Return the whole ledger, by account."""
        table = self.aws.outputs["LedgerTableName"]
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for page in self.aws.client("dynamodb").get_paginator("scan").paginate(TableName=table):
            for item in map(_plain_item, page["Items"]):
                if item["record"] != "CURRENT" and not item["accountId"].startswith("#"):
                    found[item["accountId"]].append(item)
        for own in found.values():
            own.sort(key=lambda entry: entry["record"])
        return found

    def _check(self) -> None:
        """Check what has to hold whenever a run has ended."""
        now, current = self.keeper.now(), self.current()
        with self.exchange_lock:
            ends, died = dict(self.ends), dict(self.died)
            recent = int(now // 60) - 10
            weights = {
                group: {minute: w for minute, w in self.exchange.weight(group).items() if minute >= recent}
                for group in self.caps
            }
            live = {a.name: self.exchange.live_key(api_key_of(a.name), a.product) for a in ACCOUNTS}
        self._holds(rules.within_the_cap, weights, self.caps, self.runs[-100:], GROUPS)
        for account in (account for account in ACCOUNTS if account.promised):
            name, record = account.name, current.get(account.name, {})
            self._holds(rules.true_record, name, record, ends.get(name), died.get(name))
            if name in ends and (account.creates or name not in died):
                self._holds(rules.alive, name, ends[name], now, died.get(name), 0.0)
            if self.running:
                continue
            # What a run did that was killed or could not record it, nobody knows.
            asks = [(ask, run.killed or name in run.undone) for run in self.runs[-60:] for ask in run.asks]
            asks = [(ask, unknown) for ask, unknown in asks if ask.account == name]
            self._holds(rules.newest_record, name, record, [ask for ask, unknown in asks if not unknown])
            last, unknown = max(
                (each for each in asks if each[0].effect), key=lambda each: each[0].at, default=(None, True)
            )
            known = record.get("outcome") in rules.SUCCESSES and record.get("listenKey") == live[name]
            true_once = name in died and rules.instant(record.get("renewedAt", NEVER)) <= died[name]
            sure = last is not None and last.clean and not unknown
            if record.get("outcome") in rules.SUCCESSES and not known and not true_once and sure:
                why = f"{name}: the recorded key is not the live one"
                self._violated(Violation("another key", why, name))

    def _check_at_the_end(self) -> None:
        """Check what has to hold of a whole day, whose last hour was quiet."""
        self._check()
        current, entries = self.current(), self.entries()
        now = self.keeper.now()
        for account in ACCOUNTS:
            record = current.get(account.name, {})
            if account.promised:
                if record.get("outcome") not in rules.SUCCESSES or record["consecutiveFailures"]:
                    self._violated(
                        Violation("stuck", f"{account.name} is {record.get('outcome')}", account.name)
                    )
                if now - rules.instant(record["renewedAt"]) > 37 * MINUTE:
                    self._violated(
                        Violation("stuck", f"{account.name} was renewed {record['renewedAt']}", account.name)
                    )
            if record.get("unannounced"):
                self._violated(Violation("stuck", f"{account.name} has something to announce", account.name))
        events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self.aws.sent_events():
            self._holds(rules.nothing_secret, "an event", json.dumps(event), self.secrets)
            if event["detail-type"] in ("Listen Key Changed", "Listen Key Failing", "Listen Key Recovered"):
                told = {"detail-type": event["detail-type"], "detail": event["detail"]}
                events[event["detail"]["accountId"]].append(told)
                self.counts[event["detail-type"]] += 1
        for account in ACCOUNTS:
            failing = bool(current.get(account.name, {}).get("consecutiveFailures"))
            own, entered = events[account.name], entries[account.name]
            self.copies += self._holds(rules.announced, account.name, own, entered, failing) or 0
        self._holds(rules.in_the_ledger, self.runs, entries, self.parameters["LedgerMode"] == "changes")
        for name, own in entries.items():
            self._holds(rules.nothing_secret, f"the ledger of {name}", json.dumps(own), self.secrets)

    def story_of(self, about: tuple[str, ...], most: int = 60) -> Iterator[str]:
        """Yield the last lines that a violation is about."""
        accounts = {account.name for account in ACCOUNTS}
        named = [word for word in about if word in accounts]
        lines = [
            (at, line)
            for at, line in self.story
            if not named or any(name in line for name in named) or not any(name in line for name in accounts)
        ]
        for at, line in lines[-most:]:
            yield f"  {datetime.fromtimestamp(at, UTC):%d %H:%M:%S.%f}"[:-3] + f"  {line}"


def _brief(report: dict[str, Any] | None) -> str:
    return ", ".join(
        f"{n} {v}" for n, v in (report or {}).items() if isinstance(v, int) and v and n != "durationMs"
    )


def _plain_item(item: dict[str, Any]) -> dict[str, Any]:
    def plain(value: dict[str, Any]) -> Any:
        kind, content = next(iter(value.items()))
        if kind == "N":
            return int(content)
        return [plain(entry) for entry in content] if kind == "L" else content

    return {name: plain(value) for name, value in item.items()}


_ANSWERS = {
    "5xx": REAL_ANSWERS["internal_error"],
    "429": REAL_ANSWERS["rate_limited"],
    "418": REAL_ANSWERS["ip_banned"],
    "403": REAL_ANSWERS["waf_blocked"],
    "451": REAL_ANSWERS["restricted_location"],
}
