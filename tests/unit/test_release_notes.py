"""A release is of one version: what the tag, the changelog, the template and the package say."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from listenkey_keeper import __version__
from tests.paths import ROOT

PLACES = ("listenkey_keeper/__init__.py", "template.yaml", "CHANGELOG.md")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the files that name the version, with the script that holds them against each other.

    What the changelog calls unreleased has the number and a date, as CONTRIBUTING's "Release" says.
    """
    for name in (*PLACES, ".ci/release_notes.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    changelog = tmp_path / "CHANGELOG.md"
    text = changelog.read_text()
    if f"## [{__version__}]" not in text:
        changelog.write_text(text.replace("## [Unreleased]", f"## [{__version__}] - 2026-12-01"))
    return tmp_path


def release(clone: Path, tag: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, clone / ".ci/release_notes.py", tag]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_tag_of_this_version_gets_the_changelogs_section_of_it(clone: Path) -> None:
    done = release(clone, f"v{__version__}")

    assert done.returncode == 0, done.stderr
    assert "### Added\n" in done.stdout
    assert "\n## [" not in done.stdout
    assert "]: https://" not in done.stdout


def test_what_the_changelog_calls_unreleased_is_not_released(clone: Path) -> None:
    (clone / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n### Added\n\n- More.\n")

    done = release(clone, f"v{__version__}")

    assert done.returncode == 1
    assert "CHANGELOG.md says none" in done.stderr


def test_another_tag_is_refused(clone: Path) -> None:
    done = release(clone, "v99.0.0")

    assert done.returncode == 1
    assert "the tag says 99.0.0" in done.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_names_another_version_stops_the_release(clone: Path, place: str) -> None:
    text = (clone / place).read_text()
    (clone / place).write_text(text.replace(__version__, "99.0.0"))

    done = release(clone, f"v{__version__}")

    assert done.returncode == 1
    assert f"{place} says 99.0.0" in done.stderr
