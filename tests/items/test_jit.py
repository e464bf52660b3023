"""What kernels share, against the slow way; when they are compiled anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recstream
from recstream.items import jit
from recstream.items.jit import dot, top_k_threshold
from recstream.ranking.kernels.candidates import best_places

numbers = st.lists(st.floats(-4.0, 1e6, width=32), min_size=1, max_size=60)


@given(numbers, st.integers(1, 20), st.integers(0, 5), st.sampled_from(["f4", "f8"]))
def test_as_many_values_as_wanted_reach_the_threshold(
    values: list[float], least: int, spare: int, dtype: str
) -> None:
    array = np.array(values, dtype)
    bound = top_k_threshold(array, least, least + spare)
    reach = int((array >= bound).sum())
    above = np.sort(array[array > 0.0])[::-1]
    if len(above) < least:
        assert bound == 0.0
        return
    assert reach >= least
    # More than wanted only where what lies between is as good as equal, beside the greatest of all.
    if reach > least + spare:
        equal = above[least - 1 : reach]
        assert equal.max() - equal.min() <= above[0] * 1e-6


@given(numbers, st.data())
def test_a_dot_product_is_the_sum_of_products(values: list[float], data: st.DataObject) -> None:
    one = np.array(values, "f4")
    other = np.array(
        data.draw(st.lists(st.floats(-1, 1, width=32), min_size=len(one), max_size=len(one))), "f4"
    )
    wanted = float(one.astype("f8") @ other.astype("f8"))
    scale = float(np.abs(one.astype("f8")) @ np.abs(other.astype("f8")))
    assert abs(dot(one, other) - wanted) <= 1e-5 * scale + 1e-30


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=5), st.integers(1, 6))
def test_the_best_places_are_those_of_a_sort(lists: list[list[int]], most: int) -> None:
    scores = np.array([score for one in lists for score in one], np.float32)
    ends = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    best, tied = best_places(scores, ends, most)
    for k, one in enumerate(lists):
        places = best[k][best[k] >= 0]
        assert len(places) == min(len(one), most)
        assert ((places >= ends[k]) & (places < ends[k + 1])).all()
        wanted = sorted(one, reverse=True)
        assert scores[places].tolist() == wanted[:most]
        shown = wanted[: most + 1]
        assert tied[k] == (len(set(shown)) < len(shown))


OUTER = """
from recstream.items import middle
from recstream.items.jit import compiled

passed_on = middle.passed_on

@compiled
def outer(x):
    return passed_on(x)
"""
MIDDLE = """
from recstream.records.inner import (
    inner,
)
from recstream.items.jit import compiled

@compiled
def passed_on(x):
    return inner(x)
"""
INNER = """
from recstream.items.jit import compiled

@compiled
def inner(x):
    return x + {result}
"""


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_has_changed(tmp_path: Path) -> None:
    """However far away that is, and in whichever way its module is imported."""
    code = Path(recstream.__file__).parent
    package = tmp_path / "recstream"
    for folder in ("items", "records", "ranking"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    for name in ("items/jit.py", "records/arrays.py"):
        (package / name).write_text((code / name).read_text())
    (package / "ranking" / "outer.py").write_text(OUTER)
    (package / "items" / "middle.py").write_text(MIDDLE)
    for result in (1.0, 2.0):
        (package / "records" / "inner.py").write_text(INNER.format(result=result))
        done = subprocess.run(
            [sys.executable, "-c", "from recstream.ranking.outer import outer; print(outer(0.0))"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert float(done.stdout) == result
    assert len(list(tmp_path.rglob("outer.outer-*.nbc"))) == 1, "it is kept on disk"


KEPT = """
from pathlib import Path
import sys
from recstream.items.jit import compiled, keep_compiled_in
import recstream.records.inner

print(keep_compiled_in(Path(sys.argv[1])))
import recstream.items.middle
print(recstream.items.middle.passed_on(0.0))
"""


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """The code of a few kernels, where nothing can be kept beside it."""
    code = Path(recstream.__file__).parent
    package = tmp_path / "recstream"
    for folder in ("items", "records"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__pycache__").write_text("no folder, so that root cannot write into it either")
        (package / folder / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    for name in ("items/jit.py", "records/arrays.py"):
        (package / name).write_text((code / name).read_text())
    (package / "records" / "inner.py").write_text(INNER.format(result=1.0))
    (package / "items" / "middle.py").write_text(MIDDLE)
    return tmp_path


def kept_in(nowhere: Path, folder: Path | str, **environ: str) -> list[str]:
    """What the kernels' own program says, run by a user without a home."""
    home = {"HOME": "/proc/no-such-folder", "PYTHONPATH": str(nowhere)}
    plain = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", KEPT, str(folder)],
        cwd=nowhere,
        env={**plain, **home, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_without_a_home_compiled_code_is_kept_where_it_is_told(nowhere: Path) -> None:
    """That of kernels whose module is imported before it is told, and of those after."""
    folder = nowhere / "store" / "compiled"
    assert kept_in(nowhere, folder) == ["True", "1.0"]
    kept = {path.name.partition("-")[0]: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}
    assert kept.keys() == {"inner.inner", "middle.passed_on"}
    assert kept_in(nowhere, folder) == ["True", "1.0"]
    again = {path.name.partition("-")[0]: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}
    assert again == kept, "it is taken from there"


def test_where_compiled_code_can_be_kept_nowhere_it_runs_and_says_so(nowhere: Path) -> None:
    assert kept_in(nowhere, "/proc/no-such-folder") == ["False", "1.0"]


def test_where_numba_finds_a_folder_by_itself_no_other_is_used(nowhere: Path) -> None:
    own, told = nowhere / "own", nowhere / "told"
    assert kept_in(nowhere, told, NUMBA_CACHE_DIR=str(own)) == ["True", "1.0"]
    assert list(own.rglob("*.nbc"))
    assert not told.exists()


def test_what_kernels_share_depends_on_the_array_types_alone() -> None:
    """Whatever else it imported would have every kernel compiled anew with each of its changes."""
    path = Path(jit.__file__)
    assert [one.name for one in jit._imported(path.read_text())] == ["arrays.py"]
