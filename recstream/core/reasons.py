"""Reasons: which of the user's own items a score goes back to, signal by signal."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from recstream.core.arrays import AnyArray, Handles, Matrix
from recstream.core.evidence import Evidence, Gatherer
from recstream.core.evidence_kernels import FADES, FOLLOWED_ITEMS, rarity
from recstream.core.inverted_index import Postings
from recstream.core.session_window import SESSION_ITEMS, SessionArrays
from recstream.core.signals import SIGNALS, Query
from recstream.core.views import Neighbours, Scratch, User, World

__all__ = ["contributions", "greatest", "name_greatest"]

_WORDY: Final = 10
"""Of the last items so many are told for words and categories: later ones weigh an eighth at most."""
_SHARED: Final = [
    list(SIGNALS).index(name)
    for name in (
        *("short_term", "lexical", "category", "followed", "together", "sessions", "sessions_next"),
        *("lexical_last", "followed_last"),  # these go to the last item alone
    )
]
"""Columns of the signals that go back to items of the user's own."""


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
    likeness = np.maximum(gatherer.text[items] @ gatherer.text[recent].T, 0.0) * query.recent_weights
    _add_up(
        items,
        evidence.user,
        gatherer.world,
        gatherer.neighbours,
        gatherer.lexicon,
        gatherer.categories,
        gatherer.window,
        evidence.sessions,
        evidence.likeness,
        gatherer.scratch,
        likeness,
        parts[:, _SHARED],
        shared,
    )
    return shared


@njit(cache=True, nogil=True)
def greatest(values: Matrix, most: int) -> npt.NDArray[np.int64]:
    """Columns of each row's greatest values above 0, greatest first, shape ``(rows, most)``; -1: no more.

    >>> greatest(np.array([[0.0, 3.0, 1.0]], "f4"), 2).tolist()
    [[1, 2]]
    """
    found = np.full((len(values), most), -1, np.int64)
    for row in range(len(values)):
        for column in range(values.shape[1]):
            value = values[row, column]
            at = most
            while at > 0 and (found[row, at - 1] < 0 or values[row, found[row, at - 1]] < value):
                at -= 1
            if value > 0.0 and at < most:
                for later in range(most - 1, at, -1):
                    found[row, later] = found[row, later - 1]
                found[row, at] = column
    return found


