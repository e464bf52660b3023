"""Compilation of numerical kernels (numba): compiled once and kept on disk, and two kernels many share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numba import njit
from numba.core import config as numba_config

from recstream.records.arrays import AnyArray

__all__ = ["compiled", "dot", "keep_compiled_in", "reordered", "top_k_threshold"]

F = TypeVar("F", bound=Callable[..., Any])

_ROOT: Final = Path(__file__).parents[2]
_IMPORT: Final = re.compile(
    r"^\s*(?:import (recstream[\w.]*)|from (recstream[\w.]*) import (\([^)]*\)|.*))", re.MULTILINE
)
_NOT_KEPT: Final[list[Any]] = []
"""Kernels for which numba has found no folder to keep their code in."""
_HALVINGS: Final = 40
"""Steps of a bisection: what it leaves is 2^40 times narrower than where it began."""


def compiled(function: F) -> F:
    """Compile a kernel once. It is kept on disk until its module, or one that this imports, changes.

    It holds no GIL. A division by 0 gives infinity or NaN, as in numpy: to check for it would keep the
    compiler from taking several turns of a loop together.
    """
    return _kept(njit(nogil=True, error_model="numpy")(function))


def reordered(function: F) -> F:
    """Compile a kernel as `compiled`, with sums taken in any order: several terms at once."""
    return _kept(njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})(function))


def keep_compiled_in(folder: Path) -> bool:
    """Keep compiled code in this folder if numba has found no other; gives whether it is kept at all.

    The folder is made when it is needed.
    By itself numba keeps it in ``NUMBA_CACHE_DIR``, or beside the modules, or in the user's cache folder: the
    first that can be written. Where none can, as for a user without a home, each process would compile anew.
    """
    if _NOT_KEPT:
        numba_config.CACHE_DIR = str(folder)
    while _NOT_KEPT:
        if not _keep(_NOT_KEPT[-1]):
            numba_config.CACHE_DIR = ""
            return False
        _NOT_KEPT.pop()
    return True


def _kept(kernel: F) -> F:
    if not (numba_config.DISABLE_JIT or _keep(kernel)):
        _NOT_KEPT.append(kernel)
    return kernel


def _keep(dispatcher: Any) -> bool:
    """Have numba keep a kernel on disk, until its module, or one that this imports, has changed.

    By itself numba looks at the kernel's own file alone, and would go on with what it calls as it once was.
    """
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # it has found no folder that it may write to
        return False
    digest = _digest(Path(dispatcher.py_func.__code__.co_filename))
    dispatcher._cache._cache_file._source_stamp = digest  # noqa: SLF001 - there is no other way
    return True


@cache
def _digest(path: Path) -> str:
    """Digest of a module and of all modules of recstream that it imports, directly or not."""
    waiting, found = [path], {path: b""}
    while waiting:
        source = waiting.pop()
        found[source] = source.read_bytes()
        for imported in _imported(found[source].decode()):
            if imported not in found:
                found[imported] = b""
                waiting.append(imported)
    digest = hashlib.blake2b(digest_size=16)
    for source in sorted(found):
        digest.update(found[source])
    return digest.hexdigest()


def _imported(source: str) -> Iterator[Path]:
    """Files of the modules of recstream that a module's text imports."""
    for module, package, names in _IMPORT.findall(source):
        base = module or package
        for name in (base, *(f"{base}.{one}" for one in re.findall(r"\w+", names))):
            place = _ROOT.joinpath(*name.split("."))
            for path in (place / "__init__.py", place.with_suffix(".py")):
                if path.is_file():
                    yield path


@reordered
def dot(one: AnyArray, other: AnyArray) -> float:
    """Dot product of two vectors, float32.

    >>> dot(np.arange(20, dtype="f4"), np.ones(20, "f4"))
    190.0
    """
    total = np.float32(0.0)
    for k in range(len(one)):
        total += one[k] * other[k]
    return total


@compiled
def top_k_threshold(values: AnyArray, least: int, most: int) -> float:
    """A bound above 0 that at least ``least`` of the values reach, and no more than ``most`` if they differ.

    It is 0 if fewer values are positive, or if all but the few greatest are 2^40 times smaller than these.
    Found by bisection, which has no branch that depends on a value: over values that are not sorted that is
    four times as fast as a partition.

    >>> 3.0 < top_k_threshold(np.array([3.0, 1.0, 4.0, 1.0, 5.0]), 2, 2) <= 4.0
    True
    >>> 1.99 < top_k_threshold(np.array([2.0, 2.0, -2.0]), 1, 1) <= 2.0
    True
    >>> top_k_threshold(np.array([2.0, -2.0]), 2, 2)
    0.0
    """
    low = values.dtype.type(0)
    high = low
    for k in range(len(values)):
        high = values[k] if values[k] > high else high
    for _ in range(_HALVINGS):
        middle = (low + high) * values.dtype.type(0.5)
        count = 0
        for k in range(len(values)):
            count += values[k] >= middle
        if count >= least:
            low = middle
            if count <= most:
                break
        else:
            high = middle
    return low
