"""The shape of the code: layers, size, docstrings. Each rule is shown to fail on a bad sample."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "recstream"
FLOWS = ROOT / "flows"

MAY_IMPORT: dict[str, set[str]] = {
    # folder of recstream -> folders (or modules of them) it may import; what is not here may not be there
    "records": set(),
    "items": {"records"},
    "users": {"records", "items"},
    "ranking": {"records", "items", "users"},
    "connectors": {"records", "metrics.base"},
    "encoders": {"records", "metrics.base"},
    "stores": {"records", "items", "users"},
    "metrics": set(),
    "config": {"records", "ranking", "encoders.base", "encoders.ENCODERS", "stores.STORES"},
    "dataflow": {
        *("records", "items", "users", "ranking"),
        *("connectors.base", "encoders.base", "stores.base", "metrics.base"),
    },
    "runtime": {
        *("records", "items", "users", "ranking", "connectors", "encoders", "stores", "metrics", "config"),
        "dataflow",
    },
    "operations": {
        *("records", "items", "users", "ranking", "connectors", "encoders", "stores", "metrics", "config"),
        *("dataflow", "runtime"),
    },
    "evaluation": {
        *("records", "items", "users", "ranking", "connectors", "encoders", "stores", "metrics", "config"),
        *("dataflow", "runtime"),
    },
    "demo": {"records", "connectors", "encoders", "metrics", "config", "runtime"},
    "cli": {
        *("records", "items", "users", "ranking", "connectors", "encoders", "stores", "metrics", "config"),
        *("dataflow", "runtime", "operations", "evaluation", "demo"),
    },
    "testing": {
        *("records", "items", "users", "ranking"),
        *("connectors.base", "encoders.base", "stores.base", "metrics.base"),
    },
}
PURE = {"records", "users", "items", "ranking"}
"""Folders without clock, environment, chance, input and output, or bytewax."""

# of the standard library: what reads the clock, the environment, the machine, or chance, and what writes
IMPURE = {
    *("asyncio", "getpass", "glob", "http", "io", "logging", "multiprocessing", "os", "platform"),
    *("random", "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys"),
    *("tempfile", "threading", "time", "urllib", "uuid"),
}
CLOCKS = {"now", "utcnow", "today"}
PURE_MAY = {"numpy", "numba", "recstream", *(sys.stdlib_module_names - IMPURE), "__future__"}
# decoding a record is pure and has to be fast
PURE_MAY |= {"orjson", "msgspec", "typing_extensions"}
CLIENTS = {"confluent_kafka", "lancedb", "torch", "transformers", "httpx", "lmdb"}
"""Packages that dataflow reaches through ports only."""
MAX_FLOW_LINES = 40
KAFKA_MAY = {"kafka_lag", "recstream_kafka_lag"}
"""Words with Kafka in them that may stand anywhere: the name of a metric."""
MAY_PRINT = {"cli", "demo", "bench"}

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


def impure_imports(path: Path) -> Iterator[str]:
    yield from (f"imports {name}" for name in imported(path) if not is_within(name, PURE_MAY))


def imports_of_flows(path: Path) -> Iterator[str]:
    yield from (f"imports {name}" for name in imported(path) if is_within(name, {"flows"}))


def imports_of_clients(path: Path) -> Iterator[str]:
    yield from (f"imports {name}" for name in imported(path) if is_within(name, CLIENTS))


def mentions_of_design(path: Path) -> Iterator[str]:
    """References to a document that is not in the repository."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if "DESIGN" in line:
            yield f"line {number} names DESIGN"


def mentions_of_kafka(path: Path) -> Iterator[str]:
    """The name of one kind of place where only connectors in general may be known."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = {word.lower() for word in re.findall(r"\w+", line)} - KAFKA_MAY
        if any("kafka" in word for word in words):
            yield f"line {number} knows Kafka"


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


BEYOND_CONNECTORS = [
    path
    for path in modules(PACKAGE)
    if path.relative_to(PACKAGE).parts[0] not in {"connectors", "config"}  # config has its settings
]
PURE_MODULES = [path for folder in sorted(PURE) for path in modules(PACKAGE / folder)]


def imports_of_test_modules(path: Path) -> Iterator[str]:
    """What is taken from a test module: what tests share belongs in tests/support."""
    for name in imported(path):
        if is_within(name, {"tests"}) and any(part.startswith("test_") for part in name.split(".")[:-1]):
            yield f"imports {name}"


RULES: dict[str, tuple[Rule, list[Path], str]] = {
    "pure folders import what is pure": (impure_imports, PURE_MODULES, "import os.path"),
    "pure folders import no clock": (impure_imports, PURE_MODULES, "def f():\n    from time import time"),
    "pure folders read no clock": (clock_reads, PURE_MODULES, "x = datetime.now(UTC)"),
    "nothing imports flows": (imports_of_flows, modules(PACKAGE), "from flows import recommend"),
    "dataflow has no client": (imports_of_clients, modules(PACKAGE / "dataflow"), "import lancedb"),
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
    "tests share through tests/support": (
        imports_of_test_modules,
        modules(ROOT / "tests"),
        "from tests.users.test_state import shuffled",
    ),
    "only connectors know Kafka": (mentions_of_kafka, BEYOND_CONNECTORS, 'where.startswith("kafka:")'),
    "no text names DESIGN": (mentions_of_design, modules(PACKAGE) + modules(FLOWS), "# DESIGN section 2"),
}


def own_imports(path: Path) -> Iterator[str]:
    """What a module imports of recstream, such as ``"stores.base"`` or ``"users.state"``."""
    for name in imported(path):
        if is_within(name, {"recstream"}) and name.count(".") > 1:
            yield name.removeprefix("recstream.")


def may(folder: str, name: str) -> bool:
    """Whether a folder may import a module."""
    return is_within(name, MAY_IMPORT[folder] | {folder})


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_point_inwards(folder: str) -> None:
    paths = modules(PACKAGE / folder)
    assert paths
    for path in paths:
        bad = {name for name in own_imports(path) if not may(folder, name)}
        assert not bad, f"{path.relative_to(PACKAGE)} imports {sorted(bad)}"


def test_every_folder_stands_in_the_table_and_no_module_beside_it() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(MAY_IMPORT)
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == {"__init__.py", "py.typed"}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(MAY_IMPORT)


def test_every_folder_has_tests_in_a_folder_of_its_name() -> None:
    tested = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert set(MAY_IMPORT) - tested == set()


def test_a_forbidden_import_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text("from recstream.stores.lance.users import X")
    (name,) = own_imports(tmp_path / "sample.py")
    assert not may("dataflow", name)
    assert may("runtime", name)


def test_no_two_classes_have_one_name() -> None:
    """Private ones do not count: nobody meets them outside of their module."""
    found: dict[str, list[str]] = {}
    for path in modules(PACKAGE):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


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
