"""Reasons: which of the user's own items a score goes back to, signal by signal."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from recstream.core.arrays import AnyArray, Handles, Matrix
from recstream.core.evidence import Evidence, Gatherer
from recstream.core.evidence_kernels import Neighbours, User, World, rarity
from recstream.core.inverted_index import Postings
from recstream.core.session_window import SessionArrays
from recstream.core.signals import SIGNALS, Query

__all__ = ["contributions"]

_COLUMN: Final = {name: k for k, name in enumerate(SIGNALS)}
_WINDOW: Final = 5.0


def contributions(
    query: Query, evidence: Evidence, gatherer: Gatherer, items: Handles, parts: Matrix
) -> npt.NDArray[np.float32]:
    """What each of the user's recent items contributed to the scores of items, ``(items, recent)``.

    ``parts`` is what each signal contributed, ``(items, signals)``. A signal's part goes to the recent
    items in proportion to what each put into its raw measure; what comes from no item goes to none.
    """
    recent = query.recent
    shared = np.zeros((len(items), len(recent)), np.float32)
    if not len(recent):
        return shared
    text = gatherer.text
    likeness = np.maximum(text[items] @ text[recent].T, 0.0) * query.recent_weights
    _give(shared, likeness, parts[:, _COLUMN["short_term"]])
    measure = np.zeros_like(shared)
    for name, index in (("lexical", gatherer.lexicon), ("category", gatherer.categories)):
        measure[:] = 0.0
        _shared_terms(items, recent, index, gatherer.terms, measure)
        _give(shared, measure, parts[:, _COLUMN[name]])
    for name, follows in (("followed", True), ("together", False)):
        measure[:] = 0.0
        _neighbours(items, recent, gatherer.neighbours, follows, measure)
        _give(shared, measure, parts[:, _COLUMN[name]])
    measure[:] = 0.0
    _sessions(
        items, evidence.user, gatherer.world, gatherer.window, evidence.sessions, evidence.likeness, measure
    )
    _give(shared, measure, parts[:, _COLUMN["sessions"]] + parts[:, _COLUMN["sessions_next"]])
    shared[:, 0] += parts[:, _COLUMN["lexical_last"]] + parts[:, _COLUMN["followed_last"]]
    return shared


def _give(shared: Matrix, measure: Matrix, part: npt.NDArray[np.float32]) -> None:
    total = measure.sum(axis=1)
    shared += measure * (part / np.where(total > 0.0, total, 1.0))[:, None]


@njit(cache=True, nogil=True)
def _shared_terms(
    items: Handles, recent: Handles, index: Postings, terms: AnyArray, measure: AnyArray
) -> None:
    for r in range(len(recent)):
        row = recent[r]
        begin, end = index.starts[row], index.starts[row] + index.lengths[row]
        for at in range(begin, end):
            terms[index.terms[at]] = index.counts[at] * index.idf[index.terms[at]] ** 2 * index.scales[row]
        weight = math.exp(-r / _WINDOW)
        for k in range(len(items)):
            other = items[k]
            for at in range(index.starts[other], index.starts[other] + index.lengths[other]):
                measure[k, r] += weight * terms[index.terms[at]] * index.counts[at]
        for at in range(begin, end):
            terms[index.terms[at]] = 0.0


@njit(cache=True, nogil=True)
def _neighbours(items: Handles, recent: Handles, near: Neighbours, follows: bool, measure: AnyArray) -> None:
    for r in range(3 if follows and len(recent) > 3 else len(recent)):
        row = recent[r]
        if row >= len(near.items):
            continue
        total = near.followed_by[row].sum() if follows else math.sqrt(near.weights[row] + 1.0)
        for j in range(near.items.shape[1]):
            other = near.items[row, j]
            if other < 0:
                break
            for k in range(len(items)):
                if items[k] == other:
                    if not follows:
                        measure[k, r] = math.exp(-r / _WINDOW) * near.together_with[row, j] / total
                    elif total > 0.0:
                        measure[k, r] = near.followed_by[row, j] / total / (1 + r)
                    break


@njit(cache=True, nogil=True)
def _sessions(
    items: Handles,
    user: User,
    world: World,
    window: SessionArrays,
    slots: AnyArray,
    likeness: AnyArray,
    measure: AnyArray,
) -> None:
    count = len(user.recent)
    weights = np.zeros(count, np.float32)
    for s in range(len(slots)):
        slot = slots[s]
        total = 0.0
        best, here = count, 0
        weights[:] = 0.0
        for p in range(window.lengths[slot]):
            for r in range(count):
                if user.recent[r] == window.items[slot, p]:
                    weights[r] = math.exp(-r / _WINDOW) * rarity(world, user.recent[r])
                    total += weights[r]
                    if r < best:
                        best, here = r, p
                    break
        if total <= 0.0:
            continue
        for p in range(window.lengths[slot]):
            for k in range(len(items)):
                if items[k] == window.items[slot, p]:
                    value = likeness[s] * math.exp(-abs(p - here) / _WINDOW) / total
                    for r in range(count):
                        measure[k, r] += value * weights[r]
                    break
