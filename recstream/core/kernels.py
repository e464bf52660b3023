"""The compiled loop (numba) that keeps bounded neighbour lists.

Why compiled: an event touches some forty of them; as Python or as numpy temporaries that would cost more than
all else an event does.
"""

from __future__ import annotations

import numpy as np

from recstream.core.arrays import AnyArray
from recstream.core.loops import compiled

__all__ = ["count_pairs"]


@compiled
def count_pairs(
    rows: AnyArray,
    others: AnyArray,
    followed: AnyArray,
    together: AnyArray,
    grown: AnyArray,
    neighbours: AnyArray,
    followed_by: AnyArray,
    together_with: AnyArray,
) -> None:
    """Add pair k (``others[k]`` seen with ``rows[k]``), times ``grown[k]``, to the bounded neighbour lists.

    ``neighbours`` is int32 of shape ``(n, cap)``, -1 where free; the two weight tables have its shape
    (float32). A full list drops its lightest neighbour (the first of equals).
    """
    cap = neighbours.shape[1]
    for k in range(len(rows)):
        row, other = rows[k], others[k]
        slot = -1
        lightest, least = 0, np.inf
        for j in range(cap):
            present = neighbours[row, j]
            if present == other or present < 0:
                slot = j
                break
            total = followed_by[row, j] + together_with[row, j]
            if total < least:
                lightest, least = j, total
        if slot < 0:
            slot = lightest
            neighbours[row, slot] = -1
        if neighbours[row, slot] < 0:
            neighbours[row, slot] = other
            followed_by[row, slot] = 0.0
            together_with[row, slot] = 0.0
        followed_by[row, slot] += grown[k] * followed[k]
        together_with[row, slot] += grown[k] * together[k]
