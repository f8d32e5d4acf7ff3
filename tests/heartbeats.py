"""The check behind a bot's HEARTBEAT_URL, as a service such as Healthchecks has it."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from tests.waiting import SECONDS, eventually


class Heartbeats(ThreadingHTTPServer):
    """Counts the calls. It answers with `status`, and not at all while `answers` is not set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Check)
        self.url = f"http://127.0.0.1:{self.server_port}/a-secret"
        self.calls, self.status = 0, 200
        self.answers = threading.Event()
        self.answers.set()
        threading.Thread(target=self.serve_forever).start()

    def come(self, times: int = 2) -> None:
        """Wait for further calls: one may have been under way."""
        before = self.calls
        eventually(lambda: self.calls >= before + times, lambda: "the heartbeat is not called")

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.answers.set()
        self.shutdown()
        self.server_close()


class Check(BaseHTTPRequestHandler):
    server: Heartbeats

    def do_GET(self) -> None:
        assert self.path == "/a-secret"
        self.server.calls += 1
        self.server.answers.wait(SECONDS)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the caller did not wait
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
