"""`make mutants`: do the tests notice when the program is wrong?

Makes one edit at a time in a copy of the program, and runs the tests that run the edited line. An edit that
no test notices survives. An edit changes a comparison, a condition, a constant or a caught exception, or
removes a statement. The sample depends only on the seed, and each kind of edit is equally likely.

Which tests run a line is measured once, by coverage.py. A line that runs when its module is imported counts
for all tests that run anything else in that module. If the test that noticed an edit also fails without it,
this proves nothing, and the edit is tried again without that test.

The measurement and the result of each edit are kept in .mutants until a Python file changes. So a run that
was stopped continues where it was, and several processes (`--part 1/2`, `--part 2/2`) share one measurement.

Not edited: imports, annotations, docstrings, texts for people (those with a space), and code that only type
checkers read.
"""

from __future__ import annotations

import argparse
import ast
import copy
import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

PROGRAM = ("functions/keepalive", "listenkey_keeper")
DURATIONS = "MUTANTS_DURATIONS"  # variable with the path of the file that the plugin below writes
COVERAGE = "MUTANTS_COVERAGE"  # variable with the path of coverage.py's settings for tests' subprocesses
FIRST = 30  # so many of the quickest tests run first
IMPORT = ""  # in a line's set of tests: the line also runs outside any test
CAUGHT, SURVIVED, UNTESTED = "caught", "survived", "no test runs it"
_OTHER: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_REMOVABLE = (ast.Expr, ast.Assign, ast.AugAssign, ast.Return, ast.Raise, ast.Continue, ast.Break, ast.Delete)

# This module is also a pytest plugin, loaded while coverage is measured. It notes how long each test takes
# and whether it passes.
_tests: dict[str, tuple[float, bool]] = {}


def pytest_runtest_setup() -> None:
    """Have a test's subprocesses read coverage.py's settings again, so that they contain the test's name.

    By default, coverage.py passes on the settings that it read before the first test.
    """
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    os.environ["COVERAGE_PROCESS_START"] = os.environ[COVERAGE]


def pytest_runtest_logreport(report) -> None:  # type: ignore[no-untyped-def]
    """Note how long a test takes and whether it passes."""
    seconds, passed = _tests.get(report.nodeid, (0.0, True))
    _tests[report.nodeid] = seconds + report.duration, passed and not report.failed


def pytest_sessionfinish(session) -> None:  # type: ignore[no-untyped-def]
    """Write the durations and results to the file that DURATIONS names, if it is set."""
    if DURATIONS in os.environ and not hasattr(session.config, "workerinput"):
        Path(os.environ[DURATIONS]).write_text(json.dumps(_tests))


@dataclass(frozen=True, slots=True)
class Edit:
    """A single edit: the text from `start` to `end` (offsets in bytes) of a file is replaced by `new`."""

    path: str
    kind: str
    lines: range  # of the whole statement: coverage.py may count any of them
    line: int
    start: int
    end: int
    old: str
    new: str

    def applied(self, source: bytes) -> bytes:
        """Return the edited source."""
        return source[: self.start] + self.new.encode() + source[self.end :]

    def __str__(self) -> str:
        old, new = (" ".join(text.split())[:60] for text in (self.old, self.new))
        return f"{self.path}:{self.line} {self.kind}: {old}  ->  {new}"


