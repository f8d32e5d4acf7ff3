"""The Makefile: what its targets call, what `make` shows, and what a Python that is too old is told."""

import os
import re
import subprocess
import sys

import yaml

from tests.paths import ROOT


def test_make_calls_the_commands_that_the_tests_of_make_run_call() -> None:
    def recipe(*arguments: str) -> str:
        told = ["make", "--no-print-directory", "--dry-run", "--assume-old=install", *arguments]
        return subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert '-m local run "events/scheduled.json"' in recipe("run")
    assert '-m local run "events/dry-run.json" --keep' in recipe("run", "EVENT=events/dry-run.json", "KEEP=1")
    assert '-m local run "my event.json"' in recipe("run", "EVENT=my event.json")
    assert "-m local down" in recipe("down")
    assert '--account "real" --product "coinm"' in recipe("run", "ACCOUNT=real", "PRODUCT=coinm")
    assert '--speed "1" --account "real"' in recipe("up", "ACCOUNT=real")
    # Exported, as by somebody who trades, these are not meant for it.
    environment = {**os.environ, "ACCOUNT": "real", "HOST": "https://host", "PRODUCT": "coinm"}
    told = ["make", "--no-print-directory", "--dry-run", "--assume-old=install", "run"]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    assert "--account" not in done.stdout
    assert "--host" not in done.stdout


def test_make_help_fits_a_terminal_and_has_every_target() -> None:
    told = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
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
    told = ["make", "--no-print-directory", "--dry-run", "--assume-old=install", "check"]
    recipe = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tools = {
        found[1] for found in re.finditer(r"\.venv\S*/bin/([\w-]+(?: check| format| validate)?)", recipe)
    }

    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    run = " ".join(hook["entry"] for hook in hooks)
    assert tools >= {"ruff check", "ruff format", "mypy", "sam validate", "zizmor"}
    assert [tool for tool in tools if f"/bin/{tool}" not in run] == []
