"""`python -m local COMMAND`, which the make targets call."""

import os
import sys
from importlib import import_module

COMMANDS = {
    "run": "local.run",
    "up": "local.up",
    "down": "local.running",
    "invoke": "local.aws.runtime",
    "pictures": "local.pictures",
    "simulate": "simulation.run",
}


def main() -> int:
    if sys.argv[1:2] == [] or sys.argv[1] not in COMMANDS:
        raise SystemExit(f"python -m local needs a command: {', '.join(COMMANDS)}")
    try:
        # Imported here because it takes a while: Ctrl-C during the import is handled too.
        return int(import_module(COMMANDS[sys.argv[1]]).main(sys.argv[2:]))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has gone. Python would fail again when it closes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        raise SystemExit(f"{error.filename}: {error.strerror}") from None


if __name__ == "__main__":
    raise SystemExit(main())