def edits(path: str, source: bytes) -> Iterator[Edit]:
    """Yield every possible edit of a file."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def edit(kind: str, node: ast.expr | ast.stmt, new: str, within: ast.AST) -> Edit:
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        first, last = getattr(within, "lineno", node.lineno), node.end_lineno or node.lineno
        return Edit(
            path, kind, range(first, last + 1), node.lineno, start, end, source[start:end].decode(), new
        )

    def walk(node: ast.AST, within: ast.AST, inside: bool) -> Iterator[Edit]:
        """Yield the edits of a node and its children.

        `within` is the statement that contains the node; `inside` says whether it is in a function.
        """
        if isinstance(node, ast.stmt | ast.excepthandler):
            within = node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom | ast.MatchValue):
            return  # imports are not edited; the parts of an f-string have no exact position
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring:
            return
        if isinstance(node, _REMOVABLE) and inside and ast.unparse(node) not in ("return", "return None"):
            yield edit("removed", node, "return None" if isinstance(node, ast.Return) else "pass", within)
        if isinstance(node, ast.Compare):
            for place, op in enumerate(node.ops):
                other = copy.deepcopy(node)
                other.ops[place] = _OTHER[type(op)]()
                yield edit("comparison", node, f"({ast.unparse(other)})", within)
        elif isinstance(node, ast.BoolOp):
            turned = copy.deepcopy(node)
            turned.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield edit("condition", node, f"({ast.unparse(turned)})", within)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield edit("condition", node, f"bool({ast.unparse(node.operand)})", within)
        elif isinstance(node, ast.Constant):
            value = node.value
            if isinstance(value, bool):
                yield edit("constant", node, repr(not value), within)
            elif isinstance(value, int | float):
                yield edit("constant", node, repr(value + 1), within)
            elif isinstance(value, str) and value and " " not in value:
                yield edit("constant", node, repr(value + "X"), within)
        elif isinstance(node, ast.ExceptHandler) and node.type:
            if isinstance(node.type, ast.Tuple):
                for left_out in node.type.elts:
                    others = ", ".join(ast.unparse(e) for e in node.type.elts if e is not left_out)
                    yield edit("exception", node.type, f"({others},)", within)
            else:
                yield edit("exception", node.type, "()", within)
        if isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare):
            yield edit("condition", node.test, f"(not ({ast.unparse(node.test)}))", within)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            yield edit("exception", node, "contextlib.nullcontext()", within)

        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from walk(child, within, inside or function)

    yield from walk(ast.parse(source), ast.Module(), inside=False)


def compiles(source: bytes) -> bool:
    """Return whether the source compiles. If an assignment is removed, a `nonlocal` may become invalid."""
    try:
        compile(source, "edited", "exec")
    except SyntaxError:
        return False
    return True


def sample(root: Path, seed: str, count: int) -> list[Edit]:
    """Return `count` random edits of the program; each kind is equally likely."""
    of_kind: dict[str, list[Edit]] = defaultdict(list)
    for folder in PROGRAM:
        for path in sorted((root / folder).rglob("*.py")):
            for edit in edits(str(path.relative_to(root)), path.read_bytes()):
                of_kind[edit.kind].append(edit)
    for found in of_kind.values():
        random.Random(f"{seed}/{found[0].kind}").shuffle(found)
    rng, chosen = random.Random(seed), []
    while len(chosen) < count and of_kind:
        kind = rng.choice(sorted(of_kind))
        edit = of_kind[kind].pop()
        if compiles(edit.applied((root / edit.path).read_bytes())):
            chosen.append(edit)
        if not of_kind[kind]:
            del of_kind[kind]
    return chosen


class Tests:
    """Which tests run which lines, and how many seconds each test takes.

    Tests in `failed` fail without any edit and are not used.
    """

    def __init__(
        self, seconds: dict[str, float], failed: list[str], of: Mapping[str, Mapping[int, set[str]]]
    ) -> None:
        self.seconds, self.failed, self._of = seconds, failed, of

    @classmethod
    def measured(cls, data: Path, durations: Path, root: Path) -> Tests:
        """Read the files that coverage.py and the plugin above have written."""
        from coverage import CoverageData

        found: dict[str, tuple[float, bool]] = json.loads(durations.read_text())
        seconds = {test: seconds for test, (seconds, passed) in found.items() if passed}
        failed = sorted(test for test, (_, passed) in found.items() if not passed)
        of: dict[str, dict[int, set[str]]] = {}
        measured = CoverageData(str(data))
        measured.read()
        for file in measured.measured_files():
            by_line = measured.contexts_by_lineno(file)
            of[str(Path(file).relative_to(root))] = {
                line: {test for context in contexts if (test := _test(context)) in seconds or not test}
                for line, contexts in by_line.items()
            }
        return cls(seconds, failed, of)

    @classmethod
    def read(cls, file: Path) -> Tests:
        """Read a file that `write` has written."""
        document = json.loads(file.read_text())
        names = [*document["seconds"], IMPORT]
        of = {
            path: {int(line): {names[place] for place in places} for line, places in lines.items()}
            for path, lines in document["of"].items()
        }
        return cls(document["seconds"], document["failed"], of)

    def write(self, file: Path) -> None:
        """Write everything to a file."""
        places = {name: place for place, name in enumerate([*self.seconds, IMPORT])}
        of = {
            path: {line: sorted(places[test] for test in tests) for line, tests in lines.items()}
            for path, lines in self._of.items()
        }
        file.write_text(json.dumps({"seconds": self.seconds, "failed": self.failed, "of": of}))

    def of(self, edit: Edit) -> list[str]:
        """Return the tests that run the edited statement, fastest first."""
        lines = self._of.get(edit.path, {})
        tests = set().union(*(lines.get(line, set()) for line in edit.lines))
        if IMPORT in tests:
            tests = set().union(*lines.values())
        return sorted(tests - {IMPORT}, key=lambda test: (self.seconds[test], test))


def _test(context: str) -> str:
    """Return the test of a coverage context.

    A context is "test|phase" in pytest itself and "test (phase)" in a test's subprocess.
    """
    test = context.strip("|")
    for end in ("|setup", "|run", "|teardown", " (setup)", " (call)", " (teardown)"):
        test = test.removesuffix(end)
    return test


def state_of(project: Path) -> str:
    """Return a hash of the project's Python files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=project, capture_output=True, check=True)
    digest = hashlib.sha256()
    for name in filter(None, listed.stdout.decode().split("\0")):
        if name.endswith(".py") and (project / name).exists():
            digest.update(name.encode() + (project / name).read_bytes())
    return digest.hexdigest()[:12]


