"""Compiled loops that share the parts of a score out to the user's own items they come from."""

from __future__ import annotations

from typing import Final

import numpy as np

from recstream.items.jit import compiled, dot, top_k_threshold
from recstream.items.session_index import SESSION_ITEMS
from recstream.items.tfidf_index import Postings
from recstream.ranking.kernels.features import FOLLOWED_ITEMS, rarity
from recstream.ranking.kernels.structs import (
    RECENCY_WEIGHTS,
    CatalogueArrays,
    Neighbours,
    UserArrays,
    Workspace,
)
from recstream.ranking.signals import COLUMN
from recstream.records.arrays import AnyArray, Handles

__all__ = ["contributions"]

_WORDY: Final = 10
"""Of the last items so many are told for words and categories: later ones weigh an eighth at most."""
_TELLING: Final = 64
"""Sessions, those most like the user's own, that are told for items: the others say the same more quietly."""
_SHORT_TERM: Final = COLUMN["short_term"]
_LEXICAL: Final = COLUMN["lexical"]
_LEXICAL_LAST: Final = COLUMN["lexical_last"]
_CATEGORY: Final = COLUMN["category"]
_FOLLOWED: Final = COLUMN["followed"]
_FOLLOWED_LAST: Final = COLUMN["followed_last"]
_TOGETHER: Final = COLUMN["together"]
_SESSIONS: Final = COLUMN["sessions"]
_NEXT: Final = COLUMN["sessions_next"]


@compiled
def contributions(
    items: Handles,
    parts: AnyArray,
    user: UserArrays,
    arrays: CatalogueArrays,
    slots: AnyArray,
    likeness: AnyArray,
    workspace: Workspace,
) -> AnyArray:
    """What each of the user's recent items contributed to the scores of items, ``(items, recent)``.

    ``parts`` is what each signal contributed, ``(items, signals)``. A signal's part goes to the recent
    items in proportion to what each put into its raw measure; what comes from no item goes to none.
    """
    recent = user.recent
    shared = np.zeros((len(items), len(recent)), np.float32)
    if not len(recent):
        return shared
    measure = np.empty(shared.shape, np.float32)
    for r in range(len(recent)):
        for k in range(len(items)):
            measure[k, r] = user.recent_weights[r] * max(
                dot(arrays.text[items[k]], arrays.text[recent[r]]), 0.0
            )
    _give(shared, measure, parts[:, _SHORT_TERM])
    _shared_terms(items, recent, arrays.lexicon, workspace.terms, measure)
    _give(shared, measure, parts[:, _LEXICAL])
    _shared_terms(items, recent, arrays.categories, workspace.terms, measure)
    _give(shared, measure, parts[:, _CATEGORY])
    _neighbours(items, recent, arrays.near, True, workspace.places, measure)
    _give(shared, measure, parts[:, _FOLLOWED])
    _neighbours(items, recent, arrays.near, False, workspace.places, measure)
    _give(shared, measure, parts[:, _TOGETHER])
    _sessions(items, user, arrays, slots, likeness, workspace.places, measure)
    _give(shared, measure, parts[:, _SESSIONS] + parts[:, _NEXT])
    for k in range(len(items)):  # these go to the last item alone
        shared[k, 0] += parts[k, _LEXICAL_LAST] + parts[k, _FOLLOWED_LAST]
    return shared


@compiled
def _give(shared: AnyArray, measure: AnyArray, part: AnyArray) -> None:
    """Share a part out in proportion to the measure, which is zeros afterwards."""
    for k in range(len(shared)):
        total = measure[k].sum()
        for r in range(shared.shape[1]):
            if total > 0.0:
                shared[k, r] += part[k] * measure[k, r] / total
            measure[k, r] = 0.0


