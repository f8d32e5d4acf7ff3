"""What a run may not need is made when it is first used: most runs are sweeps that find nothing to do."""

import threading
from collections.abc import Callable
from typing import Any

# One for all: boto3 makes one client at a time, and any of the workers may be the first to ask.
_making = threading.Lock()


def lazy(make: Callable[[], object]) -> Any:
    """Return a stand-in for what `make` returns; `make` is called once, at the first use."""
    return _Lazy(make)


class _Lazy:
    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make
        self._made: object = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            with _making:
                if self._made is None:
                    self._made = self._make()
        return getattr(self._made, name)
