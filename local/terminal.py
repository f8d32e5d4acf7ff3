"""Shows progress (a spinner in a terminal, lines elsewhere), and errors in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import track


class Parser(argparse.ArgumentParser):
    """A parser of options that prints no usage text above an error."""

    def error(self, message: str) -> NoReturn:
        """Raise SystemExit with one line."""
        raise SystemExit(f"{self.prog}: {message}")


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say on standard error what is being done, until the block ends."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(f"{what} ..."):
            yield
    else:
        print(f"{what} ...", file=sys.stderr, flush=True)
        yield


def wait_for(futures: Collection[Future[Any]], what: str) -> None:
    """Wait until all futures are done, and show on standard error how many are."""
    console, done = Console(stderr=True), as_completed(futures)
    if console.is_terminal:
        for _ in track(done, what, total=len(futures), console=console):
            pass
        return
    print(f"{what}: 0 of {len(futures)}", file=sys.stderr, flush=True)
    for number, _ in enumerate(done, 1):
        print(f"{what}: {number} of {len(futures)}", file=sys.stderr, flush=True)
