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
        needs = "pip install '.[cli]' in listenkey-keeper's folder"
        sys.stderr.write(f"listenkeys: {missing.name} is missing: {needs}\n")
        sys.exit(2)
    app(prog_name="listenkeys")
