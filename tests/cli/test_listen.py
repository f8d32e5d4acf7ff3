"""`listenkeys listen`: an account's events, against the stand-in's websockets."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from listenkey_keeper.cli.listen import _event_line
from local.binance.exchange import PATHS
from local.binance.stream import StreamServer
from local.clock import VirtualClock
from local.world import STREAM_URL, World
from tests.paths import PYTHONPATH
from tests.terminal import COMMAND
from tests.waiting import SECONDS

from .conftest import AwsFaults, Run, Start

Listen = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def streams(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamServer]:
    with StreamServer(world.exchange) as streams:
        monkeypatch.setenv(STREAM_URL, streams.url)
        yield streams


@pytest.fixture
def listen_key(world: World, streams: StreamServer, clock: VirtualClock, api_key: str) -> str:
    world.add_account("alice", api_key)
    world.exchange.handle("POST", PATHS["usdm"], {"X-MBX-APIKEY": api_key})
    listen_key = str(world.exchange.live_key(api_key, "usdm"))
    world.put_current("alice", listen_key, clock.now())
    return listen_key


@pytest.fixture
def listen(run: Run, clock: VirtualClock) -> Iterator[Listen]:
    """Start `listenkeys listen alice` in a pipe."""
    started: list[subprocess.Popen[str]] = []

    def listenkeys(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, "listen", "alice", *options],
            env={**os.environ, "PYTHONPATH": PYTHONPATH, "LISTENKEYS_CLOCK": f"0,{clock.timestamp()},0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield listenkeys
    for process in started:
        process.kill()
        process.communicate(timeout=SECONDS)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def test_in_a_pipe_each_event_and_each_gap_is_a_plain_line(
    world: World, streams: StreamServer, listen_key: str, listen: Listen, api_key: str, clock: VirtualClock
) -> None:
    process = listen()  # whose clock stands still
    time = r"00:00:00\.000  "
    gap = rf"{time}gap: events from 12-31 23:59:50 to 01-01 00:00:10 may be missing \({{}}\)\n"
    assert re.fullmatch(gap.format("started"), line(process))
    clock.advance(seconds=5)
    world.exchange.emit_order(api_key)
    its_own = r"00:00:05\.000  "
    assert re.fullmatch(rf"{its_own}ORDER_TRADE_UPDATE  BTCUSDT  BUY  NEW  1\n", line(process))
    streams.drop_connections()
    interrupted = rf"{time}interrupted: events since 12-31 23:59:50 may be missing \(connection lost\)\n"
    assert re.fullmatch(interrupted, line(process))
    assert re.fullmatch(gap.format("connection lost"), line(process))
    process.send_signal(signal.SIGINT)
    left, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, left, said) == (0, "", "")  # nothing is said twice


def test_no_control_character_of_an_event_reaches_the_terminal(
    world: World, listen_key: str, listen: Listen, api_key: str
) -> None:
    process = listen()
    line(process)
    world.exchange.emit_order(api_key, s="BTC\x1b[2J\x07USDT")
    assert line(process).endswith("ORDER_TRADE_UPDATE  BTC?[2J?USDT  BUY  NEW  1\n")


def test_json_is_whole_events_one_a_line(world: World, listen_key: str, listen: Listen, api_key: str) -> None:
    process = listen("--json")
    started = {"since": "2025-12-31T23:59:50.000Z", "until": "2026-01-01T00:00:10.000Z", "why": "started"}
    assert json.loads(line(process)) == {"gap": started}
    heard: list[Any] = []
    leave = world.exchange.listen(listen_key, {"usdm"}, lambda _, event: heard.append(event))
    world.exchange.emit_order(api_key)
    world.exchange.emit_order(api_key)
    assert [json.loads(line(process)) for _ in range(2)] == heard
    leave()


def test_on_a_terminal_it_has_colours_and_ctrl_c_ends_it_well(
    world: World, streams: StreamServer, listen_key: str, start: Start, api_key: str
) -> None:
    terminal = start("listen", "alice")
    terminal.wait_for("(started)")
    world.exchange.emit_order(api_key)
    terminal.wait_for("BTCUSDT")
    assert re.search(r"\x1b\[36mORDER_TRADE_UPDATE\x1b\[0m  \x1b\[1mBTCUSDT\x1b\[0m", terminal.output)
    streams.drop_connections()
    terminal.wait_for("(connection lost)", times=2)
    shown = re.findall(r"\x1b\[(\d+)m(gap|interrupted):", terminal.output)
    assert shown == [("2", "gap"), ("31", "interrupted"), ("33", "gap")]
    terminal.type("\x03")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.output
    assert listen_key not in terminal.output


def test_a_reader_that_leaves_ends_it(world: World, listen_key: str, listen: Listen, api_key: str) -> None:
    process = listen()
    line(process)
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    world.exchange.emit_order(api_key)
    assert "Traceback" not in process.communicate(timeout=SECONDS)[1]


def test_it_says_what_is_missing_in_one_line(
    run: Run, world: World, listen_key: str, clock: VirtualClock
) -> None:
    for name in ("bob", "-bob", "carol"):
        world.put_row(name)
    world.put_current("carol", "x" * 64, clock.now(), renewedAt="soon")
    clock.advance(minutes=60)
    for account, said in {
        "nobody": "there is no account nobody",
        "bob": "bob has no listenKey: `listenkeys renew bob` creates one",
        "-bob": "-bob has no listenKey: `listenkeys renew -- -bob` creates one",
        "carol": "carol has no listenKey: `listenkeys renew carol` creates one",
        "alice": "alice's listenKey has been dead since 2026-01-01 01:00 UTC: `listenkeys renew alice`",
        "x" * 64: "that looks like an API key",
    }.items():
        done = run("listen", "--", account)
        assert done.exit_code == 2
        assert done.stderr.startswith(f"listenkeys: {said}")
        assert done.stderr.count("\n") == 1
        assert listen_key not in done.output


def test_a_proxy_without_a_websocket_is_one_line(
    run: Run, world: World, listen_key: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put_current("alice", listen_key, clock.now(), environment="live")
    monkeypatch.delenv(STREAM_URL)
    done = run("listen", "alice")
    assert done.exit_code == 2
    assert done.stderr.startswith("listenkeys: alice's websocket has no known host, because the stack has a ")
    assert done.stderr.count("\n") == 1


def test_a_table_that_may_not_be_read_is_one_line(run: Run, listen_key: str, faults: AwsFaults) -> None:
    faults.fail("GetItem", "AccessDeniedException")
    done = run("listen", "alice")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "access denied to these AWS credentials: they do not allow GetItem" in done.stderr


def test_without_websockets_it_says_how_to_install_them(run: Run, listen_key: str) -> None:
    without = "import sys; sys.modules['websockets'] = None; from listenkey_keeper.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, "listen", "alice"],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == "listenkeys: listen needs websockets: pip install '.[cli,stream]' in listenkey-keeper's folder\n"
    )


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {
                "e": "ACCOUNT_UPDATE",
                "E": 1767225600012,
                "a": {"P": [{"s": "B"}, {"s": "A"}, {"s": "B"}, {"s": 1}]},
            },
            "[dim]00:00:00.012[/dim]  [cyan]ACCOUNT_UPDATE    [/cyan]  [bold]B, A[/bold]",
        ),
        (
            {"e": "ORDER_TRADE_UPDATE", "E": 1767225605999, "o": {"s": "BTCUSDT", "S": "BUY", "X": "NEW"}},
            "[dim]00:00:05.999[/dim]  [cyan]ORDER_TRADE_UPDATE[/cyan]  [bold]BTCUSDT[/bold]  BUY  NEW  ",
        ),
        (
            {"e": "x", "E": 1767225600000, "o": "no order"},
            "[dim]00:00:00.000[/dim]  [cyan]x                 [/cyan]  [bold]-[/bold]",
        ),
    ],
)
def test_an_event_is_its_time_its_type_and_each_symbol_once(event: dict[str, Any], line: str) -> None:
    assert _event_line(event).markup == line
