"""The wheel, built from a clean copy of the sources and installed with only the packages that it requires."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import PathDistribution, distribution
from io import BytesIO
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.paths import ROOT

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
pytestmark = pytest.mark.e2e


def run(*command: str, **environment: str) -> str:
    """Run a command in an empty environment; return what it printed."""
    done = subprocess.run(
        command, env={"PATH": os.defpath, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the files that git knows; first the source distribution, as `build` does."""
    here = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    pack = ["tar", "--create", "--null", "--files-from", "-"]
    packed = subprocess.run(pack, cwd=ROOT, input=names, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(here / "clone", filter="tar")
    build = "from setuptools import build_meta; print(build_meta.build_sdist('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=here / "clone", capture_output=True, check=True)
    [sources] = here.glob("*.tar.gz")
    run(*PIP, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(here), str(sources))
    [built] = here.glob("*.whl")
    return built


def metadata(wheel: Path) -> PathDistribution:
    """Return the wheel's own metadata."""
    path = zipfile.Path(wheel)
    [info] = [each for each in path.iterdir() if each.name.endswith(".dist-info")]
    return PathDistribution(info)  # type: ignore[arg-type]


def needed(requirements: list[str], extra: str) -> set[str]:
    """Return the names of the distributions that these requirements need, directly or indirectly."""
    found: set[str] = set()
    waiting = [(Requirement(text), extra) for text in requirements]
    while waiting:
        requirement, of = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name not in found:
            found.add(name)
            extras = requirement.extras or {""}
            requires = distribution(name).requires or []
            waiting += [(Requirement(text), extra) for text in requires for extra in extras]
    return found


@pytest.fixture(scope="module", params=["", "cli", "stream"])
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, and link the packages that it needs with this extra from the test's environment."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, symlinks=True)
    python = str(home / "bin/python")
    run(*PIP, "--python", python, "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    packages = next(home.glob("lib/python3*/site-packages"))
    for name in needed(metadata(wheel).requires or [], request.param):
        for top in {file.parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(str(distribution(name).locate_file(top)))
    return home


def contents(wheel: Path) -> Iterator[str]:
    yield from zipfile.ZipFile(wheel).namelist()


def test_the_wheel_owns_its_two_packages_and_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in contents(wheel) if ".dist-info/" not in name}
    assert tops == {"listenkey_keeper", "listenkeys"}


def test_the_program_is_in_it_file_for_file(wheel: Path) -> None:
    program = ROOT / "functions/keepalive/listenkeys"
    expected = {str(path.relative_to(program)) for end in ("py", "css") for path in program.rglob(f"*.{end}")}
    prefix = "listenkeys/"
    assert {name.removeprefix(prefix) for name in contents(wheel) if name.startswith(prefix)} == expected
    assert "listenkey_keeper/py.typed" in contents(wheel)


def test_boto3_alone_is_required_and_everything_has_a_lower_bound(wheel: Path) -> None:
    requirements = [Requirement(text) for text in metadata(wheel).requires or ()]
    assert [each.name for each in requirements if each.marker is None] == ["boto3"]
    assert all(">=" in str(each.specifier) for each in requirements)


def test_the_links_of_its_readme_work_on_a_package_index(wheel: Path) -> None:
    text = str(metadata(wheel).metadata.get_payload())
    links = re.findall(r"\]\(([^)]+)\)|(?:href|src|srcset)=\"([^\"]+)", text)
    assert links
    assert [link for link in links if not re.match("https://|#", "".join(link))] == []


def test_an_older_version_over_a_newer_one_installs_the_older(tmp_path: Path) -> None:
    sources, target = tmp_path / "sources", tmp_path / "target"
    module = sources / "listenkey_keeper/version.py"
    module.parent.mkdir(parents=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "listenkey_keeper/__init__.py"):
        (sources / name).write_bytes((ROOT / name).read_bytes())
    for version in (1, 2, 1):
        module.write_text(f"V = {version}\n")
        os.utime(module, (version, version))  # as git archive does, with the commit's time
        (sources / f"listenkey_keeper/only_{version}.py").touch()
        (sources / f"listenkey_keeper/only_{3 - version}.py").unlink(missing_ok=True)
        install = ("install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index")
        run(*PIP, *install, "--upgrade", "--target", str(target), str(sources))
        packages = target / "listenkey_keeper"
        assert [file.name for file in packages.glob("only*.py")] == [f"only_{version}.py"]
        assert (packages / "version.py").read_text() == f"V = {version}\n"


@pytest.mark.parametrize("installed", ["cli"], indirect=True)
def test_listenkeys_version_works_without_aws(installed: Path, wheel: Path, tmp_path: Path) -> None:
    said = run(str(installed / "bin/listenkeys"), "--version", HOME=str(tmp_path))
    assert said == f"listenkeys {metadata(wheel).version}\n"


@pytest.mark.parametrize("installed", [""], indirect=True)
def test_without_its_extra_the_command_says_what_to_install(installed: Path) -> None:
    done = subprocess.run([installed / "bin/listenkeys", "status"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "listenkeys: typer is missing: pip install '.[cli]' in listenkey-keeper's folder\n"


@pytest.mark.parametrize("installed", ["stream"], indirect=True)
def test_with_its_extra_the_stream_can_be_imported(installed: Path) -> None:
    python = str(installed / "bin/python")
    assert run(python, "-c", "from listenkey_keeper import UserDataStream as s; print(s.__name__)") == (
        "UserDataStream\n"
    )


@pytest.mark.parametrize("installed", [""], indirect=True)
def test_without_its_extra_the_stream_says_what_to_install(installed: Path) -> None:
    python = installed / "bin/python"
    run(str(python), "-c", "from listenkey_keeper import read_listen_key")
    importing = [python, "-c", "from listenkey_keeper import UserDataStream"]
    done = subprocess.run(importing, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install '.[stream]' in listenkey-keeper's folder" in done.stderr.splitlines()[-1]
