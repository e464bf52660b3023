"""A metric of one's own: the example of docs/extending.md, and the table against the code that counts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

import recstream
from recstream.metrics.accounting import merge_summaries
from recstream.metrics.names import METRICS, Metric
from recstream.metrics.prometheus import PrometheusMeters
from tests.support.documents import snippets
from tests.support.meters import MemoryMeters

PACKAGE = Path(recstream.__file__).parent


def test_the_example_is_counted_served_and_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    row, use = snippets("extending.md", "A metric")
    for name, metric in eval(f"{{{row}}}", {"Metric": Metric}).items():  # noqa: S307 - our own page
        monkeypatch.setitem(METRICS, name, metric)
    memory, real = MemoryMeters(), PrometheusMeters()
    for meters in (memory, real):
        exec(use, {"meters": meters})  # noqa: S102 - our own page
        assert meters.snapshot()["lists_short"] == {"event": 1}
    assert 'recstream_lists_short_total{trigger="event"} 1.0' in generate_latest(real.registry).decode()
    assert merge_summaries([memory.snapshot(), real.snapshot()])["lists_short"] == {"event": 2}


def counted(source: str) -> Iterator[str]:
    """Names that meters are called with; of a name made at run time its beginning, and a star."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"add", "set", "observe"}
            and ast.unparse(node.func.value).endswith("meters")
        ):
            name = node.args[0]
            if isinstance(name, ast.JoinedStr) and isinstance(name.values[0], ast.Constant):
                yield str(name.values[0].value) + "*"
            elif isinstance(name, ast.Constant):
                yield str(name.value)
            else:
                yield ast.unparse(name)


def test_what_is_counted_is_found() -> None:
    source = 'meters.add("a", 2); self._meters.observe("b", 1.0); seen.add("c"); meters.set(f"d_{e}", 1)'
    assert list(counted(source)) == ["a", "b", "d_*"]


def test_every_metric_is_counted_and_has_a_row() -> None:
    found = {name for path in PACKAGE.rglob("*.py") for name in counted(path.read_text())}
    exact, beginnings = {n for n in found if "*" not in n}, {n[:-1] for n in found if "*" in n}
    assert exact - METRICS.keys() == set(), "these have no row in recstream/metrics/names.py"
    never = {name for name in METRICS if name not in exact and not name.startswith(tuple(beginnings))}
    assert never == {"process_start"}, "these are never counted; the start of a process sets its own"
