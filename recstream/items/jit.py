"""What the compiled loops (numba) share: how they are compiled, fading weights, and a product."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numba import njit
from numba.core.config import DISABLE_JIT as NUMBA_DISABLE_JIT

from recstream.items.session_index import SESSION_ITEMS
from recstream.records.arrays import AnyArray

__all__ = ["FADES", "compiled", "dot", "reordered", "top_k_threshold"]

F = TypeVar("F", bound=Callable[..., Any])


_IMPORT: Final = re.compile(r"^\s*(?:from|import) (recstream(?:\.\w+)*)", re.MULTILINE)
_ROOT: Final = Path(__file__).parents[2]


@cache
def _digest(path: Path) -> str:
    """Digest of a module and of all modules of recstream that it imports, directly or not."""
    waiting, found = [path], {path: b""}
    while waiting:
        source = waiting.pop()
        found[source] = source.read_bytes()
        for name in _IMPORT.findall(found[source].decode()):
            place = _ROOT.joinpath(*name.split("."))
            imported = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            if imported not in found:
                found[imported] = b""
                waiting.append(imported)
    digest = hashlib.blake2b(digest_size=16)
    for source in sorted(found):
        digest.update(found[source])
    return digest.hexdigest()


def compiled(function: F) -> F:
    """Compile a loop, once: it is kept on disk until its module, or one it imports, changes.

    It holds no GIL.

    A division by 0 gives infinity or NaN, as in numpy: to check for it would keep the compiler from taking
    several turns of a loop together.
    """
    return _kept(njit(cache=True, nogil=True, error_model="numpy")(function))


def reordered(function: F) -> F:
    """The same for loops whose sums may be taken in any order: several terms at once."""
    return _kept(
        njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})(function)
    )


def _kept(loop: F) -> F:
    """Have numba compile a loop anew when its module, or one that this imports, has changed.

    By itself numba looks at the loop's own file alone, and would go on with what it calls as it once was.
    """
    if not NUMBA_DISABLE_JIT:
        kernel: Any = loop
        digest = _digest(Path(kernel.py_func.__code__.co_filename))
        kernel._cache._cache_file._source_stamp = digest  # noqa: SLF001 - there is no other way
    return loop


_WINDOW: Final = 5.0
FADES: Final = np.exp(-np.arange(SESSION_ITEMS + 1) / _WINDOW).astype(np.float32)
"""What is left of a weight so many places away: it falls by e every five."""
_HALVINGS: Final = 40


@reordered
def dot(one: AnyArray, other: AnyArray) -> float:
    """Product of two vectors, float32.

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

    It is 0 if not so many are above it, or all but the few greatest are 2^40 times smaller than these. Found
    by bisection, which has no branch that depends on a value: in a loop over numbers never seen before that
    is four times as fast as a partition.

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
