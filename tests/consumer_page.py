"""The code blocks of docs/consumer.md, so that what the page shows is what the tests run."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = (Path(__file__).parent.parent / "docs" / "consumer.md").read_text()


def block(language: str) -> str:
    """Return the page's one code block in that language."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def page_module() -> Any:
    """Return the page's Python as a module."""
    module = ModuleType("consumer")
    exec(compile(block("python"), "docs/consumer.md", "exec"), module.__dict__)
    return module


def local_urls(urls: dict[str, str], streams: str) -> dict[str, str]:
    """Return the page's URLs with the stand-in for every host."""
    return {product: re.sub(r"wss://[^/]+", streams, url) for product, url in urls.items()}
