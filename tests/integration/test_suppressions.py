"""Every check that is silenced says why where it stands."""

import re

from tests.paths import ROOT

CODE = [
    path.read_text()
    for folder in ("functions", "listenkey_keeper", "local", "simulation")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def test_every_suppressed_check_has_its_reason_beside_it() -> None:
    template, code = (ROOT / "template.yaml").read_text(), "".join(CODE)
    assert "cfn-lint" not in template
    for word, text, whole in (
        ("checkov", template, r"^    # checkov:skip=\w+:\w.+$"),
        ("nosec", code, r"# nosec \w+ # noqa: \w+ - .+$"),
    ):
        assert len(re.findall(word, text)) == len(re.findall(whole, text, re.MULTILINE)) > 0


def test_every_lint_that_is_silenced_has_its_reason_beside_it() -> None:
    lines = "".join(CODE).splitlines()
    assert [line for line in lines if re.search(r"# noqa(?!: [A-Z]+\d+ - \w)", line)] == []