def copy_of(project: Path, folder: Path) -> Path:
    """Copy the project's files into a folder and link its virtual environment. Returns the folder."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=project, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (project / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project / name, folder / name, follow_symlinks=False)
    (folder / ".venv").symlink_to(project / ".venv")
    return folder


def pytest(root: Path, *arguments: str, limit: float | None = None, **variables: str) -> tuple[bool, str]:
    """Run pytest in a copy of the project; return whether it passed, and its output.

    A run that takes longer than `limit` seconds is ended and has not passed.
    """
    environ = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": "functions/keepalive:.",
        **variables,
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    # The output goes to a file: a process that a test has left behind would keep a pipe open.
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=root, env=environ, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            passed = process.wait(limit) in (0, 5)  # 5: no tests were left to run
        except subprocess.TimeoutExpired:
            passed = False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
        output.seek(0)
        return passed, output.read()


def measure(root: Path, jobs: int, marks: str) -> Tests:
    """Run the tests once with coverage; `marks` selects them as pytest's -m does."""
    data, durations, config = root / ".coverage", root / "durations.json", root / "coverage.ini"
    config.write_text(
        "[run]\nbranch = false\npatch = subprocess\nparallel = true\n"
        f"source = {', '.join(str(root / folder) for folder in PROGRAM)}\n"
        f"data_file = {data}\ncontext = ${{PYTEST_CURRENT_TEST-}}\n"
    )
    cov = [f"--cov-config={config}", "--cov-context=test", "--cov-report=", "--no-cov-on-fail"]
    folders = [f"--cov={root / folder}" for folder in PROGRAM]
    selected = ["-m", marks] if marks else []
    arguments = [*cov, *folders, *selected, "-p", "tests.mutants", f"-n{jobs}", "--dist", "loadfile"]
    _, said = pytest(root, *arguments, **{DURATIONS: str(durations), COVERAGE: str(config)})
    print(said.splitlines()[-1])
    subprocess.run(
        [sys.executable, "-m", "coverage", "combine", "--keep", "--append", f"--rcfile={config}"],
        cwd=root, check=False, capture_output=True,
    )  # fmt: skip
    return Tests.measured(data, durations, root)


def run_tests(root: Path, tests: list[str]) -> str | None:
    """Run these tests until one fails; return its name, "" if the run did not end, or None if all pass.

    The fastest run first, in a pytest of their own: they notice most edits, and pytest imports less.
    """
    for some in filter(None, (tests[:FIRST], tests[FIRST:])):
        failed = _run(root, some)
        if failed is not None:
            return failed
    return None


