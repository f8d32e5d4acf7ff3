"""No listenKey in a log line, a repr or an exception: whatever goes wrong, with everything logged."""

import asyncio
import gc
import logging
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from listenkey_keeper.stream.clock import SystemClock
from listenkey_keeper.stream.connection import Connection, ConnectionFailed
from tests.certificates import self_signed
from tests.leaks import search, texts_of

from .conftest import in_loop, until
from .relay import url_of

KEY = "CANARYlistenKey".ljust(64, "7")
URL = f"/private/ws?listenKey={KEY}"


@pytest.fixture(autouse=True)
def everything_is_searched(caplog: pytest.LogCaptureFixture, capfd: Any) -> Iterator[None]:
    yield
    gc.collect()  # what nobody has retrieved is complained of now
    said = capfd.readouterr()
    records = [repr(vars(record)) for record in caplog.records]
    search([KEY], [caplog.text, said.out, said.err, *records])


def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    """Log at DEBUG from now on, in asyncio's own debug mode."""
    asyncio.get_running_loop().set_debug(True)
    caplog.set_level(logging.DEBUG)
    for name in ("websockets.client", "asyncio", "botocore", "urllib3"):
        caplog.set_level(logging.DEBUG, name)


async def refuse(caplog: pytest.LogCaptureFixture, url: str, time_: Any) -> ConnectionFailed:
    """Return what comes of a connection attempt, and search it."""
    log_everything(caplog)
    with pytest.raises(ConnectionFailed) as raised:
        await Connection.open(url, time_)
    search([KEY], texts_of(raised.value))
    assert raised.value.__context__ is None
    # With locals, as some error reporters show them, only the caller's own URL is there.
    assert KEY not in "".join(traceback.format_exception_only(raised.value))
    return raised.value


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "http://x", "nowhere://x", "ws://", "ws://a b"])
@in_loop
async def test_a_url_that_opens_nothing(time_, caplog, url):
    said = str(await refuse(caplog, f"{url}{URL}", time_))
    assert said == "ConnectionRefusedError" or not url.endswith(":1")


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: %(length)d\r\n\r\n%(request)s", "HTTP 403"),
        (
            b"HTTP/1.1 307 Elsewhere\r\nLocation: /elsewhere?%(url)s\r\nContent-Length: 0\r\n\r\n",
            "HTTP 307",
        ),
        (b"%(request)s", "InvalidMessage"),
    ],
    ids=["a refusal", "a redirect", "nonsense"],
)
@in_loop
async def test_an_answer_that_is_no_websocket_is_the_end_of_it(time_, caplog, answer, what):
    asked = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        asked.append(request)
        writer.write(answer % {b"request": request, b"length": len(request), b"url": request.split()[1]})
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        assert str(await refuse(caplog, url_of(server) + URL, time_)) == what
    assert len(asked) == 1


@in_loop
async def test_a_certificate_that_nobody_has_signed(time_, caplog, tmp_path):
    context, _ = self_signed(tmp_path)
    async with serve(lambda socket: socket.wait_closed(), "127.0.0.1", 0, ssl=context) as server:
        url = url_of(server).replace("ws:", "wss:") + URL
        assert "SSL" in str(await refuse(caplog, url, time_))


@in_loop
async def test_a_server_that_never_answers(time_, caplog):
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other side gives up
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        attempt = asyncio.create_task(refuse(caplog, url_of(server) + URL, time_))
        await until(time_.left)
        time_.advance(10)
        assert str(await attempt) == "TimeoutError"


@pytest.mark.parametrize(
    "message",
    [
        KEY, f'{{"error": "{KEY}"}}', b"\xff" + KEY.encode(), "x" * 2_000_000,
        f'{{"e":"listenKeyExpired","listenKey":"{KEY}"}}',
    ],
    ids=["text", "error", "binary", "too long", "expired"],
)  # fmt: skip
@in_loop
async def test_whatever_a_server_sends_and_however_it_ends(bot, keeper, time_, caplog, message):
    async def talk(socket: ServerConnection) -> None:
        await socket.send(message)
        await socket.close(1008, KEY[:60])

    keeper.record(KEY)
    log_everything(caplog)
    async with serve(talk, "127.0.0.1", 0) as server, bot(url_of(server)) as alice:
        await until(lambda: alice.items)
        await until(lambda: not alice.stream.alive)
        time_.advance(30)
        await asyncio.sleep(0.02)
        search([KEY], [repr(alice.stream), repr(alice.items), repr(asyncio.all_tasks())])


@in_loop
async def test_a_bug_is_logged_by_its_name_and_what_it_cost_lies_in_a_gap(keeper, bot, monkeypatch, caplog):
    async def talk(socket: ServerConnection) -> None:
        await socket.send(f'{{"e":"{KEY}"}}')
        await socket.wait_closed()

    keeper.record(KEY)
    log_everything(caplog)
    monkeypatch.setattr("listenkey_keeper.stream.outbox.Outbox.put", lambda *_: 1 / 0)
    async with serve(talk, "127.0.0.1", 0) as server, bot(url_of(server)) as alice:
        await until(lambda: "an event could not be taken (ZeroDivisionError)" in caplog.text)
        await until(lambda: alice.interruptions)
        assert not alice.stream._task.done()


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (None, ""),
        ("Too many\n requests", ", Too many requests"),
        ("k" * 19, f", {'k' * 19}"),
        (f"expired: {KEY}\x07", ", expired: ..."),
        (f"bye {'k' * 10}-{'_' * 9}", ", bye ..."),
        ("bye " * 30, f", {'bye ' * 25}"),
    ],
    ids=["none", "a line break", "short", "a key", "20 characters", "long"],
)
def test_the_reason_of_a_close_shows_no_key(reason: str | None, said: str) -> None:
    socket: Any = SimpleNamespace(close_code=1008, close_reason=reason)
    assert Connection(socket, SystemClock()).ending == f"close code 1008{said}"
