"""Directions: users' tastes as unit vectors in the space of the items' texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from recstream.core.arrays import AnyArray, Handles
from recstream.core.catalogue import Catalogue
from recstream.core.loops import compiled
from recstream.core.signals import Query
from recstream.core.views import DENSE

__all__ = ["text_directions"]

_WORDS: Final = DENSE.index("words")
_SHORT_TERM: Final = DENSE.index("short_term")
_LONG_TERM: Final = DENSE.index("long_term")
_DISLIKED: Final = DENSE.index("disliked")


def text_directions(
    queries: Sequence[Query],
    recent: Handles,
    weights: npt.NDArray[np.float32],
    ends: npt.NDArray[np.int64],
    catalogue: Catalogue,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The users' tastes as unit directions in the space of `Catalogue.text`, ``(queries, 4, dims)``.

    In the order of `DENSE`; zeros where there is no evidence. With them how much evidence there is, 0 to 1,
    ``(queries, 4)``: that of ``words`` falls as items follow the words. ``recent`` and ``weights`` are the
    queries' own, one after the other, query k's from ``ends[k]`` up to ``ends[k + 1]``.
    """
    text = catalogue.text()
    directions = np.zeros((len(queries), len(DENSE), text.shape[1]), np.float32)
    strengths = np.zeros((len(queries), len(DENSE)), np.float32)
    told = [
        (k, at, total, weight)
        for k, query in enumerate(queries)
        for at, total, weight in (
            (_WORDS, query.words, query.words_weight),
            (_LONG_TERM, query.long_term, query.long_term_weight),
            (_DISLIKED, query.disliked, query.disliked_weight),
        )
        if total is not None
    ]
    if told:
        users, kinds, sums, held = map(np.array, zip(*told, strict=True))
        directions[users, kinds] = catalogue.transform.apply(sums, held)
        strengths[users, kinds] = np.where(kinds == _LONG_TERM, 1.0, np.minimum(held, 1.0))
    _finish(directions, strengths, recent, weights, ends, text)
    return directions, strengths


@compiled
def _finish(
    directions: AnyArray,
    strengths: AnyArray,
    recent: AnyArray,
    weights: AnyArray,
    ends: AnyArray,
    text: AnyArray,
) -> None:
    """Add the short term, and make all of them unit vectors; there is no evidence in one of zeros."""
    for k in range(len(directions)):
        mine = directions[k]
        for at in range(ends[k], ends[k + 1]):
            row, weight = text[recent[at]], weights[at]
            for d in range(len(row)):
                mine[_SHORT_TERM, d] += weight * row[d]
            strengths[k, _SHORT_TERM] = 1.0
        for one in range(len(mine)):
            length = np.float32(0.0)
            for d in range(mine.shape[1]):
                length += mine[one, d] * mine[one, d]
            length = math.sqrt(length)
            if length > 1e-6:
                for d in range(mine.shape[1]):
                    mine[one, d] /= length
            else:
                strengths[k, one] = 0.0
