"""`make invoke`: what a person sees of one run of the built function under Lambda's runtime."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.aws import runtime
from tests.paths import PYTHONPATH, ROOT

pytestmark = pytest.mark.e2e


def invoke(folder: Path, event: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder of its own, where no world is up."""
    return subprocess.run(
        [sys.executable, "-m", "local", "invoke", str(event)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_it_shows_the_start_and_the_duration_and_ends_like_make_run(tmp_path: Path) -> None:
    done = invoke(tmp_path, ROOT / "events/scheduled.json")
    assert done.returncode == 0, done.stderr
    log, _, rest = done.stdout.partition("result of the function")
    assert "4 accounts: 3 ok, 1 at risk (dave)\n" in log
    assert "INIT REPORT(durationMs: " in log
    assert "\nREPORT RequestId: " in log
    assert json.JSONDecoder().raw_decode(rest.strip())[0]["accounts"] == 4


def test_an_error_is_printed_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text('{"odd": true}')
    done = invoke(tmp_path, tmp_path / "odd.json")
    assert done.returncode == 1
    assert "error of the function\nInvalidEvent: unknown field 'odd'" in done.stdout


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = invoke(tmp_path, tmp_path / "missing.json")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "missing.json" in done.stderr


def test_elsewhere_than_on_linux_it_says_what_to_use_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    with pytest.raises(runtime.Unusable, match="Linux only: `make run` needs no emulator"):
        runtime.emulator()
