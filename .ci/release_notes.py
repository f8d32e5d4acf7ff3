"""Print the changelog's section of a version: release_notes.py TAG.

Exits with 1 and an error unless the tag, the changelog's newest section, the template and the package have
the same version.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# The files that contain the version, each with a pattern that finds it.
PLACES = {
    "listenkey_keeper/__init__.py": r'^__version__ = "(.+)"$',
    "template.yaml": r"^ +SemanticVersion: (\S+)$",
    "CHANGELOG.md": r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$",
}


def versions(root: Path) -> dict[str, str]:
    """Return the first version in each file of PLACES, by its name; empty if there is none."""
    found = {}
    for name, pattern in PLACES.items():
        match = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match[1] if match else ""
    return found


def notes(root: Path) -> str:
    """Return the text of the changelog's newest section."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.split(r"^## \[\d.*$", text, maxsplit=2, flags=re.MULTILINE)[1].split("\n[")[0].strip()


def main(tag: str) -> None:
    found = {"the tag": tag.removeprefix("v"), **versions(ROOT)}
    if len(set(found.values())) > 1:
        said = ", ".join(f"{place} says {version or 'none'}" for place, version in found.items())
        sys.exit(f"not one version: {said}")
    sys.stdout.write(f"{notes(ROOT)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
