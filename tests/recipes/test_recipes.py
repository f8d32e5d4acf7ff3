"""The recipes of examples/clients, each with its client, through all that befalls a listenKey."""

import re
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from moto.core.exceptions import JsonRESTError
from moto.events.models import EventsBackend

from tests.heartbeats import Heartbeats
from tests.paths import PYTHONPATH
from tests.recipes.conftest import (
    API_KEY,
    ENVIRONMENTS,
    RECIPES,
    Recipe,
    another_process_takes_the_stream,
    command,
)
from tests.waiting import SECONDS, eventually

pytestmark = pytest.mark.clients
# At the speed of stand_in/:
PAUSE = 0.35  # seconds between two reports
MINUTE = 0.6
PYTHON = [name for name in ENVIRONMENTS if name.endswith(".py")]
# The bots, and the recipe that each imports.
BOTS = {
    "ccxt_pro_bot.py": "ccxt_pro.py",
    "python_binance_bot.py": "python_binance.py",
    "python_binance_thread.py": "python_binance.py",
}


def said_dead(recipe):
    """Return how many times the recipe has logged that the key has expired."""
    return sum("the listenKey has expired" in line for line in recipe.complaints)


def turns(recipe):
    """Return what the recipe has said of the account, in order: listening or deaf."""
    return [
        line.removeprefix("alice: ") for line in recipe.heard if line in ("alice: listening", "alice: deaf")
    ]


def has_been_deaf(recipe, times, at_last="listening"):
    """Wait until the recipe has been deaf so often, and say so of its last turn, too."""
    expected = ["listening", *["deaf", "listening"] * times]
    expected += ["deaf"] * (at_last == "deaf")
    eventually(lambda: turns(recipe) == expected, lambda: f"{turns(recipe)}, not {expected}")


def reconnects(recipe, place):
    """Drop the socket, and wait until the recipe has another."""
    opened = recipe.heard.count("alice: listening")
    place.streams.drop_connections()
    eventually(lambda: recipe.heard.count("alice: listening") > opened, lambda: "it opens no socket")


@pytest.mark.parametrize("recipe", ENVIRONMENTS, indirect=True)
def test_it_hears_orders_through_all_that_happens_to_a_key(recipe, place):
    recipe.hears_orders("at first")
    recipe.hears_orders("that wait for their price", place.exchange.emit_algo_order)
    eventually(lambda: place.reports() == 2, lambda: "it does not tell the keeper that a socket is open")
    assert not said_dead(recipe)

    place.exchange.expire(API_KEY, "usdm")
    eventually(lambda: place.reports() > 2, lambda: "it never tells the keeper")
    assert place.said_dead()[:3] == [False, False, True]
    assert place.hand_over_report() == "CREATED"  # it has just tried, and ignores the report
    eventually(lambda: said_dead(recipe) > 3, lambda: "it stops telling the keeper")
    has_been_deaf(recipe, 0, at_last="deaf")
    assert place.hand_over_report(seconds=35) == "RECREATED"
    recipe.hears_orders("once Binance has forgotten the key and the keeper made another")
    said = said_dead(recipe)
    has_been_deaf(recipe, 1)

    another_process_takes_the_stream(place.exchange)
    assert place.keep() == "CHANGED"
    recipe.hears_orders("once another process has changed the key")
    assert said_dead(recipe) == said, "it says that a key has expired that was replaced"
    has_been_deaf(recipe, 2)
    assert [line for line in recipe.complaints if "the listenKey has changed" in line]

    said = len(recipe.complaints)
    place.streams.close_connections()
    recipe.hears_orders("once the server has closed the socket")
    reasons = "\n".join(recipe.complaints[said:])
    assert re.search("alice: .*([Cc]losed|socket is lost)", reasons), f"it does not say why:\n{reasons}"

    place.streams.drop_connections()
    recipe.hears_orders("once the network has dropped the socket")
    has_been_deaf(recipe, 4)

    outage = place.exchange.fault(status=503)
    place.streams.down = True
    place.streams.drop_connections()
    has_been_deaf(recipe, 4, at_last="deaf")
    assert [place.keep(minutes=15.5) for _ in range(4)] == ["FAILED"] * 4
    assert not place.exchange.live_key(API_KEY, "usdm")
    outage.clear()
    place.streams.down = False
    assert place.keep() == "RECREATED"
    recipe.hears_orders("after an outage of an hour")
    eventually(lambda: turns(recipe)[-1] == "listening")

    assert "KeyboardInterrupt" not in recipe.interrupt()
    assert place.listen_key_requests() == []
    assert [request.path for request in place.exchange.requests if request.status == 404] == []
    assert place.exchange.live_key(API_KEY, "usdm")
    assert place.world.current("alice")["listenKey"] not in "\n".join(recipe.heard + recipe.complaints)
    assert not [line for line in recipe.complaints if "has not renewed it" in line]
    own = [line for line in recipe.complaints if re.match("WARNING:root:(?!No Web)|alice|NetworkError", line)]
    assert own
    assert [line for line in own if not line.removeprefix("WARNING:root:").startswith("alice: ")] == []


