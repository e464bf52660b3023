"""Kernels that explain scores: the signals that contributed most, and the user's own items behind them."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from recstream.items.jit import compiled, dot, top_k_threshold
from recstream.items.session_index import SESSION_ITEMS
from recstream.items.tfidf_index import Postings
from recstream.ranking.kernels.features import FOLLOWED_ITEMS, rarity
from recstream.ranking.kernels.structs import (
    PER_CANDIDATE,
    PER_ITEM,
    RECENCY_WEIGHTS,
    TEXT,
    CandidateFeatures,
    CatalogueArrays,
    Explanations,
    Neighbours,
    SignalColumns,
    UserArrays,
    Workspace,
    user_arrays_of,
)
from recstream.records.arrays import AnyArray, Handles, Matrix

__all__ = ["attribute_to_items", "explain_lists", "greatest", "name_greatest"]

_TERMS_OF_ITEMS: Final = 10
"""How many of the last items words and categories are attributed to: later ones weigh an eighth at most."""
_SESSIONS_COUNTED: Final = 64
"""Sessions by which items are attributed, those most like the user's own: the others hardly change it."""
_SHORT_TERM: Final = TEXT.index("short_term")
_LEXICAL: Final = PER_ITEM.index("lexical")
_FOLLOWED: Final = PER_ITEM.index("followed")
_TOGETHER: Final = PER_ITEM.index("together")
_SESSIONS: Final = PER_ITEM.index("sessions")
_SESSIONS_NEXT: Final = PER_ITEM.index("sessions_next")
_LEXICAL_LAST: Final = PER_CANDIDATE.index("lexical_last")
_CATEGORY: Final = PER_CANDIDATE.index("category")
_FOLLOWED_LAST: Final = PER_CANDIDATE.index("followed_last")


@compiled
def explain_lists(
    features: CandidateFeatures,
    parts: AnyArray,
    places: AnyArray,
    arrays: CatalogueArrays,
    columns: SignalColumns,
    workspace: Workspace,
    explanations: Explanations,
) -> None:
    """Fill in the explanations of the candidates at ``places``, ``(lists, items)``; -1: no more.

    ``parts`` is what each signal contributed to these candidates, ``(candidates, signals)``, one list after
    the other.
    """
    begin = 0
    for k in range(len(places)):
        count = (places[k] >= 0).sum()
        mine = parts[begin : begin + count]
        begin += count
        shared = attribute_to_items(
            features.items[places[k, :count]],
            mine,
            user_arrays_of(features.users, k),
            arrays,
            columns,
            features.sessions[k, : features.sessions_found[k]],
            features.likeness[k],
            workspace,
        )
        name_greatest(mine, explanations.signals[k], explanations.values[k], explanations.others[k])
        explanations.causes[k, :count] = greatest(shared, explanations.causes.shape[2])


@compiled
def attribute_to_items(
    items: Handles,
    parts: AnyArray,
    user: UserArrays,
    arrays: CatalogueArrays,
    columns: SignalColumns,
    slots: AnyArray,
    likeness: AnyArray,
    workspace: Workspace,
) -> AnyArray:
    """What each of the user's recent items contributed to the scores of items, ``(items, recent)``.

    ``parts`` is what each signal contributed, ``(items, signals)``. A signal's part goes to the recent items
    in proportion to what each put into the signal's measure. Parts of signals that measure no recent item,
    and of those that the kernels do not know, go to none.
    """
    recent = user.recent
    text, per_item, per_candidate = columns.text, columns.per_item, columns.per_candidate
    shared = np.zeros((len(items), len(recent)), np.float32)
    if not len(recent):
        return shared
    measure = np.empty(shared.shape, np.float32)
    for r in range(len(recent)):
        for k in range(len(items)):
            measure[k, r] = user.recent_weights[r] * max(
                dot(arrays.text[items[k]], arrays.text[recent[r]]), 0.0
            )
    _share_out(shared, measure, parts[:, text[_SHORT_TERM]])
    _measure_terms(items, recent, arrays.lexicon, workspace.terms, measure)
    _share_out(shared, measure, parts[:, per_item[_LEXICAL]])
    _measure_terms(items, recent, arrays.categories, workspace.terms, measure)
    _share_out(shared, measure, parts[:, per_candidate[_CATEGORY]])
    _measure_neighbours(items, recent, arrays.neighbours, True, workspace.places, measure)
    _share_out(shared, measure, parts[:, per_item[_FOLLOWED]])
    _measure_neighbours(items, recent, arrays.neighbours, False, workspace.places, measure)
    _share_out(shared, measure, parts[:, per_item[_TOGETHER]])
    _measure_sessions(items, user, arrays, slots, likeness, workspace.places, measure)
    _share_out(shared, measure, parts[:, per_item[_SESSIONS]] + parts[:, per_item[_SESSIONS_NEXT]])
    for k in range(len(items)):  # these go to the last item alone
        shared[k, 0] += parts[k, per_candidate[_LEXICAL_LAST]] + parts[k, per_candidate[_FOLLOWED_LAST]]
    return shared


