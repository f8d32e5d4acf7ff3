"""Reads the code blocks of pages, so that the tests run exactly what the pages show."""

import re

from tests.paths import ROOT

PAGE = (ROOT / "docs/consumer.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return a text's code blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