@compiled
def _shared_terms(
    items: Handles, recent: Handles, index: Postings, terms: AnyArray, measure: AnyArray
) -> None:
    """``terms``, one a term, is zeros and zeros again afterwards: which row of ``shares`` is a term's."""
    starts, lengths, scales, idf = index.starts, index.lengths, index.scales, index.idf
    held, counts = index.terms, index.counts
    last = recent[:_WORDY]
    shares = np.zeros((1 + lengths[last].sum(), len(last)), np.float32)
    rows = 0
    for r in range(len(last)):
        for at in range(starts[last[r]], starts[last[r]] + lengths[last[r]]):
            term = held[at]
            rows += terms[term] == 0.0
            terms[term] = rows if terms[term] == 0.0 else terms[term]
            shares[int(terms[term]), r] = RECENCY_WEIGHTS[r] * scales[last[r]] * counts[at] * idf[term] ** 2
    for k in range(len(items)):
        for at in range(starts[items[k]], starts[items[k]] + lengths[items[k]]):
            row = int(terms[held[at]])
            if row > 0:
                for r in range(len(last)):
                    measure[k, r] += shares[row, r] * counts[at]
    for r in range(len(last)):
        for at in range(starts[last[r]], starts[last[r]] + lengths[last[r]]):
            terms[held[at]] = 0.0


@compiled
def _neighbours(
    items: Handles, recent: Handles, near: Neighbours, follows: bool, places: AnyArray, measure: AnyArray
) -> None:
    """``places`` (one an item) is zeros, and zeros again afterwards."""
    table = near.followed_by if follows else near.together_with
    for k in range(len(items)):
        places[items[k]] = k + 1
    for r in range(min(len(recent), FOLLOWED_ITEMS) if follows else len(recent)):
        row = recent[r]
        if row >= len(near.items):
            continue
        others, strengths = near.items[row], table[row]
        weight = near.scales[row] * RECENCY_WEIGHTS[r]
        if follows:
            total = strengths.sum()
            weight = 1.0 / (total * (1 + r)) if total > 0.0 else 0.0
        for j in range(len(others)):
            other = others[j]
            if other < 0:
                break
            k = places[other] - 1
            if k >= 0:
                measure[k, r] = weight * strengths[j]
    for k in range(len(items)):
        places[items[k]] = 0


@compiled
def _sessions(
    items: Handles,
    user: UserArrays,
    arrays: CatalogueArrays,
    slots: AnyArray,
    likeness: AnyArray,
    places: AnyArray,
    measure: AnyArray,
) -> None:
    """``places`` (one an item) is zeros, and zeros again afterwards; recent items are below 0 in it."""
    recent, window = user.recent, arrays.sessions
    count = len(recent)
    gains = np.zeros(count, np.float32)
    shared = np.zeros(SESSION_ITEMS, np.int32)
    for r in range(count):
        gains[r] = RECENCY_WEIGHTS[r] * rarity(arrays, recent[r])
        places[recent[r]] = -1 - r
    for k in range(len(items)):
        if places[items[k]] == 0:  # one that may be repeated is among the user's own
            places[items[k]] = k + 1
    least = np.float32(0.0)
    if len(slots) > _TELLING:
        least = top_k_threshold(likeness[: len(slots)], _TELLING, _TELLING)
    for s in range(len(slots)):
        if likeness[s] < least:
            continue
        held = window.items[slots[s], : window.lengths[slots[s]]]
        total, here, best, found = 0.0, 0, count, 0
        is_listed = False
        for p in range(len(held)):
            place = places[held[p]]
            if place > 0:
                is_listed = True
            elif place < 0:
                r = -1 - place
                total += gains[r]
                shared[found] = r
                found += 1
                if r < best:
                    best, here = r, p
        if total <= 0.0 or not is_listed:
            continue
        for p in range(len(held)):
            k = places[held[p]] - 1
            if k >= 0:
                value = likeness[s] * RECENCY_WEIGHTS[abs(p - here)] / total
                for at in range(found):
                    measure[k, shared[at]] += value * gains[shared[at]]
    for r in range(count):
        places[recent[r]] = 0
    for k in range(len(items)):
        places[items[k]] = 0