@compiled
def _share_out(shared: AnyArray, measure: AnyArray, part: AnyArray) -> None:
    """Share a part out in proportion to the measure, which is zeros afterwards."""
    for k in range(len(shared)):
        total = measure[k].sum()
        for r in range(shared.shape[1]):
            if total > 0.0:
                shared[k, r] += part[k] * measure[k, r] / total
            measure[k, r] = 0.0


@compiled
def _measure_terms(
    items: Handles, recent: Handles, index: Postings, terms: AnyArray, measure: AnyArray
) -> None:
    """Measure the terms that each item shares with each recent one.

    ``terms``, one a term, is zeros, and zeros again afterwards: it says which row of ``shares`` is a term's.
    """
    starts, lengths, scales, idf = index.starts, index.lengths, index.scales, index.idf
    held, counts = index.terms, index.counts
    last = recent[:_TERMS_OF_ITEMS]
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
def _measure_neighbours(
    items: Handles,
    recent: Handles,
    neighbours: Neighbours,
    follows: bool,
    places: AnyArray,
    measure: AnyArray,
) -> None:
    """Measure how each item follows, or goes with, each recent one.

    ``places``, one an item, is zeros, and zeros again afterwards.
    """
    table = neighbours.followed_by if follows else neighbours.together_with
    for k in range(len(items)):
        places[items[k]] = k + 1
    for r in range(min(len(recent), FOLLOWED_ITEMS) if follows else len(recent)):
        row = recent[r]
        if row >= len(neighbours.items):
            continue
        others, strengths = neighbours.items[row], table[row]
        weight = neighbours.scales[row] * RECENCY_WEIGHTS[r]
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
def _measure_sessions(
    items: Handles,
    user: UserArrays,
    arrays: CatalogueArrays,
    slots: AnyArray,
    likeness: AnyArray,
    places: AnyArray,
    measure: AnyArray,
) -> None:
    """Measure the sessions that each item shares with each recent one.

    ``places``, one an item, is zeros, and zeros again afterwards; recent items are below 0 in it.
    """
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
    if len(slots) > _SESSIONS_COUNTED:
        least = top_k_threshold(likeness[: len(slots)], _SESSIONS_COUNTED, _SESSIONS_COUNTED)
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


@compiled
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


@compiled
def name_greatest(parts: AnyArray, columns: AnyArray, values: AnyArray, others: AnyArray) -> None:
    """Write the greatest parts of each row, for or against, and the sum of the rest, rounded to five digits.

    ``columns`` and ``values`` have shape ``(rows, most)``, ``others`` ``(rows,)``, which makes up for the
    rounding.

    >>> columns, values, others = np.full((1, 2), -1), np.zeros((1, 2)), np.zeros(1)
    >>> name_greatest(np.array([[0.1, -3.0, 1.0]], "f4"), columns, values, others)
    >>> columns.tolist(), values.tolist(), others.round(5).tolist()
    ([[1, 2]], [[-3.0, 1.0]], [0.1])
    """
    found = greatest(np.abs(parts), columns.shape[1])
    for row in range(len(parts)):
        rest = np.float64(0.0)
        for column in range(parts.shape[1]):
            rest += parts[row, column]
        for k in range(columns.shape[1]):
            columns[row, k] = found[row, k]
            if found[row, k] >= 0:
                values[row, k] = round(np.float64(parts[row, found[row, k]]), 5)
                rest -= values[row, k]
        others[row] = round(rest, 5)
