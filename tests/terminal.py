"""Runs a program, by default `listenkeys`, in a terminal of its own."""

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
    """A program that runs in a terminal; this object types, and reads the output."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        columns: int,
        environment: dict[str, str],
        command: Iterable[str] = COMMAND,
        folder: Path | None = None,
    ) -> None:
        self._master, self._slave = pty.openpty()
        # The shell leads its session, so the terminal that it opens becomes its controlling terminal: getpass
        # asks there, and Ctrl-C works.
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
        """Read until the output contains this text, at least `times` times."""
        deadline = time.monotonic() + SECONDS
        while self.output.count(text) < times:
            assert time.monotonic() < deadline, self.output
            self._read(0.1)

    def type(self, text: str) -> None:
        """Type this text."""
        os.write(self._master, text.encode())

    def press_enter_at_each_question(self, most: int) -> list[str]:
        """Answer each question with Enter until the program ends. Returns the questions, at most `most`."""
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
        """Wait until the program has ended, and return its exit code."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.output
            self._read(0.05)
        while self._read(0.0):
            pass
        return self.process.returncode

    def close(self) -> None:
        """Kill the program if it is still running."""
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
