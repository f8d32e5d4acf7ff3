"""A small HTTP service on 127.0.0.1, in its own thread."""

from __future__ import annotations

import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import Self


class Service:
    """Serves this handler at a free port of 127.0.0.1 until `stop`. `url` is its address."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        # Not HTTPServer, which looks up the host's name when it binds.
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse new connections. Requests that are being answered are finished."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
