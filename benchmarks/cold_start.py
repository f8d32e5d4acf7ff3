"""The cold start of the built function under Lambda's own runtime, against a function that does nothing.

Both run from the same packages, with the same Python, in AWS's runtime emulator. CPU and memory are those of
the runtime's process after its first invocation, of an event that the function refuses: INIT and next to
nothing more.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.run import template_environment
from local.aws.runtime import RuntimeEmulator

ROOT = Path(__file__).parent
RUNTIME = ROOT.parent / ".venv-runtime/bin/python"
_NO_SUCH_EVENT = {"benchmark": True}
_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
}


@contextmanager
def variants(built: Path) -> Iterator[dict[str, Path]]:
    """Yield directories of code: the function and the bare one, each with and without bytecode."""
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


def cold_start(code: Path) -> dict[str, float]:
    """Start the function in `code` once; seconds of CPU, milliseconds of INIT, MB at most."""
    with RuntimeEmulator(code, {**template_environment(), **_VARIABLES}) as started:
        answer = started.invoke(_NO_SUCH_EVENT)
        if not answer.error or answer.error.type not in ("InvalidEvent", "ValueError"):
            raise SystemExit(f"the function did not start: {answer}\n{started.log}")
        pid = started.runtime_pid()
        ran = [int(thread.read_text().split()[0]) for thread in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        status = Path(f"/proc/{pid}/status").read_text()
        init = re.search(r"INIT REPORT\(durationMs: ([\d.]+)\)", started.log)
    peak = re.search(r"VmHWM:\s+(\d+)", status)
    return {
        "cpu": sum(ran) / 1e9,
        "init_ms": float(init[1]) if init else float("nan"),
        "peak_mb": int(peak[1]) / 1024 if peak else float("nan"),
    }


def zip_mb(built: Path) -> float:
    """Return how large the function's zip is, in MB."""
    with tempfile.TemporaryDirectory() as made:
        return os.path.getsize(shutil.make_archive(f"{made}/function", "zip", built)) / 1e6


def measure(rounds: int, built: Path) -> dict[str, list[dict[str, Any]]]:
    """Start each variant `rounds` times, in turns."""
    found: dict[str, list[dict[str, Any]]] = {}
    with variants(built) as directories:
        for _ in range(rounds):
            for name, code in directories.items():
                found.setdefault(name, []).append(cold_start(code))
    return found
