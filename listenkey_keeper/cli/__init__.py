"""The operator's command: what the accounts' listenKeys are doing, from a terminal."""

import sys


def main() -> None:
    """Run `listenkeys`, or say in one line which package is missing."""
    try:
        from .main import app
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as missing:
        if missing.name not in ("rich", "typer"):
            raise
        sys.exit(f"listenkeys: {missing.name} is missing: pip install '.[cli]' in listenkey-keeper's folder")
    app(prog_name="listenkeys")
