"""What a run may not need is made when it is first used: most runs are sweeps that find nothing to do."""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

# One for all: boto3 makes one client at a time, and any of the workers may be the first to ask.
_making = threading.Lock()


class Lazy:
    """Stands in for what `make` returns; `make` is called once, at the first use."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = cache(make)

    def __getattr__(self, name: str) -> Any:
        with _making:
            return getattr(self._make(), name)
