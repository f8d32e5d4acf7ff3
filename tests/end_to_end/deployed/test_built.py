"""What goes into the zip: what runs, and nothing else."""

import struct
from pathlib import Path

import pytest

from tests.end_to_end.deployed.stack import SamDeployed
from tests.paths import ROOT

pytestmark = pytest.mark.e2e

AARCH64 = 183  # e_machine of ELF
UNCHECKED_HASH = 1  # PEP 552


@pytest.fixture
def code(deployed: SamDeployed) -> Path:
    return deployed.code["KeepaliveFunction"]


def test_the_zip_holds_what_runs_and_nothing_else(code: Path) -> None:
    held = {path.relative_to(code).as_posix() for path in code.rglob("*")}
    top = {name.partition("/")[0].split("-")[0] for name in held} - {"__pycache__"}

    assert top == {
        "app.py", "aws_lambda_powertools", "certifi", "charset_normalizer", "idna", "jmespath", "listenkeys",
        "requests", "typing_extensions.py", "typing_extensions", "urllib3", "widget.py",
    }  # fmt: skip
    odd = {"Makefile", "tests", "bin", "py.typed", "requirements.txt", "requirements.in"}
    assert not [name for name in held if Path(name).name in odd or name.endswith((".pyi", ".dist-info/bin"))]


def test_the_program_in_the_zip_is_the_one_in_the_tree(code: Path) -> None:
    source = ROOT / "functions/keepalive"
    files = [source / "app.py", source / "widget.py", *(source / "listenkeys").rglob("*.py")]
    assert all((code / path.relative_to(source)).read_text() == path.read_text() for path in files)
    zipped = {path.relative_to(code) for path in (code / "listenkeys").rglob("*.py")}
    assert zipped == {path.relative_to(source) for path in files[2:]}


def test_compiled_parts_are_for_arm64(code: Path) -> None:
    machines = {path.name: struct.unpack_from("<H", path.read_bytes(), 18)[0] for path in code.rglob("*.so")}
    assert machines
    assert set(machines.values()) == {AARCH64}


def test_bytecode_of_every_file_is_taken_without_its_source(code: Path) -> None:
    compiled = {path.relative_to(code) for path in code.rglob("*.pyc")}
    if not compiled:
        pytest.skip("built without a Python 3.13")
    sources = {path.relative_to(code) for path in code.rglob("*.py")}

    assert compiled == {path.parent / f"__pycache__/{path.stem}.cpython-313.pyc" for path in sources}
    assert {struct.unpack_from("<I", (code / path).read_bytes(), 4)[0] for path in compiled} == {
        UNCHECKED_HASH
    }
    # A traceback names the file as it is in Lambda, not as it was on the machine that built it.
    assert b"/var/task/app.py" in (code / "__pycache__/app.cpython-313.pyc").read_bytes()


def test_the_zip_stays_small(code: Path) -> None:
    assert code.with_suffix(".zip").stat().st_size < 2_500_000
