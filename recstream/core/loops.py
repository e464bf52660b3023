"""What the compiled loops (numba) share: how they are compiled, fading weights, and a product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
from numba import njit

from recstream.core.arrays import AnyArray
from recstream.core.session_window import SESSION_ITEMS

__all__ = ["FADES", "compiled", "cut", "product", "reordered"]

F = TypeVar("F", bound=Callable[..., Any])

compiled: Final[Callable[[F], F]] = njit(cache=True, nogil=True, error_model="numpy")
"""Decorator: compiled once and kept on disk, without the GIL. A division by 0 gives infinity or NaN, as in
numpy: to check for it would keep the compiler from taking several turns of a loop together.

What is kept on disk follows changes of its own file alone, not of others whose loops it calls.
"""
reordered: Final[Callable[[F], F]] = njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"}
)
"""The same for loops whose sums may be taken in any order: several terms at once."""
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

    It is 0 if not so many are above. Found by bisection, which has no branch that depends on a value: in a
    loop over numbers never seen before that is four times as fast as a partition.

    >>> 3.0 < cut(np.array([3.0, 1.0, 4.0, 1.0, 5.0]), 2, 2) <= 4.0
    True
    >>> cut(np.array([2.0, 2.0, -2.0]), 1, 1), cut(np.array([2.0, -2.0]), 2, 2)
    (2.0, 0.0)
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
