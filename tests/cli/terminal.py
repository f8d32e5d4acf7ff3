"""A `listenkeys` in a terminal of its own, for the tests that need one."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

from tests.paths import PYTHONPATH
from tests.waiting import SECONDS

COMMAND = (sys.executable, "-m", "listenkey_keeper.cli.main")


class Terminal:
    """A `listenkeys` whose controlling terminal is this object."""

    def __init__(self, arguments: tuple[str, ...], columns: int, environment: dict[str, str]) -> None:
        self._master, self._slave = pty.openpty()
        # A shell that leads its session owns the terminal that it opens: getpass asks there, Ctrl-C counts.
        self.process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(self._slave), *COMMAND, *arguments],
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": PYTHONPATH,
                "COLUMNS": str(columns),
                "LINES": "30",
                "TERM": "xterm-256color",
                "PYTHONUTF8": "1",
                **environment,
            },
        )
        self.output = ""

    def wait_for(self, text: str, times: int = 1) -> None:
        """Read until this has been seen."""
        deadline = time.monotonic() + SECONDS
        while self.output.count(text) < times:
            assert time.monotonic() < deadline, self.output
            self._read(0.1)

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Read the rest; return the exit code."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.output
            self._read(0.05)
        while self._read(0.0):
            pass
        return self.process.returncode

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        self.output += os.read(self._master, 65536).decode(errors="replace")
        return True
