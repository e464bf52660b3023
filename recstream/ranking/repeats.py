"""Repeats: how likely a user is to come back to each of their own items, of when they dealt with it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from recstream.ranking.query import ItemHistory
from recstream.records.arrays import Handles

__all__ = ["repeatable_items"]

_PLACES: Final = 10.0
"""Events of the user after which an event begins to count less."""
_FADING: Final = 0.5
"""Power of the places by which an event counts less: 0 would count events, whenever they were."""
_CONTRAST: Final = 4.0
"""Power of an item's weight. The signal is the root of a weight's share of the largest: the square of the
sum's."""


def repeatable_items(
    history: ItemHistory, tiebreak: npt.NDArray[np.float32]
) -> tuple[Handles, npt.NDArray[np.float32]]:
    """The user's own items, the likeliest to be repeated first, and a weight above 0 for each.

    An item weighs a power of the sum of its events, and an event the less, the more events of the user came
    after it: by a power law, as memory fades (Anderson and Schooler, Psychological Science 2, 1991), so that
    both habits and what is new count. Places, unlike seconds, let users be away. Events of one time
    share theirs.
    ``tiebreak`` holds a number for each handle that says which of two equal items comes first.

    >>> times, counts = np.array([30.0, 20.0, 10.0]), np.array([1.0, 1.0, 5.0])
    >>> history = ItemHistory(np.array([7, 8, 8], "i4"), times, counts)
    >>> items, weights = repeatable_items(history, np.zeros(9, "f4"))
    >>> items.tolist(), weights.round().tolist()
    ([8, 7], [927.0, 1.0])
    """
    order = np.argsort(-history.times, kind="stable")
    items, times, counts = history.items[order], -history.times[order], history.counts[order]
    before = np.concatenate([np.zeros(1), np.cumsum(counts)])
    places = before[np.searchsorted(times, times)]
    own, which = np.unique(items, return_inverse=True)
    sums = np.bincount(which, counts * (1.0 + places / _PLACES) ** -_FADING)
    weights = (sums**_CONTRAST).astype(np.float32)
    best = np.lexsort((-tiebreak[own], -weights))
    return own[best], weights[best]