def _run(root: Path, tests: list[str]) -> str | None:
    names = root / "tests.txt"
    names.write_text("\n".join(tests))
    passed, said = pytest(root, "-x", "--timeout=120", f"@{names}", limit=1200)
    if passed:
        return None
    failed = [
        line.split(" ", 1)[1].split(" - ")[0]
        for line in said.splitlines()
        if line[:7] in ("FAILED ", "ERROR t")
    ]
    return failed[0] if failed else ""


def attempt(root: Path, edit: Edit, tests: list[str]) -> str | None:
    """Make the edit, run the tests and undo it. Returns what `run_tests` returns."""
    file = root / edit.path
    source = file.read_bytes()
    try:
        file.write_bytes(edit.applied(source))
        return run_tests(root, tests)
    finally:
        file.write_bytes(source)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", default="1")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--part", default="1/1", help="such as 2/3: the second of three processes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--marks", default="", help="which tests, as pytest's -m (default: those of make test)"
    )
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="FILE:LINE", help="all edits of these lines instead"
    )
    parser.add_argument("--list", action="store_true", help="say what would be edited")
    options = parser.parse_args()
    project = Path.cwd()
    chosen = sample(project, options.seed, options.count if not options.only else 10**9)
    if options.only:
        chosen = [
            edit for edit in chosen if any(f"{edit.path}:{edit.line}".endswith(at) for at in options.only)
        ]
    part, parts = map(int, options.part.split("/"))
    chosen = chosen[part - 1 :: parts]
    if options.list:
        print(*chosen, sep="\n")
        return 0
    # The measurement and the results are kept as long as no file changes.
    kept = project / ".mutants" / f"{state_of(project)}{options.marks and '-' + options.marks}"
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        roots: SimpleQueue[Path] = SimpleQueue()
        for job in range(options.jobs):
            roots.put(copy_of(project, Path(folder) / str(job)))
        with (kept / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (kept / "tests.json").exists():
                first = roots.get()
                measure(first, options.jobs, options.marks).write(kept / "tests.json")
                roots.put(first)
        tests = Tests.read(kept / "tests.json")
        print(
            f"{len(tests.seconds)} tests; {len(tests.failed)} fail without any edit",
            *tests.failed,
            sep="\n  ",
        )
        flaky: set[str] = set()

        def judge(edit: Edit) -> tuple[Edit, str, str]:
            verdict = kept / hashlib.sha256(repr(edit).encode()).hexdigest()[:16]
            if not verdict.exists():
                verdict.write_text(json.dumps(try_out(edit)))
            return edit, *json.loads(verdict.read_text())

        def try_out(edit: Edit) -> tuple[str, str]:
            running, began = tests.of(edit), time.monotonic()
            root = roots.get()
            try:
                while left := [test for test in running if test not in flaky]:
                    noticed = attempt(root, edit, left)
                    took = f"{time.monotonic() - began:.0f} s"
                    if noticed is None:
                        return SURVIVED, f"{len(left)} tests, {took}"
                    if not noticed or run_tests(root, [noticed]) is None:
                        return CAUGHT, f"{noticed or 'it never ends'}, {took}"
                    flaky.add(noticed)
                return UNTESTED, ""
            finally:
                roots.put(root)

        began, counts = time.monotonic(), Counter[str]()
        with ThreadPoolExecutor(options.jobs) as pool:
            for edit, verdict, why in pool.map(judge, chosen):
                counts[verdict] += 1
                print(f"{verdict:>9}  {edit}" + (f"  [{why}]" if why else ""), flush=True)
        minutes = (time.monotonic() - began) / 60
        share = 100 * counts[CAUGHT] / max(1, len(chosen))
        caught = f"{counts[CAUGHT]} of {len(chosen)} edits caught ({share:.0f} %)"
        print(f"seed {options.seed}: {caught}, {minutes:.0f} min")
    return 0


if __name__ == "__main__":
    sys.exit(main())