@pytest.mark.parametrize("recipe", ENVIRONMENTS, indirect=True)
def test_a_key_that_is_replaced_at_once_was_said_to_have_expired(recipe, place):
    recipe.hears_orders("at first")
    reconnects(recipe, place)  # it has told the keeper, and waits now
    place.exchange.expire(API_KEY, "usdm")
    assert place.keep() == "RECREATED"
    has_been_deaf(recipe, 2)
    assert said_dead(recipe)


@pytest.mark.parametrize("recipe", ENVIRONMENTS, indirect=True)
def test_a_key_that_died_while_the_socket_was_closed_is_replaced(recipe, place):
    recipe.hears_orders("at first")
    eventually(lambda: place.reports() == 2, lambda: "the key may have died before the program started")

    place.streams.down = True
    place.streams.drop_connections()
    eventually(lambda: not place.streams.connections)
    place.exchange.expire(API_KEY, "usdm")
    place.streams.down = False
    eventually(lambda: recipe.heard.count("alice: listening") >= 2, lambda: "it opens no socket")
    eventually(lambda: place.reports() >= 3, lambda: "it does not tell the keeper")
    assert place.hand_over_report() == "CREATED"  # it has just tried, and ignores the report
    eventually(lambda: place.reports() >= 4, lambda: "it tells the keeper once and no more")
    assert place.hand_over_report(seconds=35) == "RECREATED"
    recipe.hears_orders("once the keeper has made another key")
    assert not said_dead(recipe)
    has_been_deaf(recipe, 2)


@pytest.mark.parametrize("recipe", ENVIRONMENTS, indirect=True)
def test_it_is_deaf_while_the_table_says_that_its_key_has_expired(recipe, place):
    def renewed(ago):
        place.world.put_current("alice", key, datetime.now(UTC) - ago)

    key = place.world.current("alice")["listenKey"]
    recipe.hears_orders("at first")
    renewed(timedelta(hours=3))
    has_been_deaf(recipe, 0, at_last="deaf")
    renewed(timedelta(minutes=60) - timedelta(seconds=6))
    has_been_deaf(recipe, 1)
    place.way_to_the_table.die(black_hole=True)
    has_been_deaf(recipe, 1, at_last="deaf")
    place.way_to_the_table.live()
    renewed(timedelta(0))
    has_been_deaf(recipe, 2)
    recipe.hears_orders("once it listens again")
    has_been_deaf(recipe, 2)
    assert place.reports() == 2, "it has opened another socket"


@pytest.mark.row(91)
@pytest.mark.parametrize("recipe", ENVIRONMENTS, indirect=True)
def test_it_hears_orders_again_whatever_the_network_does(recipe, place):
    recipe.hears_orders("at first")

    before, reports = time.monotonic(), place.reports()
    for _ in range(3):
        reconnects(recipe, place)
    most = (time.monotonic() - before) / PAUSE + 1
    assert place.reports() - reports <= most, "it tells the keeper at each opening"

    place.network.die()
    recipe.hears_orders("once the network has died without a word: half-open TCP")

    place.streams.refusals = 6  # python-binance gives up after four
    place.streams.drop_connections()
    recipe.hears_orders("once six handshakes were answered with 429")
    assert not place.streams.refusals

    place.streams.delay = 2
    place.streams.drop_connections()
    eventually(lambda: not place.streams.delay)
    another_process_takes_the_stream(place.exchange)
    assert place.keep() == "CHANGED"
    recipe.hears_orders("once the key has changed while the socket was opening")

    place.way_to_the_table.die(black_hole=True)
    place.streams.drop_connections()
    recipe.hears_orders("while the table hangs and the socket was lost")

    another_process_takes_the_stream(place.exchange)
    assert place.keep() == "CHANGED"
    place.way_to_the_table.live()
    recipe.hears_orders("once the table answers again, and has another key")
    eventually(lambda: turns(recipe)[-1] == "listening")
    has_been_deaf(recipe, turns(recipe).count("deaf"))


