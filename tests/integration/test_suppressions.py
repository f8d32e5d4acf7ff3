"""Every check that is silenced says why where it stands, and docs/security.md lists the same ones."""

import re

from tests.paths import ROOT

SECTION = "## Checks that are suppressed, and why"
CODE = [
    path
    for folder in ("functions", "listenkey_keeper", "local", "simulation")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
Row = tuple[str, str, str]


def in_the_template() -> list[Row]:
    """Return the check, the resource and the reason of each `# checkov:skip=` comment."""
    rows, resource = [], ""
    for line in (ROOT / "template.yaml").read_text().splitlines():
        if name := re.match(r"  (\w+):$", line):
            resource = name[1]
        if skip := re.match(r"    # checkov:skip=(\w+):(.+)$", line):
            rows.append((skip[1], resource, skip[2].strip()))
    return rows


def in_the_code() -> list[Row]:
    """Return the check, the file and the reason of each `# nosec`."""
    return [
        (check, path.name, reason)
        for path in CODE
        for check, reason in re.findall(r"# nosec (\w+) # noqa: \w+ - (.+)$", path.read_text(), re.MULTILINE)
    ]


def in_the_page() -> list[Row]:
    _, _, section = (ROOT / "docs/security.md").read_text().partition(f"{SECTION}\n")
    rows = re.findall(r"^\| (\w+) \| `([\w.]+)` \| (.+) \|$", section.partition("\n## ")[0], re.MULTILINE)
    return [(check, where, reason) for check, where, reason in rows]


def test_the_page_lists_the_suppressed_checks_of_the_template_and_the_code() -> None:
    assert in_the_template()
    assert sorted(in_the_page()) == sorted(in_the_template() + in_the_code())


def test_no_check_is_suppressed_in_another_way() -> None:
    template = (ROOT / "template.yaml").read_text()
    assert len(re.findall(r"checkov", template)) == len(in_the_template())
    assert "cfn-lint" not in template
    assert len(re.findall("nosec", "".join(path.read_text() for path in CODE))) == len(in_the_code())


def test_every_lint_that_is_silenced_has_its_reason_beside_it() -> None:
    lines = [line for path in CODE for line in path.read_text().splitlines()]
    assert [line for line in lines if re.search(r"# noqa(?!: [A-Z]+\d+ - \w)", line)] == []
