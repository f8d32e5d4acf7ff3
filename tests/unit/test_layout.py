"""What may import what, and how large a module may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tests.paths import ROOT

FUNCTION = ROOT / "functions/keepalive"
PACKAGES = {"listenkeys": FUNCTION / "listenkeys", "listenkey_keeper": ROOT / "listenkey_keeper"}


def modules() -> dict[str, Path]:
    """Return the file of each module, by its name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, path: Path) -> Iterator[str]:
    """Yield the full names that a module imports anywhere in it, also late and for type checking alone."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{name}.{each.name}" for each in node.names)


def graph() -> dict[str, set[str]]:
    """Return for each module those of the two packages that it imports."""
    found = modules()

    def module_of(name: str) -> str | None:
        """Return the module that a name is, or is in."""
        return next((each for each in (name, name.rpartition(".")[0]) if each in found), None)

    return {
        module: {each for each in map(module_of, imports(module, path)) if each and each != module}
        for module, path in found.items()
    }


def test_no_module_imports_itself_by_way_of_another() -> None:
    # Imports for type checking count: a module that needs another's types cannot be read without it.
    list(TopologicalSorter(graph()).static_order())  # raises CycleError, which names the circle


def test_the_function_imports_nothing_of_the_command_and_the_stream() -> None:
    arrows = graph()
    assert arrows["listenkeys.keeper"] >= {"listenkeys.selection", "listenkeys.aws.records"}
    assert [
        (module, each)
        for module, found in arrows.items()
        if module.startswith("listenkeys.")
        for each in found
        if each.startswith("listenkey_keeper")
    ] == []


def test_a_module_of_the_function_has_at_most_200_lines_and_a_class_120() -> None:
    texts = {
        str(path.relative_to(FUNCTION)): path.read_text(encoding="utf-8") for path in FUNCTION.rglob("*.py")
    }
    classes = {
        f"{name} {node.name}": node.end_lineno - node.lineno + 1
        for name, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef) and node.end_lineno
    }
    assert texts.keys() >= {"app.py", "listenkeys/keeper.py"}
    assert {name: len(text.splitlines()) for name, text in texts.items() if text.count("\n") > 200} == {}
    assert {name: lines for name, lines in classes.items() if lines > 120} == {}


def test_a_tests_name_has_less_than_70_characters() -> None:
    names = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert [name for name in sorted(names) if len(name) >= 70] == []
