"""What pyproject.toml cannot say.

The build starts afresh, and the links of the README are absolute for a package index.
"""

import re
import shutil
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def readme() -> str:
    """Return README.md with its links between files made absolute."""
    home = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Homepage"]
    package = (ROOT / "listenkey_keeper/__init__.py").read_text(encoding="utf-8")
    [version] = re.findall(r'^__version__ = "(.+)"$', package, re.MULTILINE)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = r"(!\[[^\]]*\]\(|(?:src|srcset)=\")(?!https?:)"
    text = re.sub(pictures, rf"\1{home}/raw/v{version}/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\(|href=\")(?!https?:|#)", rf"\1{home}/blob/v{version}/", text)


class BuildAfresh(build_py):
    """Begin without an earlier build, of which it would keep newer files, and those that are gone now."""

    def run(self) -> None:
        if Path(self.build_lib).exists():
            shutil.rmtree(self.build_lib)
        super().run()


setup(
    cmdclass={"build_py": BuildAfresh},
    long_description=readme(),
    long_description_content_type="text/markdown",
)
