"""What operators and bots install.

ListenKeys, read_listen_key       the listenKey of an account, for a websocket of your own; need boto3 alone
ListenKey, ListenKeyUnavailable   what these answer and raise
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .stream.keys import ListenKey, ListenKeys, ListenKeyUnavailable, read_listen_key

# The one place of the number. Also here, held to it by .ci/release_notes.py: the template's
# SemanticVersion and the newest entry of CHANGELOG.md.
__version__ = "0.1.0"
__all__ = ["ListenKey", "ListenKeyUnavailable", "ListenKeys", "read_listen_key"]


def __getattr__(name: str) -> Any:
    # Only when they are asked for: the command needs none of it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(".stream.keys", __name__), name)