@pytest.mark.parametrize("recipe", ENVIRONMENTS, indirect=True)
def test_a_report_that_aws_refuses_is_logged_and_made_again(recipe, place, monkeypatch):
    def denied():
        raise JsonRESTError("AccessDeniedException", "not authorized to perform: events:PutEvents")

    def answer(bus, sent):
        return refusals.pop(0)() if refusals else put_events(bus, sent)

    def throttled():
        return [{"ErrorCode": "ThrottlingException"}]

    refusals = [denied]
    put_events = EventsBackend.put_events
    monkeypatch.setattr(EventsBackend, "put_events", answer)
    recipe.hears_orders("at first")
    eventually(lambda: place.reports() == 1, lambda: f"it gives up:\n{recipe.complaints}")
    refusals += [denied, throttled]
    place.exchange.expire(API_KEY, "usdm")
    eventually(lambda: place.reports() > 1, lambda: f"it gives up:\n{recipe.complaints}")

    told = [line for line in recipe.complaints if "could not be " in line or "cannot be told" in line]
    reasons = ["AccessDeniedException", "AccessDeniedException", "ThrottlingException"]
    assert [reason in line for reason, line in zip(reasons, told, strict=True)] == [True] * 3
    assert said_dead(recipe) >= 3
    assert place.hand_over_report(seconds=35) == "RECREATED"
    recipe.hears_orders("once the keeper was told")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_it_warns_once_a_minute_of_a_key_that_is_not_renewed(name, place):
    def warnings():
        lines = [line.removeprefix("WARNING:root:") for line in running.complaints]
        return [line for line in lines if "the listenKey expired" in line]

    def more(count):
        eventually(lambda: len(warnings()) >= count, lambda: f"it warns no more:\n{running.complaints}")

    renewed = datetime.now(UTC) - timedelta(hours=3)
    key = place.world.current("alice")["listenKey"]
    place.world.put_current("alice", key, renewed, outcome="REJECTED", errorCode="INVALID_API_KEY")
    began = time.monotonic()
    running = Recipe(place, command(name), place.environment(RECIPES / name))
    try:
        eventually(lambda: place.streams.connections, lambda: "it opens no socket")
        more(3)
        place.exchange.expire(API_KEY, "usdm")  # it reads the table more often now
        more(len(warnings()) + 3)
        place.world.put_current("alice", key, renewed)
        more(len(warnings()) + 2)
        assert len(warnings()) <= (time.monotonic() - began) / MINUTE + 1
        assert turns(running) == []
        assert place.keep() == "RECREATED"
        running.hears_orders("once the keeper has made another key")
        has_been_deaf(running, 0)
    finally:
        running.end()
    expired = f"alice: the listenKey expired at {renewed + timedelta(hours=1):%Y-%m-%d %H:%M} UTC"
    assert set(warnings()) == {
        f"{expired} and the keeper has not renewed it (INVALID_API_KEY): no orders arrive",
        f"{expired} and the keeper has not renewed it: no orders arrive",
    }


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_it_calls_its_heartbeat_only_while_orders_arrive(name, place):
    def failures():
        return [line for line in running.complaints if "the call of HEARTBEAT_URL failed" in line]

    with Heartbeats() as heartbeats:
        environment = {**place.environment(RECIPES / name), "HEARTBEAT_URL": heartbeats.url}
        running = Recipe(place, command(name), environment)
        try:
            running.hears_orders("at first")
            heartbeats.come()
            place.way_to_the_table.die(black_hole=True)
            eventually(lambda: "the table cannot be read" in "\n".join(running.complaints))
            heartbeats.come(1)
            place.way_to_the_table.live()

            place.exchange.expire(API_KEY, "usdm")
            eventually(lambda: said_dead(running) > 2, lambda: "it does not say that it is deaf")
            calls = heartbeats.calls
            eventually(lambda: said_dead(running) > 6, lambda: "it stops saying that it is deaf")
            assert heartbeats.calls == calls
            assert place.hand_over_report(seconds=35) == "RECREATED"
            running.hears_orders("once the keeper has made another key")
            heartbeats.come()
            assert failures() == []

            heartbeats.answers.clear()
            heartbeats.come()
            assert failures() == [], "the next look at the table waits for the heartbeat"
            another_process_takes_the_stream(place.exchange)
            assert place.keep() == "CHANGED"
            running.hears_orders("while the heartbeat's service hangs")
            eventually(failures, lambda: "it does not say that the heartbeat fails")
            heartbeats.status = 404
            heartbeats.answers.set()
            heartbeats.come()
            assert len(failures()) == 1, "it says so more than once"
        finally:
            running.end()
    assert "a-secret" not in "\n".join(running.complaints)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_it_starts_with_listen_key_while_aws_does_not_answer(name, place):
    key = place.world.current("alice")["listenKey"]
    place.way_to_the_table.die(black_hole=True)
    running = Recipe(place, command(name), {**place.environment(RECIPES / name), "LISTEN_KEY": key})
    try:
        running.hears_orders("with LISTEN_KEY")
        assert [line for line in running.complaints if "LISTEN_KEY is used" in line]
        place.streams.drop_connections()
        running.hears_orders("once the socket was lost, and the table still hangs")

        another_process_takes_the_stream(place.exchange)
        assert place.keep() == "CHANGED"
        place.way_to_the_table.live()
        running.hears_orders("once the table answers, and has another key")
    finally:
        running.end()
    assert place.listen_key_requests() == []
    assert key not in "\n".join(running.complaints)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_tables_key_goes_before_listen_key(name, place):
    old = place.world.current("alice")["listenKey"]
    another_process_takes_the_stream(place.exchange)
    assert place.keep() == "CHANGED"
    running = Recipe(place, command(name), {**place.environment(RECIPES / name), "LISTEN_KEY": old})
    try:
        eventually(lambda: place.streams.connections, lambda: "it opens no socket")
        running.hears_orders("with the table's key")
    finally:
        running.end()
    assert "LISTEN_KEY" not in "\n".join(running.complaints)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_is_missing_at_the_start_is_one_line(name, place):
    def says(environment):
        done = subprocess.run(command(name), env=environment, capture_output=True, text=True, timeout=SECONDS)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        return done.stderr

    complete = {**place.environment(RECIPES / name), "NODE_NO_WARNINGS": "1"}
    without = {key: value for key, value in complete.items() if key != "LISTEN_KEYS_TABLE"}
    assert "set LISTEN_KEYS_TABLE" in says(without)
    assert re.search("not ?found", says({**complete, "LISTEN_KEYS_TABLE": "none"}), re.IGNORECASE)
    bob = {**complete, "ACCOUNT": "bob"}
    assert re.fullmatch(r"bob: .* the account is new, or its name is wrong\)?\n", says(bob))


