"""Print the changelog's section of a version: release_notes.py TAG.

Ends with 1, and says why, unless the tag, the changelog's newest section, the template and the package
name one version.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Where the number stands, each with how to find it there.
PLACES = {
    "listenkey_keeper/__init__.py": r'^__version__ = "(.+)"$',
    "template.yaml": r"^ +SemanticVersion: (\S+)$",
    "CHANGELOG.md": r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$",
}


def versions(root: Path) -> dict[str, str]:
    """Return the version that each place names first; empty where it names none."""
    found = {}
    for name, pattern in PLACES.items():
        match = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match[1] if match else ""
    return found


def notes(root: Path) -> str:
    """Return the text of the changelog's newest version."""
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
