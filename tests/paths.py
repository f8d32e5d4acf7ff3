"""The project's paths, for tests that read its files or start its programs."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
# With the package as it is here, whatever the directory a program is started in.
PYTHONPATH = f"{ROOT / 'functions/keepalive'}:{ROOT}"
