"""A program in a terminal of its own, `listenkeys` unless a test says otherwise."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.paths import PYTHONPATH
from tests.waiting import SECONDS

COMMAND = (sys.executable, "-m", "listenkey_keeper.cli.main")


class Terminal:
    """A program whose controlling terminal is this object."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        columns: int,
        environment: dict[str, str],
        command: Iterable[str] = COMMAND,
        folder: Path | None = None,
    ) -> None:
        self._master, self._slave = pty.openpty()
        # A shell that leads its session owns the terminal that it opens: getpass asks there, Ctrl-C counts.
        self.process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(self._slave), *command, *arguments],
            cwd=folder,
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

    def press_enter_at_each_question(self, most: int) -> list[str]:
        """Answer every question with Enter until the program ends; return the questions, at most so many."""
        asked: list[str] = []
        seen, deadline = 0, time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.output
            waiting = not self._read(0.2)
            line = re.sub(r"\x1b\[[\d;]*m", "", self.output[seen:]).rpartition("\n")[2]
            if waiting and line.endswith(": "):
                asked.append(line.strip())
                assert len(asked) <= most, asked
                seen, deadline = len(self.output), time.monotonic() + SECONDS
                self.type("\n")
        return asked

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
