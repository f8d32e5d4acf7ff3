"""Binance and AWS for the benchmarks: they answer with hardly any work, after a fixed delay.

The stand-in of `local/` is not used here: it is accurate, so the benchmarks would mostly measure its work.
The responders know only successful answers: every account exists and was extended half an hour ago. They
count the calls. Connections use TLS, with a self-signed certificate.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import certifi

from tests.certificates import self_signed

BINANCE_DELAY, AWS_DELAY = 0.020, 0.004
RENEWED = 30  # minutes ago
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_API_KEY = re.compile(rb"\r\nx-mbx-apikey: *([^\r]+)", re.IGNORECASE)
_TARGET = re.compile(rb"\r\nx-amz-target: *[^.\r]+\.(\w+)", re.IGNORECASE)
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-MBX-USED-WEIGHT-1M: 7\r\n"
    b"Content-Length: %d\r\n%s\r\n"
)
Answer = Callable[[bytes, bytes], bytes]


def account_id(number: int) -> str:
    """Return the id of an account."""
    return f"account-{number:07}"


def api_key(account: str) -> str:
    """Return an account's API key, 64 characters as Binance's have."""
    return account.ljust(64, "a")


def listen_key(key: str) -> str:
    """Return the listenKey that belongs to an API key, 64 characters too."""
    return key[::-1]


class Server(asyncio.Protocol):
    """HTTP/1.1, with one request at a time on a connection. With `close`, it is closed after each answer."""

    def __init__(self, answer: Answer, delay: float, close: bool) -> None:
        self.answer = answer
        self.delay = delay
        self.last = b"Connection: close\r\n" if close else b""
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = _CONTENT_LENGTH.search(head)
        if length and len(rest) < int(length[1]):
            return
        self.buffer = b""
        body = self.answer(head, rest)
        response = HEAD % (len(body), self.last) + body
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, self.send, response)
        else:
            self.send(response)

    def send(self, response: bytes) -> None:
        self.transport.write(response)
        if self.last:
            self.transport.close()


class Aws:
    """The calls that the whole cycle and the plain handler make."""

    def __init__(self, accounts: int, counts: Counter[str]) -> None:
        self.counts = counts
        self.rows = [account_id(number) for number in range(accounts)]
        moment = datetime.now(UTC) - timedelta(minutes=RENEWED)
        self.renewed, self.expires = _iso(moment), _iso(moment + timedelta(minutes=60))

    def __call__(self, head: bytes, body: bytes) -> bytes:
        target = _TARGET.search(head)
        action = target[1].decode() if target else "unknown"
        self.counts[action] += 1
        if action == "TransactWriteItems":
            # Count in the text: parsing a hundred items would take time.
            self.counts["items updated"] += body.count(b'{"Update":')
            self.counts["items put"] += body.count(b'{"Put":')
            return b"{}"
        if action == "UpdateItem":  # of a weight counter that no other run uses
            weight = json.loads(body)["ExpressionAttributeValues"].get(":weight", {"N": "0"})
            return json.dumps({"Attributes": {"used": weight}}).encode()
        if action == "PutItem":
            return b"{}"
        answer: Any = getattr(self, action)(json.loads(body))
        return json.dumps(answer).encode()

    def Scan(self, request: Any) -> Any:  # noqa: N802 - AWS's names
        start = int(request.get("ExclusiveStartKey", {"accountId": {"S": "account-0"}})["accountId"]["S"][8:])
        records = request["TableName"] == "ListenKeysTable"
        most = min(request.get("Limit", 10_000), 3_000 if records else 10_000)  # about what 1 MB holds
        page = self.rows[start : start + most]
        items = [self._current(id_) if records else {"accountId": {"S": id_}} for id_ in page]
        if only := request.get("ProjectionExpression"):
            names = only.split(",")
            items = [{name: item[name] for name in names if name in item} for item in items]
        self.counts["records scanned" if records else "rows scanned"] += len(page)
        answer: dict[str, Any] = {"Items": items, "Count": len(page)}
        if start + len(page) < len(self.rows):
            answer["LastEvaluatedKey"] = {"accountId": {"S": account_id(start + len(page))}}
        return answer

    def GetItem(self, request: Any) -> Any:  # noqa: N802
        return {"Item": self._current(request["Key"]["accountId"]["S"])}

    def BatchGetItem(self, request: Any) -> Any:  # noqa: N802
        [(table, asked)] = request["RequestItems"].items()
        self.counts["items read"] += len(asked["Keys"])
        items = [self._current(key["accountId"]["S"]) for key in asked["Keys"]]
        return {"Responses": {table: items}, "UnprocessedKeys": {}}

    def BatchGetSecretValue(self, request: Any) -> Any:  # noqa: N802
        self.counts["secrets read"] += len(request["SecretIdList"])
        return {"SecretValues": [_secret(name) for name in request["SecretIdList"]], "Errors": []}

    def GetSecretValue(self, request: Any) -> Any:  # noqa: N802
        return _secret(request["SecretId"])

    def PutEvents(self, request: Any) -> Any:  # noqa: N802
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}] * len(request["Entries"])}

    def _current(self, id_: str) -> Any:
        return {
            "accountId": {"S": id_}, "record": {"S": "CURRENT"}, "listenKey": {"S": listen_key(api_key(id_))},
            "product": {"S": "usdm"}, "outcome": {"S": "EXTENDED"}, "attemptedAt": {"S": self.renewed},
            "renewedAt": {"S": self.renewed}, "expiresAt": {"S": self.expires},
            "listenKeyChangedAt": {"S": self.renewed}, "consecutiveFailures": {"N": "0"},
            "runId": {"S": "6f1c1d0e-6f6b-4a53-a7f3-5a0d6c8f0d11"},
        }  # fmt: skip


def _secret(name: str) -> Any:
    arn = f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{name}-AbCdEf"
    text = json.dumps({"apiKey": api_key(name.rpartition("/")[2])})
    return {"ARN": arn, "Name": name, "VersionId": "0" * 32, "SecretString": text, "CreatedDate": 1.7e9}


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _serve(
    accounts: int,
    binance_delay: float,
    aws_delay: float,
    close: bool,
    certificate: str,
    parent: Connection,
) -> None:
    counts: Counter[str] = Counter()
    minutes: Counter[int] = Counter()
    last_put = 0.0
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
    if tls:
        tls.load_cert_chain(certificate, Path(certificate).with_name("key.pem"))

    def binance(head: bytes, body: bytes) -> bytes:
        nonlocal last_put
        counts["PUT listenKey"] += 1
        minutes[int(time.time() // 60)] += 1
        last_put = time.monotonic()
        key = _API_KEY.search(head)
        return b'{"listenKey":"%s"}' % (key[1][::-1] if key else b"")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        aws = Aws(accounts, counts)
        urls = []
        for answer, delay in ((binance, binance_delay), (aws, aws_delay)):
            server = await loop.create_server(
                lambda answer=answer, delay=delay: Server(answer, delay, close),
                "127.0.0.1",
                0,
                backlog=1024,
                ssl=tls,
            )
            urls.append(f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        parent.send(urls)
        start = sum(os.times()[:2])
        asked = asyncio.Event()
        loop.add_reader(parent.fileno(), asked.set)
        await asked.wait()
        parent.send((dict(counts), sum(os.times()[:2]) - start, last_put + binance_delay, dict(minutes)))

    asyncio.run(main())


@dataclass(slots=True)
class Responders:
    """Two servers in a process of their own.

    `variables` are environment variables with which a client trusts them. After they have stopped, `calls`,
    `cpu` (seconds), `last_put` (the monotonic time at which the last PUT was answered) and `minutes` (PUTs in
    each clock minute) are set.
    """

    binance_url: str
    aws_url: str
    variables: dict[str, str]
    calls: dict[str, int]
    cpu: float = 0.0
    last_put: float = 0.0
    minutes: dict[int, int] = field(default_factory=dict)


@contextmanager
def responders(
    accounts: int,
    binance_delay: float = BINANCE_DELAY,
    aws_delay: float = AWS_DELAY,
    close: bool = False,
    tls: bool = True,
) -> Iterator[Responders]:
    """Start both servers for `accounts` accounts; stop them at the end of the block.

    With `close`, they close the connection after each answer, as a server closes one that has been idle since
    the last keepalive.
    """
    with tempfile.TemporaryDirectory() as made:
        certificate, variables = "", {}
        if tls:
            _, public = self_signed(Path(made))
            bundle = Path(made) / "bundle.pem"
            bundle.write_text(Path(certifi.where()).read_text() + public.read_text())
            certificate = str(public)
            variables = dict.fromkeys(("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "SSL_CERT_FILE"), str(bundle))
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_serve,
            args=(accounts, binance_delay, aws_delay, close, certificate, theirs),
            daemon=True,
        )
        process.start()
        started = Responders(*ours.recv(), variables, calls={})
        try:
            yield started
        finally:
            ours.send(None)
            started.calls, started.cpu, started.last_put, started.minutes = ours.recv()
            process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("accounts", type=int)
    with responders(parser.parse_args().accounts) as up:
        print(up.binance_url, up.aws_url)
        input("Enter ends it. ")
    print(up.calls)


if __name__ == "__main__":
    main()
