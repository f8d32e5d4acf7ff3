"""AWS refusing, losing or half doing what it is asked, by the events of botocore.

moto never throttles, never leaves anything unprocessed and never fails. An answer made here takes the
place of AWS's on the wire, so that botocore parses it, counts it and retries it as it would the real one.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.awsrequest import AWSResponse

from local.clock import VirtualClock
from local.invoke import LocalFunction

Body = dict[str, Any]
# As each service writes it on the wire.
_NAMESPACE = {"dynamodb": "com.amazonaws.dynamodb.v20120810#"}
SDK_ATTEMPTS = 3  # of one call: what CLIENT_CONFIG allows botocore


class Raw(io.BytesIO):
    """The body of an AWSResponse."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


@dataclass(eq=False)
class Refusal:
    """A refusal in force; `hits` counts the requests that met it."""

    times: int | None
    until: float | None
    when: Callable[[Body], bool]
    hits: int = 0
    ended: bool = False

    def end(self) -> None:
        self.ended = True

    def meets(self, body: Body, now: float) -> bool:
        used_up = self.times is not None and self.hits >= self.times
        late = self.until is not None and now >= self.until
        return not (self.ended or used_up or late) and self.when(body)


class Refusals:
    """What AWS refuses a function. `requests` counts what was sent, by operation, refused or not."""

    def __init__(self, function: LocalFunction, clock: VirtualClock) -> None:
        keeper = function.app.keeper
        self._clients = {
            "dynamodb": keeper.records.dynamodb,
            "secretsmanager": keeper.credentials.secretsmanager,
            "events": keeper.announcer.events,
        }
        self._clock = clock
        self.requests: Counter[str] = Counter()
        self.bodies: list[tuple[str, Body]] = []
        self.all: list[Refusal] = []
        for client in self._clients.values():
            client.meta.events.register_first("before-send", self._count)

    def refuse(
        self,
        service: str,
        operation: str,
        code: str,
        *,
        status: int = 400,
        times: int | None = None,
        until: float | None = None,
        when: Callable[[Body], bool] = lambda body: True,
        **fields: Any,
    ) -> Refusal:
        """Answer requests of an operation with an error; `until` is epoch seconds of the virtual clock.

        `when` looks at the request, `fields` are further fields of the error.
        """
        text = json.dumps({"__type": _NAMESPACE.get(service, "") + code, "message": "no", **fields})
        return self._register(service, operation, lambda _: (status, text), times, until, when)

    def cancel(
        self, reason: str, when: Callable[[Body], bool] = lambda body: True, times: int | None = None
    ) -> Refusal:
        """Cancel transactions in which items meet `when`, for this reason; the others say "None"."""

        def answer(body: Body) -> tuple[int, str]:
            reasons = [
                {"Code": reason, "Message": "no"} if when(item) else {"Code": "None"}
                for item in body["TransactItems"]
            ]
            error = {
                "__type": _NAMESPACE["dynamodb"] + "TransactionCanceledException",
                "Message": "Transaction cancelled",
                "CancellationReasons": reasons,
            }
            return 400, json.dumps(error)

        def any_item(body: Body) -> bool:
            return any(when(item) for item in body["TransactItems"])

        return self._register("dynamodb", "TransactWriteItems", answer, times, None, any_item)

    def break_off(self, service: str, operation: str, error: BaseException, times: int | None = 1) -> Refusal:
        """Raise in the place of sending: a connection that fails, or a process that dies."""

        def answer(_: Body) -> tuple[int, str]:
            raise error

        return self._register(service, operation, answer, times, None, lambda body: True)

    def half_do(self, service: str, operation: str, change: Callable[[Body], None]) -> None:
        """Change AWS's parsed answers."""

        def changed(parsed: Body, **_: Any) -> None:
            if parsed["ResponseMetadata"]["HTTPStatusCode"] == 200:
                change(parsed)

        self._events(service).register(self._name("after-call", service, operation), changed)

    def ask_for(self, service: str, operation: str, change: Callable[[Body], Body]) -> None:
        """Change what AWS is asked, on its way."""

        def changed(params: Body, **_: Any) -> None:
            params["body"] = json.dumps(change(json.loads(params["body"]))).encode()

        self._events(service).register(self._name("before-call", service, operation), changed)

    def watch(self, service: str, operation: str, look: Callable[[Body], None]) -> None:
        """Call `look` with what AWS is asked, before it is sent or refused."""

        def before_send(request: Any, **_: Any) -> None:
            look(json.loads(request.body))

        self._events(service).register_first(self._name("before-send", service, operation), before_send)

    def _register(
        self,
        service: str,
        operation: str,
        answer: Callable[[Body], tuple[int, str]],
        times: int | None,
        until: float | None,
        when: Callable[[Body], bool],
    ) -> Refusal:
        refusal = Refusal(times, until, when)
        self.all.append(refusal)

        def before_send(request: Any, **_: Any) -> AWSResponse | None:
            body = json.loads(request.body)
            if not refusal.meets(body, self._clock.timestamp()):
                return None
            refusal.hits += 1
            status, text = answer(body)
            headers = {"Content-Type": "application/x-amz-json-1.0"}
            return AWSResponse(request.url, status, headers, Raw(text.encode()))

        self._events(service).register(self._name("before-send", service, operation), before_send)
        return refusal

    def _count(self, request: Any, **_: Any) -> None:
        operation = request.headers["X-Amz-Target"].decode().partition(".")[2]
        self.requests[operation] += 1
        self.bodies.append((operation, json.loads(request.body)))

    def _events(self, service: str) -> Any:
        return self._clients[service].meta.events

    def _name(self, kind: str, service: str, operation: str) -> str:
        return f"{kind}.{self._clients[service].meta.service_model.service_id.hyphenize()}.{operation}"


def asks_for(*names: str) -> Callable[[Body], bool]:
    """Return a condition: a request of Secrets Manager for one of these secrets."""
    return lambda body: not set(names).isdisjoint(body["SecretIdList"])


def of_table(name: str) -> Callable[[Body], bool]:
    """Return a condition: a request of this table alone, by its logical id."""
    return lambda body: any(
        f"-{name}-" in table for table in (body.get("TableName"), *body.get("RequestItems", ())) if table
    )


def is_of(*account_ids: str) -> Callable[[Body], bool]:
    """Return a condition: an item of a transaction that is one of these accounts'."""

    def meets(item: Body) -> bool:
        [action] = item.values()
        return (action.get("Key") or action["Item"])["accountId"]["S"] in account_ids

    return meets
