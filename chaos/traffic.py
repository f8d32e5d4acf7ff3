"""Answers the requests of runs as the plan decides, in the servers' threads, and records them in the runs."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import dataclass
from typing import Any

from chaos.accounts import BY_KEY
from chaos.partial import PARTIAL
from chaos.rules import Ask, Run
from chaos.wire import Last, Request, answer, aws_error
from chaos.world import ChaosWorld
from local.binance.exchange import REAL_ANSWERS
from local.binance.limits import WEIGHT_LIMITS

SECONDS = 300.0  # the timeout that Lambda gives a run
HANGS = 5.0  # seconds after which a hanging connection is closed, because its client has given up
_ANSWERS = {
    "5xx": REAL_ANSWERS["internal_error"],
    "429": REAL_ANSWERS["rate_limited"],
    "418": REAL_ANSWERS["ip_banned"],
    "403": REAL_ANSWERS["waf_blocked"],
    "451": REAL_ANSWERS["restricted_location"],
}


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


class Traffic:
    """Answers the requests of runs.

    `running` has the run of each process, by the number of the process. `kill_at` says at which of its
    requests a process is killed, and whether after the request has taken effect. The processes in `to_kill`
    have reached that point.
    """

    def __init__(self, world: ChaosWorld) -> None:
        self.world = world
        self.running: dict[int, tuple[Call, Run]] = {}
        self.to_kill: list[int] = []
        self.kill_at: dict[int, tuple[int, bool]] = {}

    def respond(self, number: int, request: Request) -> bytes | None:
        """Return the answer to a request of a process, or None if the connection breaks instead."""
        now = self.world.keeper.now()
        if number not in self.running:
            return None
        _, run = self.running[number]
        run.calls += 1
        nth = run.calls
        call, after = self.kill_at.get(number, (0, False))
        if call == nth and not after:
            self._wait_for_the_end(number)
            return None
        if operation := request.operation:
            found = self._aws(now, run, request, operation)
        else:
            found = self._binance(now, run, request)
        if call == nth:
            self._wait_for_the_end(number)
            return None
        return found

    def _wait_for_the_end(self, number: int) -> None:
        """Ask for the process to be killed, and block this thread until the end of the day."""
        self.to_kill.append(number)
        self.world.keeper.hold(float("inf"))

    def _aws(self, now: float, run: Run, request: Request, operation: str) -> bytes | None:
        service = operation.split(".")[0]
        weighing = operation == "DynamoDB.UpdateItem" and b'"#weight:' in request.body
        fate = self.world.plan.aws(now, run.name, str(run.calls), operation)
        if fate and not (fate == "partial" and not PARTIAL.get(operation)):
            self.world.tell(f"{run.name}: {operation}: {fate}")
        if weighing and fate not in ("", "lost", "partial") and run.alone_since is None:
            run.alone_since = now
        if fate in ("hang", "refused"):
            self.world.keeper.hold(HANGS if fate == "hang" else 0)
            return None
        if fate == "throttle":
            name = (
                "ProvisionedThroughputExceededException" if service == "DynamoDB" else "ThrottlingException"
            )
            return aws_error(name)
        if fate == "500":
            return aws_error("InternalServerError" if service == "DynamoDB" else "InternalServiceError", 500)
        upstream = self.world.upstream.get(service, self.world.upstream[""])
        partial = PARTIAL.get(operation) if fate == "partial" else None
        if service == "DynamoDB" and not operation.endswith(("Scan", "GetItem", "Query")):
            self.world.written()
        if partial and service == "secretsmanager":
            self.world.counts["partial secrets"] += 1
        rng = random.Random(f"{self.world.seed}/{run.name}/{run.calls}")
        found = partial(rng, request, upstream) if partial else upstream.ask(request)
        if fate in ("lost", "hang after"):
            self.world.keeper.hold(HANGS if fate == "hang after" else 0)
            return None
        return found if isinstance(found, bytes) else answer(*found)

    def _binance(self, now: float, run: Run, request: Request) -> bytes | None:
        key = request.headers.get("x-mbx-apikey", "")
        account = BY_KEY.get(key)
        if account is None:
            raise AssertionError("an API key that nobody has")
        nth = sum(ask.account == account.name for ask in run.asks)
        fate = self.world.plan.binance(now, f"{run.name}/{account.name}/{nth}", account.group)
        latency = random.Random(f"{self.world.seed}/{run.name}/{account.name}/{nth}").uniform(0.02, 0.4)
        how, _, after = fate.partition(" ")
        now = self.world.keeper.now()
        fault: dict[str, Any] | None = None
        if how in ("5xx", "429", "418", "403", "451"):
            fault = {"answer": _ANSWERS[how]}
            if how in ("429", "418"):
                outage = self.world.plan.outage(now)
                left = max(1, int(min((outage.end if outage else now) - now, 60 if how == "429" else 1e9)))
                fault["headers"] = {"Retry-After": str(left)}
        elif how in ("hang", "reset"):
            fault = {"kind": how, "effect": bool(after)}
        elif how == "truncate":
            fault = {"kind": "truncate", "effect": True}
        if fault:
            if after and "answer" in fault:
                fault["kind"] = "after"
            self.world.exchange.fault(api_key=key, times=1, **fault)
        if how == "near":
            usage = self.world.exchange._usage[account.group]
            usage.spend(now)
            used = usage.weight[int(now // 60)]
            usage.weight[int(now // 60)] = used - 1
        real = self.world.exchange.handle(request.method, request.path, request.headers)
        effect = (real.status == 200 and not fault) or bool(after) or how == "truncate"
        ends = self.world.exchange.expires_at(key, account.product)
        if effect and ends is not None and ends > now:
            self.world.lives(account)
        body = real.body
        if b'"listenKey"' in body:
            with contextlib.suppress(ValueError):
                self.world.secrets.add(json.loads(body)["listenKey"])
        named = b'"listenKey"' in body
        clean = real.status == 200 and not fault and named
        ask = Ask(now, account.name, request.method, fate, real.status, clean, effect)
        run.asks.append(ask)
        self.world.counts["requests"] += 1
        self.world.counts["answers 451"] += how == "451"
        self.world.counts["keys left missing (createIfMissing=false)"] += (
            real.status == 400 and not account.creates
        )
        if fate or real.status != 200:
            self.world.tell(f"{run.name}: {request.method} for {account.name}: {fate or real.status}")
        self.world.keeper.hold(HANGS if how == "hang" else latency)
        ask.delivered = self.world.keeper.now()
        if how in ("hang", "reset"):
            return None
        headers = dict(real.headers)
        if how == "near":
            headers["X-MBX-USED-WEIGHT-1M"] = str(int(WEIGHT_LIMITS[account.group] * 0.96))
        if how == "truncate":
            return Last(answer(real.status, headers, body)[: -len(body) // 2])
        return answer(real.status, headers, body)
