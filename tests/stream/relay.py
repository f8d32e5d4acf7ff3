"""A TCP relay in the test's own loop. Frozen, it keeps its connections open and passes nothing on."""

import asyncio
import threading
from typing import Self

from websockets.asyncio.server import Server

from tests.waiting import SECONDS


def url_of(server: asyncio.Server | Server) -> str:
    """Return what comes before a route on a server of the test's own."""
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Relay:
    """Passes on what comes, from and to a port, inside of `async with`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._gates: dict[int, asyncio.Event] = {}  # by the port from which the relay connects
        self._serving: set[asyncio.Task[None]] = set()
        self.black_hole = False  # a new connection is frozen from its beginning
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = url_of(self._server)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return len(self._gates)

    def frozen(self, port: int) -> bool:
        """Tell whether the connection that the target sees at this port of the relay is frozen."""
        return port in self._gates and not self._gates[port].is_set()

    def freeze(self) -> None:
        """Pass on nothing any more on the connections of now."""
        for gate in self._gates.values():
            gate.clear()

    def thaw(self) -> None:
        """Pass on again, what has been held back first."""
        for gate in self._gates.values():
            gate.set()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not as a coroutine: the server's own task would be cancelled with the loop, and close nothing.
        self._serving.add(asyncio.create_task(self._relay(reader, writer)))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._target)
        gate = self._gates[forth.get_extra_info("sockname")[1]] = asyncio.Event()
        if not self.black_hole:
            gate.set()
        pair = [
            asyncio.create_task(self._pass(reader, forth, gate)),
            asyncio.create_task(self._pass(back, writer, gate)),
        ]
        try:
            await asyncio.wait(pair, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pair:
                task.cancel()
            for end in (writer, forth):
                end.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            await gate.wait()
            writer.write(data)


class Network:
    """A relay to a port, in a thread of its own: what is on its way there can be held back."""

    def __init__(self, port: int) -> None:
        self._relay, self._ready = Relay(port), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(SECONDS)
        self.port = int(self._relay.url.rpartition(":")[2])

    async def _serve(self) -> None:
        async with self._relay:
            self._loop, self._closed = asyncio.get_running_loop(), asyncio.Event()
            self._ready.set()
            await self._closed.wait()

    def die(self, black_hole: bool = False) -> None:
        """Pass nothing on any more on the connections of now, without a word; or on new ones, too."""
        self._relay.black_hole = black_hole
        self._loop.call_soon_threadsafe(self._relay.freeze)

    def live(self) -> None:
        """Pass on again."""
        self._relay.black_hole = False
        self._loop.call_soon_threadsafe(self._relay.thaw)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._closed.set)
        self._thread.join()
