"""What the zip brings goes together with the boto3 that comes with Lambda's runtime."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

from tests.paths import ROOT


def locked(lock_file: str) -> dict[str, str]:
    """Return each package of a lock file and its version."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / lock_file).read_text(), re.MULTILINE))


def test_what_the_zip_brings_is_what_the_runtimes_botocore_asks_for() -> None:
    zipped = locked("functions/keepalive/requirements.txt")
    asked = [
        Requirement(text) for name in ("boto3", "botocore", "s3transfer") for text in requires(name) or ()
    ]
    shared = {each.name for each in asked if each.name in zipped and not each.marker}

    assert shared == {"jmespath", "urllib3"}
    assert [
        str(each) for each in asked if each.name in shared and zipped[each.name] not in each.specifier
    ] == []
    assert not {"boto3", "botocore"} & zipped.keys()


def test_the_end_to_end_tests_run_with_the_other_tests_boto3() -> None:
    runtime, dev = locked("requirements/runtime.txt"), locked("requirements/dev.txt")

    for name in ("boto3", "botocore", "jmespath", "urllib3"):
        assert runtime[name] == dev[name]


def test_the_commands_lock_file_has_what_the_command_and_its_build_need() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    cli = locked("requirements/cli.txt")

    needed = [
        Requirement(text)
        for text in pyproject["build-system"]["requires"]
        + pyproject["project"]["dependencies"]
        + pyproject["project"]["optional-dependencies"]["cli"]
    ]
    assert [str(each) for each in needed if cli.get(each.name, "0") not in each.specifier] == []


def test_the_command_is_locked_at_the_versions_it_is_tested_with() -> None:
    assert locked("requirements/cli.txt").items() <= locked("requirements/dev.txt").items()


def test_the_workflow_to_copy_pins_the_projects_versions_of_actions() -> None:
    def actions(*files: Path) -> set[str]:
        return {use for file in files for use in re.findall(r"uses: (.+)", file.read_text())}

    # Dependabot changes only the project's own workflows.
    to_copy = actions(ROOT / "docs/deploy.yml")
    assert len(to_copy) == 3
    assert to_copy <= actions(*(ROOT / ".github/workflows").glob("*.yml"))
