"""The shape of the code: layers, size, docstrings. Each rule is shown to fail on a bad sample."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "recstream"
FLOWS = ROOT / "flows"

# of the standard library: what reads the clock, the environment, the machine, or chance, and what writes
IMPURE = {
    *("asyncio", "getpass", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "platform"),
    *("random", "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys"),
    *("tempfile", "threading", "time", "urllib", "uuid"),
}
CLOCKS = {"now", "utcnow", "today"}
CORE_MAY = {"numpy", "numba", "scipy", "recstream.core", *(sys.stdlib_module_names - IMPURE), "__future__"}
# decoding a record is pure and has to be fast
CORE_MAY |= {"orjson", "msgspec", "typing_extensions"}

FORBIDDEN = {
    "io": {"recstream.engine", "flows", "bytewax.operators", "bytewax.dataflow"},
    "engine": {"recstream.io", "confluent_kafka", "lancedb", "torch", "transformers", "flows"},
}
MAX_LINES = 400
MAX_FLOW_LINES = 120
MAY_PRINT = {"cli", "demo", "bench", "doctor"}

Rule = Callable[[Path], Iterator[str]]


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def is_within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def imported(path: Path) -> Iterator[str]:
    """Absolute names of what a module imports, wherever in it; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def core_imports(path: Path) -> Iterator[str]:
    yield from (f"imports {name}" for name in imported(path) if not is_within(name, CORE_MAY))


def clock_reads(path: Path) -> Iterator[str]:
    """Calls of ``datetime.now`` and its like."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CLOCKS
            and ast.unparse(node.func.value).split(".")[-1] in {"datetime", "date"}
        ):
            yield f"reads the clock in line {node.lineno}"


def io_imports(path: Path) -> Iterator[str]:
    yield from (f"imports {name}" for name in imported(path) if is_within(name, FORBIDDEN["io"]))


def engine_imports(path: Path) -> Iterator[str]:
    yield from (f"imports {name}" for name in imported(path) if is_within(name, FORBIDDEN["engine"]))


def too_long(path: Path) -> Iterator[str]:
    if (lines := len(path.read_text().splitlines())) > MAX_LINES:
        yield f"{lines} lines, at most {MAX_LINES}"


def flow_too_long(path: Path) -> Iterator[str]:
    if (lines := len(path.read_text().splitlines())) >= MAX_FLOW_LINES:
        yield f"{lines} lines, under {MAX_FLOW_LINES}"


def without_docstring(path: Path) -> Iterator[str]:
    """Public classes, functions and methods that say nothing, and silent modules."""
    tree = ast.parse(path.read_text())
    if not ast.get_docstring(tree):
        yield "module"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and is_public(node, tree):
            yield from silent(node)


def silent(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[str]:
    if not ast.get_docstring(node):
        yield node.name
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            if (
                isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef))
                and not inner.name.startswith("_")
                and not ast.get_docstring(inner)
                and not {"override", "overload"}
                & {ast.unparse(d).split(".")[-1] for d in inner.decorator_list}
            ):
                yield f"{node.name}.{inner.name}"


def is_public(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, tree: ast.Module) -> bool:
    return not node.name.startswith("_") or node.name in exported(tree)


def exported(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
        ):
            return set(ast.literal_eval(node.value))
    return set()


def all_that_is_not_there(path: Path) -> Iterator[str]:
    """Names in ``__all__`` that the module does not define or import."""
    tree = ast.parse(path.read_text())
    bound: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        bound |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        bound |= {
            a.asname or a.name for n in ast.walk(node) if isinstance(n, ast.ImportFrom) for a in n.names
        }
    yield from sorted(exported(tree) - bound)


def prints(path: Path) -> Iterator[str]:
    if MAY_PRINT & {path.stem.split("_")[0], path.parent.name}:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"print( in line {node.lineno}"


RULES: dict[str, tuple[Rule, list[Path], str]] = {
    "core imports what is pure": (core_imports, modules(PACKAGE / "core"), "import os.path"),
    "core imports no clock": (core_imports, modules(PACKAGE / "core"), "def f():\n    from time import time"),
    "core reads no clock": (clock_reads, modules(PACKAGE / "core"), "x = datetime.now(UTC)"),
    "core imports no other layer": (
        core_imports,
        modules(PACKAGE / "core"),
        "from recstream.io import files",
    ),
    "io leaves flows to the engine": (
        io_imports,
        modules(PACKAGE / "io"),
        "from bytewax import operators as op",
    ),
    "io is below the engine": (io_imports, modules(PACKAGE / "io"), "import recstream.engine.worker"),
    "engine knows ports only": (
        engine_imports,
        modules(PACKAGE / "engine"),
        "from recstream.io.files.source import X",
    ),
    "engine has no client": (engine_imports, modules(PACKAGE / "engine"), "import lancedb"),
    "no module is long": (too_long, modules(PACKAGE), "x = 1\n" * (MAX_LINES + 1)),
    "flows are short": (flow_too_long, modules(FLOWS), "x = 1\n" * MAX_FLOW_LINES),
    "modules have docstrings": (without_docstring, modules(PACKAGE) + modules(FLOWS), "x = 1"),
    "functions have docstrings": (without_docstring, modules(PACKAGE), '"""M."""\ndef f(): ...'),
    "methods have docstrings": (
        without_docstring,
        modules(PACKAGE),
        '"""M."""\nclass A:\n "A."\n def f(self): ...',
    ),
    "__all__ names what is there": (all_that_is_not_there, modules(PACKAGE), "__all__ = ['gone']"),
    "only the command line prints": (prints, modules(PACKAGE) + modules(FLOWS), "def f():\n    print('x')"),
}


@pytest.mark.parametrize("name", RULES)
def test_the_code_keeps(name: str) -> None:
    rule, paths, _ = RULES[name]
    assert paths, "there is nothing to look at"
    assert [f"{path.relative_to(ROOT)}: {fault}" for path in paths for fault in rule(path)] == []


@pytest.mark.parametrize("name", RULES)
def test_a_bad_sample_breaks(name: str, tmp_path: Path) -> None:
    rule, _, bad = RULES[name]
    (tmp_path / "sample.py").write_text(bad)
    assert list(rule(tmp_path / "sample.py"))


GOOD = '''"""A module."""

from datetime import datetime

import numpy as np

__all__ = ["A"]


class A:
    """A class."""

    def f(self) -> None:
        """Do nothing."""

    @override
    def on_batch(self) -> None: ...

    def _g(self) -> None: ...
'''


@pytest.mark.parametrize("name", RULES)
def test_a_good_sample_passes(name: str, tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(GOOD)
    assert list(RULES[name][0](tmp_path / "sample.py")) == []
