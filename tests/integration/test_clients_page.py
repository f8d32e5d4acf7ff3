"""docs/clients.md and examples/clients: its links, the versions that are tested, every point said."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.paths import ROOT
from tests.waiting import SECONDS

PAGE = (ROOT / "docs/clients.md").read_text()
BOTS = ("ccxt_pro_bot.py", "python_binance_bot.py", "python_binance_thread.py")
FILES = sorted(
    file
    for file in (ROOT / "examples/clients").iterdir()
    if file.suffix in (".py", ".mjs") and file.name not in ("stand_in.py", *BOTS)
)
# Which lock a row's version comes from: a requirements file, or the examples' package.json.
LOCKED = {
    "ccxt pro": ("clients-ccxt.txt", "ccxt"),
    "python-binance": ("clients-python-binance.txt", "python-binance"),
    "Binance's SDK, Python": ("clients-binance-sdk.txt", "binance-sdk-derivatives-trading-usds-futures"),
    "unicorn-binance-websocket-api": ("clients-unicorn.txt", "unicorn-binance-websocket-api"),
    "ccxt, JavaScript": ("package.json", "ccxt"),
    "Binance's SDK, JavaScript": ("package.json", "@binance/derivatives-trading-usds-futures"),
}


def locked(file: str, package: str) -> str:
    if file == "package.json":
        packages = json.loads((ROOT / "examples/clients" / file).read_text())["dependencies"]
        return str(packages[package])
    [version] = re.findall(rf"^{package}==(\S+)", (ROOT / "requirements" / file).read_text(), re.MULTILINE)
    return str(version)


def test_each_recipe_is_linked_once() -> None:
    linked = re.findall(r"\]\(\.\./examples/clients/([\w.]+)\)", PAGE)
    assert sorted(linked) == sorted([*BOTS, *(file.name for file in FILES)])


def test_every_recipe_says_what_it_does_with_the_key() -> None:
    rows = re.findall(r"^\| \[[^]]+\]\(#\S+\)(.*)\|$", PAGE, re.MULTILINE)
    assert len(rows) == len(FILES)
    for row in rows:
        _client, *cells = (cell.strip() for cell in row.split("|"))
        assert len(cells) == 4, row  # the version, the key, its own keepalive, DELETE
        assert all(cells), row


@pytest.mark.parametrize("client", LOCKED)
def test_the_versions_on_the_page_are_those_that_are_installed(client: str) -> None:
    rows = re.findall(r"^\| \[([^]]+)\]\(#\S+\)([^|]*)\| (\S+) \|", PAGE, re.MULTILINE)
    name, _, language = client.partition(", ")
    [version] = [v for n, rest, v in rows if n == name and language in rest and (language or n != "ccxt")]
    assert version == locked(*LOCKED[client])


def test_the_page_installs_the_versions_that_are_tested() -> None:
    pinned = re.findall(r"(\S+)==([\w.]+)", PAGE)
    assert pinned
    assert [version for _, version in pinned] == [locked(f"clients-{name}.txt", name) for name, _ in pinned]


def constant(recipe: str, before: str) -> int:
    """Return the first number after this text in a recipe."""
    found = re.search(rf"{re.escape(before)}(\d+)", (ROOT / "examples/clients" / recipe).read_text())
    assert found
    return int(found[1])


def test_how_long_a_recipe_is_deaf_is_what_its_constants_come_to() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (?:for|until)([^|]*) \| ([^|]*) \|$", PAGE, re.MULTILINE)
    most = {event: int(re.findall(r"(\d+) s\b", how_long)[-1]) for event, how_long, _ in rows}
    deaf = {event: when for event, _, when in rows}

    def said(*seconds: int) -> int:
        """Return the next multiple of 5: a handshake and the answers of AWS take some time, too."""
        return (max(seconds) // 5 + 1) * 5

    pause, reconnect = constant("ccxt_pro.py", "asyncio.sleep("), 2  # python-binance waits up to 2 s itself
    missed_pings = 3 * constant("ccxt_pro.py", "PING_MS = ") // 1000
    unanswered = sum(constant("python_binance.py", f'"ping_{part}": ') for part in ("interval", "timeout"))
    dead = [constant(recipe, "DEAD_SECONDS = ") for recipe in ("ccxt_pro.py", "python_binance.py")]
    look = constant("ccxt_pro.py", "LOOK_SECONDS = ")
    assert look == constant("python_binance.py", "LOOK_SECONDS = ")
    theirs = constant("python_binance.py", "TIMEOUT = ")
    replaced = said(look + pause, look + theirs + reconnect)
    assert most == {
        "Binance closes the socket": said(pause, reconnect),
        "the network dies silently": said(missed_pings + pause, unanswered + reconnect),
        "`listenKeyExpired` comes": said(dead[0] + pause, dead[1] + 1),
        "the keeper has replaced the key": replaced,
        "the key dies while the socket is closed": replaced,
        "another program sends DELETE: no event comes": replaced,
    }
    assert deaf["the network dies silently"].endswith(f" to {max(missed_pings, unanswered)} s")
    assert deaf["the keeper has replaced the key"] == f"after up to {look} s"
    often = constant("ccxt_pro.mjs", "LOOK_MS = ")
    assert often == constant("binance_sdk.mjs", "LOOK_MS = ")
    sooner = said(often + pause, often + theirs + reconnect)
    text = " ".join(PAGE.split())
    assert f"`LOOK_SECONDS = {often}` in the copy, {replaced} s become {sooner} s" in text


def stand_in(*program: str | Path, base: str = "http://127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    command = (sys.executable, ROOT / "examples/clients/stand_in.py", *program)
    # A proxy on this machine would lead out of it.
    where = {"BINANCE_BASE_URL": base, "BINANCE_STREAM_URL": "ws://127.0.0.1:9", "HTTPS_PROXY": "127.0.0.1:9"}
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=where)


@pytest.mark.parametrize(
    ("program", "code", "says"),
    [
        ((), 2, "usage: .local/with python stand_in.py PROGRAM [ARGUMENT...]"),
        (("none.py",), 1, "there is no none.py here and in "),
        (
            ("unicorn.py",),
            1,
            "No module named 'unicorn_binance_websocket_api': install what unicorn.py needs",
        ),
    ],
)
def test_stand_in_without_its_program_says_so_in_a_line(
    program: tuple[str, ...], code: int, says: str
) -> None:
    done = stand_in(*program)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert done.stderr.startswith(says)


def test_a_threaded_bot_that_is_deaf_while_it_catches_up_stays_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The recipe's thread is slow to print that it is deaf, as when the journal does not keep up."""
    recipe: Any = ModuleType("python_binance")
    recipe.ACCOUNT, recipe.behind = "alice", True
    library: Any = ModuleType("binance")
    names = ("futures_get_open_orders", "futures_get_open_algo_orders", "futures_account_trades")
    calls = {name: lambda *_, **__: [] for name in names}
    library.Client, library.ThreadedWebsocketManager = lambda *_, **__: SimpleNamespace(**calls), None
    errors: Any = ModuleType("binance.exceptions")
    errors.BinanceAPIException = errors.BinanceRequestException = OSError
    for name, module in (("python_binance", recipe), ("binance", library), ("binance.exceptions", errors)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("BINANCE_API_KEY", "key")
    monkeypatch.setenv("BINANCE_API_SECRET", "secret")
    bot = runpy.run_path(str(ROOT / "examples/clients/python_binance_thread.py"))
    stopped, printing = Event(), Event()

    def slowly(text: str, **_: object) -> None:
        if text == "alice: deaf":
            printing.set()
            Event().wait(0.2)

    def catch_up(*_: object) -> None:
        Thread(target=bot["note"], args=("deaf",)).start()
        assert printing.wait(SECONDS)

    bot["reconcile"].__globals__.update(print=slowly, catch_up=catch_up, stop_quoting=stopped.set)
    Thread(target=bot["reconcile"], daemon=True).start()
    bot["note"]("listening")
    assert stopped.wait(SECONDS)
    assert recipe.behind


@pytest.mark.parametrize("base", ["", "https://fapi.binance.com"])
def test_stand_in_runs_nothing_where_binance_is_the_real_one(base: str) -> None:
    done = stand_in("ccxt_pro.py", base=base)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "this environment uses the real Binance: start `make up` without ACCOUNT=real\n"


@pytest.mark.parametrize(
    "connects",
    [
        "import requests; requests.get('https://fapi.binance.com')",
        "import socket; socket.create_connection(('fapi.binance.com', 443))",
        "import socket; socket.socket().connect_ex(('192.0.2.1', 443))",
        "import asyncio; asyncio.run(asyncio.open_connection('192.0.2.1', 443))",
        "import uvloop, websockets; uvloop.run(websockets.connect('wss://192.0.2.1').__aenter__())",
    ],
)
def test_a_program_under_stand_in_connects_to_no_other_machine(connects: str, tmp_path: Path) -> None:
    program = tmp_path / "bot.py"
    program.write_text(connects)
    done = stand_in(program)
    host = re.findall(r"fapi\.binance\.com|192\.0\.2\.1", connects)[0]
    assert done.returncode == 1
    assert f"stand_in.py lets a program connect only to this machine: {host}" in done.stderr
