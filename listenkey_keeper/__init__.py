"""The package that operators and bots install: the command `listenkeys`, and this library for bots.

UserDataStream, SyncUserDataStream   an account's events; they need the extra `stream`
Interrupted, Gap                     items of a stream: events may be missing from now on; events arrive again
ListenKeyChanges                     wakes streams when a key changes
ListenKeys, read_listen_key          the listenKey itself, for a websocket of your own; they need only boto3
report_expired                       tells the keeper that a key is dead
ListenKey                            what ListenKeys.read and read_listen_key return
ListenKeyUnavailable                 what they raise
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .stream.blocking import SyncUserDataStream
    from .stream.changes import ListenKeyChanges
    from .stream.gaps import Gap, Interrupted
    from .stream.keys import ListenKey, ListenKeys, ListenKeyUnavailable, read_listen_key
    from .stream.report import report_expired
    from .stream.user_data import UserDataStream

# The version is defined here. The template's SemanticVersion and the newest entry of CHANGELOG.md repeat it;
# .ci/release_notes.py checks that they agree.
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

if not TYPE_CHECKING:  # a type checker that sees __getattr__ accepts every misspelt name

    def __getattr__(name: str) -> Any:
        # Imported on first use: reading a key does not need websockets, and the command needs none of this.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f".stream.{_FILES.get(name, 'keys')}", __name__), name)
