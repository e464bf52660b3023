"""What the compiled loops (numba) share: how they are compiled, fading weights, and a product."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final, TypeVar

import numpy as np
from numba import njit
from numba.core.config import DISABLE_JIT as NUMBA_DISABLE_JIT

from recstream.core.arrays import AnyArray
from recstream.core.session_window import SESSION_ITEMS

__all__ = ["FADES", "compiled", "cut", "product", "reordered"]

F = TypeVar("F", bound=Callable[..., Any])


def _digest() -> str:
    """Of all modules of this folder, whose loops call each other, and of their order of signals."""
    digest = hashlib.blake2b(digest_size=16)
    for source in sorted(files(__package__).iterdir(), key=lambda source: source.name):
        if source.name.endswith(".py"):
            digest.update(source.read_bytes())
    return digest.hexdigest()


_SOURCES: Final = _digest()


def compiled(function: F) -> F:
    """Compile a loop, once: it is kept on disk until a module of this folder changes. It holds no GIL.

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
    """By itself numba looks at a loop's own file alone, and would go on with what it calls as it once was."""
    if not NUMBA_DISABLE_JIT:
        loop._cache._cache_file._source_stamp = _SOURCES  # type: ignore[attr-defined]  # noqa: SLF001 - no other way
    return loop


_WINDOW: Final = 5.0
FADES: Final = np.exp(-np.arange(SESSION_ITEMS + 1) / _WINDOW).astype(np.float32)
"""What is left of a weight so many places away: it falls by e every five."""
_HALVINGS: Final = 40


@reordered
def product(one: AnyArray, other: AnyArray) -> float:
    """Product of two vectors, float32.

    >>> product(np.arange(20, dtype="f4"), np.ones(20, "f4"))
    190.0
    """
    total = np.float32(0.0)
    for k in range(len(one)):
        total += one[k] * other[k]
    return total


@compiled
def cut(values: AnyArray, least: int, most: int) -> float:
    """A bound above 0 that at least ``least`` of the values reach, and no more than ``most`` if they differ.

    It is 0 if not so many are above it, or all but the few greatest are 2^40 times smaller than these. Found
    by bisection, which has no branch that depends on a value: in a loop over numbers never seen before that
    is four times as fast as a partition.

    >>> 3.0 < cut(np.array([3.0, 1.0, 4.0, 1.0, 5.0]), 2, 2) <= 4.0
    True
    >>> 1.99 < cut(np.array([2.0, 2.0, -2.0]), 1, 1) <= 2.0, cut(np.array([2.0, -2.0]), 2, 2)
    (True, 0.0)
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
