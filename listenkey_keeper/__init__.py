"""What operators and bots install.

UserDataStream, SyncUserDataStream   an account's events, for bots; need the extra `stream`
Interrupted, Gap                     events may be missing from now on; events arrive again
ListenKeyChanges                     wakes streams when a key changes
ListenKeys, read_listen_key          the listenKey itself, for a websocket of your own; they need boto3 alone
report_expired                       tells the keeper that a key is dead
ListenKey, ListenKeyUnavailable      what these return and raise
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .stream.blocking import SyncUserDataStream
    from .stream.changes import ListenKeyChanges
    from .stream.gaps import Gap, Interrupted
    from .stream.keys import ListenKey, ListenKeys, ListenKeyUnavailable, read_listen_key
    from .stream.report import report_expired
    from .stream.user_data import UserDataStream

# The one place of the number. Also here, held to it by .ci/release_notes.py: the template's
# SemanticVersion and the newest entry of CHANGELOG.md.
__version__ = "0.1.0"
__all__ = [
    "Gap",
    "Interrupted",
    "ListenKey",
    "ListenKeyChanges",
    "ListenKeyUnavailable",
    "ListenKeys",
    "SyncUserDataStream",
    "UserDataStream",
    "read_listen_key",
    "report_expired",
]
_FILES = {
    "Gap": "gaps",
    "Interrupted": "gaps",
    "ListenKeyChanges": "changes",
    "SyncUserDataStream": "blocking",
    "UserDataStream": "user_data",
    "report_expired": "report",
}

if not TYPE_CHECKING:  # a type checker would take every misspelt name for one that is there

    def __getattr__(name: str) -> Any:
        # Only when they are asked for: to read a key needs no websockets, and the command none of it.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".stream.{_FILES.get(name, 'keys')}", __name__), name)
