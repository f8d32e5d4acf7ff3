"""The operator's command `listenkeys`: manages the accounts and shows the state of their listenKeys."""

import sys


def main() -> None:
    """Run `listenkeys`. If a package is missing, print its name in one line and exit with 2."""
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
