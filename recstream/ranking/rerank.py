"""Diversity: lists that say the same thing less often, at a price in hits that is there to be measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.records.arrays import Matrix

__all__ = ["Diversity", "diversified"]

_POOL: Final = 3
"""So many times the list's length are chosen from."""


class Diversity(NamedTuple):
    """How a list is made more diverse than its scores alone would have it; zeros ask for nothing."""

    mmr: float
    """Maximal marginal relevance: 0 (scores alone) to 1 (unlikeness to what is listed alone)."""
    category_cap: int
    """Most items of one category in a list, as long as others are left; 0: any number."""

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return self.mmr > 0.0 or self.category_cap > 0

    def pool(self, top_n: int) -> int:
        """How many of the best items a list of ``top_n`` is chosen from."""
        return _POOL * top_n


def diversified(
    scores: npt.NDArray[np.float32],
    text: Matrix,
    categories: Sequence[frozenset[int]],
    top_n: int,
    diversity: Diversity,
) -> list[int]:
    """Places of at most ``top_n`` items, chosen one by one from candidates in order of their score.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): next comes the item with the greatest
    ``(1 - mmr) * score - mmr * likeness``, scores scaled to 0 .. 1 over the candidates, likeness being the
    greatest cosine of its text (unit rows of ``text``) to those chosen. Items of a category that is full come
    last.

    >>> text = np.array([[1, 0], [1, 0], [0, 1]], "f4")
    >>> scores, no_labels = np.array([1.0, 0.9, 0.5], "f4"), [frozenset()] * 3
    >>> diversified(scores, text, no_labels, 2, Diversity(mmr=0.5, category_cap=0))
    [0, 2]
    >>> diversified(scores, text, [frozenset({7})] * 2 + [frozenset()], 3, Diversity(mmr=0.0, category_cap=1))
    [0, 2, 1]
    """
    spread = float(scores.max() - scores.min()) if len(scores) else 0.0
    relevance = (scores - scores.min()) / spread if spread > 0.0 else np.zeros(len(scores))
    likeness = np.zeros(len(scores))
    taken: Counter[int] = Counter()
    chosen: list[int] = []
    left = list(range(len(scores)))
    while left and len(chosen) < top_n:
        full = {label for label, count in taken.items() if count >= diversity.category_cap > 0}
        value = (1.0 - diversity.mmr) * relevance - diversity.mmr * likeness
        best = max(left, key=lambda place: (not (categories[place] & full), value[place], -place))
        chosen.append(best)
        left.remove(best)
        taken.update(categories[best])
        likeness = np.maximum(likeness, text @ text[best])
    return chosen
