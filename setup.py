"""What pyproject.toml cannot say: the README for a package index, its links made absolute."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

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


setup(long_description=readme(), long_description_content_type="text/markdown")