@pytest.mark.parametrize("recipe", ENVIRONMENTS, indirect=True)
def test_it_logs_why_it_cannot_connect_and_no_key(recipe, place):
    recipe.hears_orders("at first")
    place.streams.refusals = 100
    place.streams.drop_connections()
    eventually(
        lambda: "429" in "\n".join(recipe.complaints), lambda: f"it does not say:\n{recipe.complaints}"
    )
    assert place.world.current("alice")["listenKey"] not in "\n".join(recipe.complaints)


def test_python_binance_ends_with_a_line_where_the_spot_host_fails(place):
    place.exchange.fault(status=403)
    environment = place.environment(RECIPES / "python_binance.py")
    program = command("python_binance.py")
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert re.match(r"api\.binance\.com does not answer: BinanceAPIException: .*\n", done.stderr)


@pytest.mark.parametrize("name", ["ccxt_pro.py", "ccxt_pro.mjs"])
def test_ccxt_that_was_handed_no_key_starts_none(name, place):
    program, recipe = command(name)
    text = re.sub(r"^ *exchange\.(use|follow)\(.*", "", Path(recipe).read_text(), flags=re.MULTILINE)
    options = ["-c"] if name.endswith(".py") else ["--input-type=module", "-e"]
    environment = place.environment(Path(recipe))
    done = subprocess.run(
        [program, *options, text],
        cwd=RECIPES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 1
    assert "no listenKey: call use(key) first" in done.stderr
    assert place.watched.sent
    assert place.listen_key_requests() == []


BROKEN = {
    "ccxt_pro.py": """
import asyncio, ccxt_pro

class Bot(ccxt_pro.KeptBinance):
    def listening(self):
        super().listening()
        raise ValueError("a mistake in its reconciling")

    def deaf(self):
        super().deaf()
        raise ValueError("a mistake when it stops quoting")

ccxt_pro.KeptBinance = Bot
asyncio.run(ccxt_pro.main())
""",
    "python_binance.py": """
import asyncio, python_binance

print_order, print_line = python_binance.heard, python_binance.listening

def heard(event):
    python_binance.heard = print_order
    raise ValueError("a mistake in the bot")

def listening():
    print_line()
    raise ValueError("a mistake in its reconciling")

def deaf():
    raise ValueError("a mistake when it stops quoting")

python_binance.heard, python_binance.listening, python_binance.deaf = heard, listening, deaf
asyncio.run(python_binance.main())
""",
}


def bot(place, name, code, **more):
    """Start a bot that imports a recipe."""
    environment = place.environment(RECIPES / name) | more
    environment["PYTHONPATH"] += f":{RECIPES}"
    return Recipe(place, [command(name)[0], "-c", code], environment)


@pytest.mark.parametrize("name", BROKEN)
def test_a_mistake_in_a_bots_own_code_is_logged_and_closes_no_socket(name, place):
    running = bot(place, name, BROKEN[name])
    try:
        running.hears_orders("after the mistake")
        assert running.heard.count("alice: listening") == 1
        reconnects(running, place)
        running.hears_orders("on another socket")
    finally:
        running.end()
    assert running.heard.count("alice: listening") == 2
    mistakes = {line for line in running.complaints if line.startswith("ValueError: ")}
    assert mistakes == {f"ValueError: {said}" for said in re.findall('raise ValueError."(.*)"', BROKEN[name])}
    assert running.complaints.count("Traceback (most recent call last):") >= len(mistakes)


RECONCILING = {
    "ccxt_pro.py": """
import asyncio, ccxt_pro

class Bot(ccxt_pro.KeptBinance):
    def listening(self):
        super().listening()
        self.reconciling = asyncio.create_task(self.reconcile())

    def deaf(self):
        super().deaf()
        self.reconciling.cancel()
        self.stopping = asyncio.create_task(self.stop_quoting())

    async def reconcile(self):
        print("reconciles", flush=True)

    async def stop_quoting(self):
        print("stops quoting", flush=True)

ccxt_pro.KeptBinance = Bot
asyncio.run(ccxt_pro.main())
""",
    "python_binance.py": """
import asyncio, python_binance

async def say(words):
    print(words, flush=True)

def listening():
    global task
    print("alice: listening", flush=True)
    task = asyncio.create_task(say("reconciles"))

def deaf():
    global task
    print("alice: deaf", flush=True)
    task = asyncio.create_task(say("stops quoting"))

python_binance.listening, python_binance.deaf = listening, deaf
asyncio.run(python_binance.main())
""",
}


@pytest.mark.parametrize("name", RECONCILING)
def test_a_bot_reconciles_and_stops_quoting_each_time(name, place):
    running = bot(place, name, RECONCILING[name])
    try:
        running.hears_orders("at first")
        for _ in range(2):
            reconnects(running, place)
        running.hears_orders("on another socket")
        eventually(lambda: running.heard.count("reconciles") >= 3, lambda: f"it does not:\n{running.heard}")
    finally:
        running.end()
    told = [line for line in running.heard if line in ("reconciles", "stops quoting")]
    assert told == ["reconciles", *["stops quoting", "reconciles"] * 2]
    has_been_deaf(running, 2)


@pytest.mark.parametrize("name", PYTHON)
def test_a_bot_imports_a_recipe_before_its_settings_are_there(name):
    python, recipe = command(name)
    environment = {"PYTHONPATH": f"{PYTHONPATH}:{RECIPES}"}
    done = subprocess.run([python, "-c", f"import {Path(recipe).stem}"], env=environment, timeout=SECONDS)
    assert done.returncode == 0


@pytest.mark.parametrize("program", [*PYTHON, *BOTS])
def test_stand_in_runs_it_unchanged(program, place):
    said = lambda: f"{running.heard}{running.complaints[-20:]}"  # noqa: E731
    words = lambda: [line.split()[0] for line in running.heard if line.startswith(("knows", "stops"))]  # noqa: E731
    started = [command(BOTS.get(program, program))[0], str(RECIPES / "stand_in.py"), program]
    environment = {**place.local_environment(), "BINANCE_API_KEY": "one of the reader's"}
    running = Recipe(place, started, environment)
    try:
        running.hears_orders("on the stand-in")
        if program in BOTS:
            eventually(lambda: "knows" in words(), said)
        if program == "python_binance_thread.py":
            number = place.exchange.orders(API_KEY)[-1]
            outage = place.exchange.fault(status=503, api_key=API_KEY, method="GET")
            place.plain_streams.drop_connections()
            fill = {"x": "TRADE", "X": "FILLED", "l": "0.001", "z": "0.001", "L": "9000"}
            place.exchange.emit_order(API_KEY, i=number, **fill)  # while no socket is open
            eventually(lambda: outage.hits and "stops" in words(), said)
            running.hears_orders("while it still reconciles")
            outage.clear()
            eventually(lambda: any(re.match("knows .* 1$", line) for line in running.heard), said)

            before = len(words())
            slow = place.exchange.fault("drip", delay=0.005, api_key=API_KEY, method="GET")
            place.plain_streams.drop_connections()
            eventually(lambda: slow.hits, said)
            place.plain_streams.drop_connections()  # while it reconciles
            eventually(lambda: "knows" in words()[before:], said)
            assert words()[before:] == ["stops", "stops", "knows"]
    finally:
        running.end()
    assert {request.api_key for request in place.exchange.requests} - {None} == {API_KEY}, "alice's own"
    assert [request.path for request in place.exchange.requests if request.status == 401] == []

    # And what is missing ends it, also in a thread.
    del environment["LISTEN_KEYS_TABLE"]
    done = subprocess.run(started, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1
    assert "set LISTEN_KEYS_TABLE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", BOTS)
def test_a_bot_reconciles_all_that_it_missed_before_its_heartbeat(name, place):
    program = (RECIPES / name).read_text()
    long_ago = int(time.time() * 1000) - 8 * 86_400_000  # no answer covers more than a week
    for text, instead in (
        ("MOST, WEEK = 1000, ", "MOST, WEEK = 2, "),
        ("PAUSE, LONGEST_PAUSE = 5, 300", "PAUSE, LONGEST_PAUSE = 0.2, 1"),
        ("since = None", f"since = {long_ago}"),
    ):
        assert text in program
        program = program.replace(text, instead)
    raises = r"\1if mistakes:\n\1    raise mistakes.pop()\n\1print("
    program = re.sub(r'(?m)^( +)print\((?="knows")', raises, program)
    program = f'mistakes = [KeyError("a mistake of the bot\'s own")]\n{program}'
    fill = {"x": "TRADE", "X": "FILLED", "l": "0.001", "z": "0.001", "L": "10000"}
    filled = place.exchange.emit_order(API_KEY)
    place.exchange.emit_algo_order(API_KEY)
    place.exchange.emit_order(API_KEY, i=place.exchange.emit_order(API_KEY), **fill)
    said = lambda: f"{running.heard}{running.complaints[-20:]}"  # noqa: E731
    with Heartbeats() as heartbeats:
        running = bot(place, BOTS[name], program, HEARTBEAT_URL=heartbeats.url)
        try:
            eventually(lambda: any(re.match("knows .* 1$", line) for line in running.heard), said)
            heartbeats.come()
            headers = {"Retry-After": "1"}
            outage = place.exchange.fault(status=429, headers=headers, api_key=API_KEY, method="GET")
            place.streams.drop_connections()
            for _ in range(3):  # while no socket is open
                place.clock.advance(seconds=11)
                place.exchange.emit_order(API_KEY, i=filled, **fill)
            eventually(lambda: outage.hits and running.heard.count("alice: listening") == 2, said)
            calls = heartbeats.calls
            running.hears_orders("while it still reconciles")
            eventually(lambda: outage.hits > 3, said)
            assert heartbeats.calls == calls
            outage.clear()
            # Pages of two, of which each begins with the last trade of the one before.
            eventually(lambda: any(re.match("knows .* 7$", line) for line in running.heard), said)
            heartbeats.come()
        finally:
            running.end()
    assert any("cannot reconcile: " in line for line in running.complaints)
    assert 'KeyError: "a mistake of the bot\'s own"' in running.complaints
    assert running.complaints.count("Traceback (most recent call last):") == 1, "an error of Binance has none"