@njit(cache=True, nogil=True)
def name_greatest(
    parts: Matrix, most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The greatest parts of each row, for or against: columns and values, ``(rows, most)``, and what is left.

    All are rounded to five digits; what is left, ``(rows,)``, makes up for it. Values of no column are 0.

    >>> columns, values, others = name_greatest(np.array([[0.1, -3.0, 1.0]], "f4"), 2)
    >>> columns.tolist(), values.tolist(), others.round(5).tolist()
    ([[1, 2]], [[-3.0, 1.0]], [0.1])
    """
    columns = greatest(np.abs(parts), most)
    values = np.zeros(columns.shape)
    others = np.zeros(len(parts))
    for row in range(len(parts)):
        for column in range(parts.shape[1]):
            others[row] += parts[row, column]
        for k in range(most):
            if columns[row, k] >= 0:
                values[row, k] = round(np.float64(parts[row, columns[row, k]]), 5)
                others[row] -= values[row, k]
        others[row] = round(others[row], 5)
    return columns, values, others


@njit(cache=True, nogil=True)
def _add_up(
    items: Handles,
    user: User,
    world: World,
    near: Neighbours,
    lexicon: Postings,
    categories: Postings,
    window: SessionArrays,
    slots: AnyArray,
    likeness: AnyArray,
    scratch: Scratch,
    measure: AnyArray,
    parts: AnyArray,
    shared: AnyArray,
) -> None:
    """Share out the parts, ``(items, _SHARED)``; ``measure`` is that of ``short_term`` to begin with."""
    recent = user.recent
    _give(shared, measure, parts[:, 0])
    _shared_terms(items, recent, lexicon, scratch.terms, measure)
    _give(shared, measure, parts[:, 1])
    _shared_terms(items, recent, categories, scratch.terms, measure)
    _give(shared, measure, parts[:, 2])
    _neighbours(items, recent, near, True, scratch.places, measure)
    _give(shared, measure, parts[:, 3])
    _neighbours(items, recent, near, False, scratch.places, measure)
    _give(shared, measure, parts[:, 4])
    _sessions(items, user, world, window, slots, likeness, scratch.places, measure)
    _give(shared, measure, parts[:, 5] + parts[:, 6])
    for k in range(len(items)):
        shared[k, 0] += parts[k, 7] + parts[k, 8]


@njit(cache=True, nogil=True)
def _give(shared: AnyArray, measure: AnyArray, part: AnyArray) -> None:
    """Share a part out in proportion to the measure, which is zeros afterwards."""
    for k in range(len(shared)):
        total = measure[k].sum()
        for r in range(shared.shape[1]):
            if total > 0.0:
                shared[k, r] += part[k] * measure[k, r] / total
            measure[k, r] = 0.0


@njit(cache=True, nogil=True)
def _shared_terms(
    items: Handles, recent: Handles, index: Postings, terms: AnyArray, measure: AnyArray
) -> None:
    for r in range(min(len(recent), _WORDY)):
        row = recent[r]
        begin, end = index.starts[row], index.starts[row] + index.lengths[row]
        for at in range(begin, end):
            terms[index.terms[at]] = index.counts[at] * index.idf[index.terms[at]] ** 2 * index.scales[row]
        weight = FADES[r]
        for k in range(len(items)):
            other = items[k]
            for at in range(index.starts[other], index.starts[other] + index.lengths[other]):
                measure[k, r] += weight * terms[index.terms[at]] * index.counts[at]
        for at in range(begin, end):
            terms[index.terms[at]] = 0.0


@njit(cache=True, nogil=True)
def _neighbours(
    items: Handles, recent: Handles, near: Neighbours, follows: bool, places: AnyArray, measure: AnyArray
) -> None:
    """``places`` (one an item) is zeros, and zeros again afterwards."""
    for k in range(len(items)):
        places[items[k]] = k + 1
    for r in range(min(len(recent), FOLLOWED_ITEMS) if follows else len(recent)):
        row = recent[r]
        if row >= len(near.items):
            continue
        weight = near.scales[row] * FADES[r]
        if follows:
            total = near.followed_by[row].sum()
            weight = 1.0 / (total * (1 + r)) if total > 0.0 else 0.0
        for j in range(near.items.shape[1]):
            other = near.items[row, j]
            if other < 0:
                break
            k = places[other] - 1
            if k >= 0:
                measure[k, r] = weight * (near.followed_by[row, j] if follows else near.together_with[row, j])
    for k in range(len(items)):
        places[items[k]] = 0


@njit(cache=True, nogil=True)
def _sessions(
    items: Handles,
    user: User,
    world: World,
    window: SessionArrays,
    slots: AnyArray,
    likeness: AnyArray,
    places: AnyArray,
    measure: AnyArray,
) -> None:
    """``places`` (one an item) is zeros, and zeros again afterwards; recent items are below 0 in it."""
    count = len(user.recent)
    gains = np.zeros(count, np.float32)
    shared = np.zeros(SESSION_ITEMS, np.int32)
    for r in range(count):
        gains[r] = FADES[r] * rarity(world, user.recent[r])
        places[user.recent[r]] = -1 - r
    for k in range(len(items)):
        if places[items[k]] == 0:  # one that may be repeated is among the user's own
            places[items[k]] = k + 1
    for s in range(len(slots)):
        slot = slots[s]
        total, here, best, found = 0.0, 0, count, 0
        for p in range(window.lengths[slot]):
            r = -1 - places[window.items[slot, p]]
            if r >= 0:
                total += gains[r]
                shared[found] = r
                found += 1
                if r < best:
                    best, here = r, p
        if total <= 0.0:
            continue
        for p in range(window.lengths[slot]):
            k = places[window.items[slot, p]] - 1
            if k >= 0:
                value = likeness[s] * FADES[abs(p - here)] / total
                for at in range(found):
                    measure[k, shared[at]] += value * gains[shared[at]]
    for r in range(count):
        places[user.recent[r]] = 0
    for k in range(len(items)):
        places[items[k]] = 0
