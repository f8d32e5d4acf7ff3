"""Measures the cold start of the built function in Lambda's own runtime, and of a function that does nothing.

Both have the same packages and Python, and run in AWS's runtime emulator. CPU and memory are those of the
runtime's process after its first invocation: with an event that the function rejects (INIT and hardly more),
with a sweep with nothing to do, or with a tick.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.responders import Responders, responders
from benchmarks.run import environment
from benchmarks.share import share
from local.aws.runtime import RuntimeEmulator

ROOT = Path(__file__).parent
RUNTIME = ROOT.parent / ".venv-runtime/bin/python"
NO_SUCH_EVENT = {"benchmark": True}
TICK = {"source": "aws.events", "detail-type": "Scheduled Event"}
SWEEP = {"overdueOnly": True}
COLD_SWEEP = "a cold sweep with nothing to do"
_OF_THIS_MACHINE = ("PATH", "HOME", "LANG", "PYTHONPATH")


@contextmanager
def variants(built: Path) -> Iterator[dict[str, Path]]:
    """Yield the directories of the function and of the bare one, each with and without bytecode, by name."""
    with tempfile.TemporaryDirectory() as made:
        directories = {}
        for name in ("function", "bare"):
            for bytecode in (True, False):
                code = Path(made) / f"{name}-{bytecode}"
                shutil.copytree(built, code)
                if name == "bare":
                    shutil.copy(ROOT / "bare/app.py", code)
                    shutil.rmtree(code / "listenkeys")
                for cache in list(code.rglob("__pycache__")):
                    shutil.rmtree(cache)
                for compiled in list(code.rglob("*.pyc")):
                    compiled.unlink()
                if bytecode:
                    compile_all = [RUNTIME, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
                    subprocess.run([*compile_all, code], check=True)
                directories[f"{name}, {'with' if bytecode else 'without'} bytecode"] = code
        yield directories


def cold_start(
    code: Path, event: dict[str, Any], up: Responders, memory: int | None = None
) -> dict[str, float]:
    """Start the function in `code` and call it once, with the share of a processor that this memory brings.

    Returns `cpu` and `wall` in seconds, `init_ms`, `peak_mb`, and `began`, the monotonic time of the call.
    """
    variables = {name: value for name, value in environment(up).items() if name not in _OF_THIS_MACHINE}
    with ExitStack() as open_:
        runtime = RUNTIME
        if memory:
            processes = open_.enter_context(share(memory))
            runtime = Path(open_.enter_context(tempfile.TemporaryDirectory())) / "runtime"
            runtime.write_text(f'#!/bin/sh\necho $$ > {processes}\nexec {RUNTIME} "$@"\n')
            runtime.chmod(0o755)
        started = open_.enter_context(RuntimeEmulator(code, variables, runtime=runtime))
        began = time.monotonic()
        answer = started.invoke(event)
        wall = time.monotonic() - began
        if answer.error and answer.error.type not in ("InvalidEvent", "ValueError"):
            raise SystemExit(f"the function did not start: {answer}\n{started.log}")
        pid = started.runtime_pid()
        assert pid
        status = Path(f"/proc/{pid}/status").read_text()
        init = re.search(r"INIT REPORT\(durationMs: ([\d.]+)\)", started.log)
        cpu = time.clock_gettime(~pid << 3 | 2)  # another process's clock: clock_getcpuclockid(3)
    peak = re.search(r"VmHWM:\s+(\d+)", status)
    return {
        "cpu": cpu,
        "began": began,
        "wall": wall,
        "init_ms": float(init[1]) if init else float("nan"),
        "peak_mb": int(peak[1]) / 1024 if peak else float("nan"),
    }


def zip_mb(built: Path) -> float:
    """Return the size of the function's zip in MB."""
    with tempfile.TemporaryDirectory() as made:
        return os.path.getsize(shutil.make_archive(f"{made}/function", "zip", built)) / 1e6


def measure(rounds: int, built: Path) -> dict[str, list[dict[str, Any]]]:
    """Start each variant `rounds` times, in turns; the function also for a sweep with nothing to do."""
    found: dict[str, list[dict[str, Any]]] = {}
    with variants(built) as directories, responders(100) as up:
        for _ in range(rounds):
            for name, code in directories.items():
                found.setdefault(name, []).append(cold_start(code, NO_SUCH_EVENT, up))
            code = directories["function, with bytecode"]
            found.setdefault(COLD_SWEEP, []).append(cold_start(code, SWEEP, up))
    return found
