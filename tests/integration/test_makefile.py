"""The Makefile: what its targets call, what `make` shows, and what a Python that is too old is told."""

import os
import re
import subprocess
import sys

import yaml

from tests.paths import ROOT


def recipe(*arguments: str, **environment: str) -> str:
    """Return what make would run, or what it prints without a target."""
    told = ["make", "--no-print-directory", "--assume-old=install", *arguments]
    given = {**os.environ, **environment}
    return subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=True, env=given).stdout


def test_make_calls_the_commands_that_the_tests_of_make_run_call() -> None:
    run = ("--dry-run", "run")
    assert '-m local run "events/scheduled.json"' in recipe(*run)
    assert '-m local run "events/dry-run.json" --keep' in recipe(*run, "EVENT=events/dry-run.json", "KEEP=1")
    assert '-m local run "my event.json"' in recipe(*run, "EVENT=my event.json")
    assert "-m local down" in recipe("--dry-run", "down")
    assert '--account "real" --product "coinm"' in recipe(*run, "ACCOUNT=real", "PRODUCT=coinm")
    assert '--speed "1" --account "real"' in recipe("--dry-run", "up", "ACCOUNT=real")
    # Exported, as by somebody who trades, these are not meant for it.
    exported = recipe(*run, ACCOUNT="real", HOST="https://host", PRODUCT="coinm")
    assert "--account" not in exported
    assert "--host" not in exported


def test_make_help_fits_a_terminal_and_has_every_target() -> None:
    told = recipe()
    lines = told.splitlines()

    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80
    [phony] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(["help", *re.findall(r"^  make (\S+)", told, re.MULTILINE)]) == sorted(phony.split())


def test_a_python_that_is_too_old_is_told_so_in_one_line() -> None:
    old = "import sys, runpy; sys.version_info = 3, 10, 13; runpy.run_path(sys.argv.pop(1), None, '__main__')"
    done = subprocess.run(
        [sys.executable, "-c", old, ROOT / "requirements/install.py", "nowhere", "nothing"],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("Python 3.11 or newer is needed, and this is 3.10")
    assert done.stderr.count("\n") == 1


def test_pre_commit_runs_every_tool_of_make_check() -> None:
    check = recipe("--dry-run", "check")
    tools = {found[1] for found in re.finditer(r"\.venv\S*/bin/([\w-]+(?: check| format| validate)?)", check)}

    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    run = " ".join(hook["entry"] for hook in hooks)
    assert tools >= {"ruff check", "ruff format", "mypy", "sam validate", "zizmor"}
    assert [tool for tool in tools if f"/bin/{tool}" not in run] == []
