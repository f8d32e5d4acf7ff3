"""Everything that can happen to an account's key, sockets and table, for a stream that listens to it."""

import asyncio
import itertools
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.server import ServerConnection

from listenkey_keeper.stream.gaps import Gap, Interrupted
from listenkey_keeper.stream.keys import ListenKeys
from listenkey_keeper.stream.outbox import Outbox
from listenkey_keeper.stream.pacing import gate_of
from listenkey_keeper.stream.user_data import UserDataStream
from local.binance.exchange import PATHS
from local.binance.stream import StreamServer
from local.clock import VirtualClock
from local.world import World
from tests.waiting import SECONDS

from .clock import StreamClock
from .conftest import ALICE, Bot, Bus, Table
from .relay import Relay

_names = (f"alice{number}" for number in itertools.count())


class Troubles:
    """An account, a stream of its events, and everything that can happen to them: one method each."""

    def __init__(
        self, world: World, relay: Relay, streams: StreamServer, clock: VirtualClock, ahead: float = 0
    ) -> None:
        """The bot's clock is so many seconds ahead of everybody else's."""
        clock.jump(ahead)
        self._world, self._relay, self._streams = world, relay, streams
        self._table = Table(world.aws.client("dynamodb"))
        self._table.ahead = ahead
        self._clock, self._time = clock, StreamClock(clock)
        self._exchange = streams.exchange
        self._name = next(_names)
        self._started: tuple[str, datetime] | None = None
        self.orders: dict[int, datetime] = {}
        self.sure: set[int] = set()  # the orders at which `state` said listening
        self.interrupted: list[datetime] = []  # when, by the true time
        self.renewed: list[datetime] = []
        self.start_key()
        self.record()
        table: Any = self._table
        self.bus = Bus()
        bus: Any = self.bus
        name = world.aws.outputs["ListenKeysTableName"]
        keys = ListenKeys(name, dynamodb=table, base_url=relay.url, eventbridge=bus)
        self.bot = Bot(UserDataStream(self._name, keys, clock=self._time))
        self._note_interruptions(self.bot.stream._follower.outbox)

    def _note_interruptions(self, outbox: Outbox) -> None:
        """Note each at its moment: a bot that is stalled takes it later."""
        tell = outbox.tell

        def noting(item: Gap | Interrupted) -> None:
            if isinstance(item, Interrupted):
                self.interrupted.append(self.now())
            tell(item)

        outbox.tell = noting  # type: ignore[method-assign]

    def order(self) -> None:
        listening = self.bot.stream.state.listening
        number = self._exchange.emit_order(ALICE)
        self.orders[number] = self.now()
        if listening:
            self.sure.add(number)

    def now(self) -> datetime:
        """Return the true time."""
        return datetime.fromtimestamp(self._clock.timestamp(), UTC)

    def start_key(self) -> None:
        """The keeper extends the key, or starts another, and has not recorded it yet."""
        self._exchange.handle("POST", PATHS["usdm"], {"X-MBX-APIKEY": ALICE})
        self._started = str(self._exchange.live_key(ALICE, "usdm")), self.now()

    def record(self) -> None:
        if self._started:
            self._world.put_current(self._name, *self._started)

    def renew(self) -> None:
        self.renewed.append(self.now())
        self.start_key()
        self.record()

    def rotate(self) -> None:
        self._exchange.rotate(ALICE, "usdm")

    def delete(self) -> None:
        self._exchange.handle("DELETE", PATHS["usdm"], {"X-MBX-APIKEY": ALICE})

    def expire(self) -> None:
        self._exchange.expire(ALICE, "usdm")

    def repeat(self) -> None:
        """Binance says the last event again, within a minute: a stream remembers no longer."""
        live = self._exchange.live_key(ALICE, "usdm")
        events = [item for item in self.bot.items if isinstance(item, dict)]
        audience = self._exchange._audiences.get(live or "")
        if events and audience and self.now().timestamp() - events[-1]["E"] / 1000 < 60:
            audience.tell(events[-1])

    def table_down(self) -> None:
        self._table.code = "InternalServerError"

    def table_up(self) -> None:
        self._table.code = ""

    def drop(self) -> None:
        self._streams.drop_connections()

    def close(self) -> None:
        self._streams.close_connections()

    def binance_down(self) -> None:
        self._streams.down = True

    def binance_up(self) -> None:
        self._streams.down = False

    def freeze(self) -> None:
        self._relay.freeze()

    def thaw(self) -> None:
        self._relay.thaw()

    def grow_old(self) -> None:
        """The connection has been open for a day."""
        if line := self.bot.stream._follower.line:
            line.renew_at = self._clock.now()
            self.look()

    def stall(self) -> None:
        """The bot takes nothing for a while."""
        self.bot.takes.clear()

    def take(self) -> None:
        self.bot.takes.set()

    def burst(self) -> None:
        for _ in range(60):
            self.order()

    def look(self) -> None:
        self.bot.stream.wake()

    async def happen(self, what: str | int) -> None:
        """Let something happen, or that many seconds pass, and wait until everybody is at rest."""
        if isinstance(what, int):
            self._time.advance(what)
        elif what == "close":
            await asyncio.to_thread(self.close)
        else:
            getattr(self, what)()
        await self.rest()

    async def rest(self) -> None:
        """Wait until the sockets have said all they have to say, and the stream waits for time to pass."""
        while True:
            self._exchange.notice_expired()
            await asyncio.to_thread(self._flush)
            for _ in range(30):
                await asyncio.sleep(0)
            if self._resting():
                return
            await asyncio.sleep(0.001)

    def _resting(self) -> bool:
        follower = self.bot.stream._follower
        waiting = [follower.look._waiter, follower._open._waiter]
        if gate_of(self._relay.url.removeprefix("ws://"))._waiting:
            waiting.pop()  # for its turn
        return all(each and not each.done() for each in waiting) and min(self._time.left(), default=1) > 0

    def _flush(self) -> None:
        # The second round trip is for the answers to what the stream said before the first.
        for _ in range(2):
            for socket, connection in list(self._streams._connections.items()):
                while not connection._outbox.empty() and self._open(socket):
                    pass
                if self._open(socket):
                    _round_trip(socket)

    def _open(self, socket: ServerConnection) -> bool:
        try:
            port = socket.remote_address[1]
        except OSError:
            return False
        return socket.protocol.state is State.OPEN and not self._relay.frozen(port)

    async def end_well(self) -> None:
        """End every trouble, and wait until the stream has noticed all of it."""
        for what in ("take", "thaw", "table_up", "binance_up", "renew", "look", 60, 60, 60):
            await self.happen(what)
        live, line = self._exchange.live_key(ALICE, "usdm"), self.bot.stream._follower.line
        assert line, "the stream is closed although all is well"
        assert line.key.key == live
        await self.happen("order")
        assert self.bot.orders[-1] == len(self.orders)


def _round_trip(socket: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        socket.ping(ack_on_close=True).wait(SECONDS)
