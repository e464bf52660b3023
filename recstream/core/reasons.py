"""Reasons: which of the user's own items a score goes back to, signal by signal."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.core.arrays import AnyArray, Handles, Matrix
from recstream.core.blend import Blend, Parameters, split_scores
from recstream.core.evidence import Evidence, Gatherer
from recstream.core.evidence_kernels import FOLLOWED_ITEMS, rarity
from recstream.core.inverted_index import Postings
from recstream.core.loops import FADES, compiled, cut, product
from recstream.core.session_window import SESSION_ITEMS, SessionArrays
from recstream.core.signals import SIGNALS
from recstream.core.views import Neighbours, Scratch, User, World, user_of

__all__ = ["Reasons", "contributions", "greatest", "name_greatest", "reasons"]

_WORDY: Final = 10
"""Of the last items so many are told for words and categories: later ones weigh an eighth at most."""
_TELLING: Final = 64
"""Sessions, those most like the user's own, that are told for items: the others say the same more quietly."""
_NAMED: Final = 6
"""Signals named with an item: those that contributed most, for or against it. The rest is ``other``."""
_PLACE: Final = {name: place for place, name in enumerate(SIGNALS)}
_SHORT_TERM: Final = _PLACE["short_term"]
_LEXICAL: Final = _PLACE["lexical"]
_LEXICAL_LAST: Final = _PLACE["lexical_last"]
_CATEGORY: Final = _PLACE["category"]
_FOLLOWED: Final = _PLACE["followed"]
_FOLLOWED_LAST: Final = _PLACE["followed_last"]
_TOGETHER: Final = _PLACE["together"]
_SESSIONS: Final = _PLACE["sessions"]
_NEXT: Final = _PLACE["sessions_next"]


class Reasons(NamedTuple):
    """Why the items of some lists are in them."""

    signals: npt.NDArray[np.int64]
    """Columns of the signals that contributed most to each item, for or against; -1: no more. Shape
    ``(lists, items, named)``."""
    values: npt.NDArray[np.float64]
    """What each of them contributed, rounded to five digits."""
    others: npt.NDArray[np.float64]
    """What all the rest adds up to, rounded likewise, ``(lists, items)``."""
    causes: npt.NDArray[np.int64]
    """Recent items of the user that contributed most, strongest first, as places among them; -1: no more.
    Shape ``(lists, items, causes)``."""


def reasons(
    evidence: Evidence, gatherer: Gatherer, blend: Blend, places: npt.NDArray[np.int64], causes: int
) -> Reasons:
    """Why these candidates score as they do: ``places`` in ``evidence``, ``(lists, items)``; -1: no more."""
    lists, items = places.shape
    why = Reasons(
        np.full((lists, items, _NAMED), -1, np.int64),
        np.zeros((lists, items, _NAMED)),
        np.zeros((lists, items)),
        np.full((lists, items, causes), -1, np.int64),
    )
    _find_reasons(evidence, blend.parameters, places, *gatherer.views, gatherer.scratch, why)
    return why


@compiled
def _find_reasons(
    evidence: Evidence,
    parameters: Parameters,
    places: AnyArray,
    world: World,
    near: Neighbours,
    lexicon: Postings,
    categories: Postings,
    window: SessionArrays,
    text: AnyArray,
    scratch: Scratch,
    why: Reasons,
) -> None:
    for k in range(len(places)):
        count = (places[k] >= 0).sum()
        items = evidence.items[places[k, :count]]
        signals = np.empty((count, evidence.signals.shape[1]), np.float32)
        for item in range(count):
            signals[item] = evidence.signals[places[k, item]]
        parts = np.empty(signals.shape, np.float32)
        split_scores(signals, parameters, parts)
        shared = contributions(
            items,
            parts,
            user_of(evidence.users, k),
            world,
            near,
            lexicon,
            categories,
            window,
            text,
            evidence.sessions[k, : evidence.found[k]],
            evidence.likeness[k],
            scratch,
        )
        name_greatest(parts, why.signals[k], why.values[k], why.others[k])
        why.causes[k, :count] = greatest(shared, why.causes.shape[2])


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
    """Write down the greatest parts of each row, for or against, and what is left, rounded to five digits.

    ``columns`` and ``values`` have shape ``(rows, most)``, ``others`` ``(rows,)``: what is left makes up for
    the rounding.

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


@compiled
def contributions(
    items: Handles,
    parts: AnyArray,
    user: User,
    world: World,
    near: Neighbours,
    lexicon: Postings,
    categories: Postings,
    window: SessionArrays,
    text: AnyArray,
    slots: AnyArray,
    likeness: AnyArray,
    scratch: Scratch,
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
            measure[k, r] = user.recent_weights[r] * max(product(text[items[k]], text[recent[r]]), 0.0)
    _give(shared, measure, parts[:, _SHORT_TERM])
    _shared_terms(items, recent, lexicon, scratch.terms, measure)
    _give(shared, measure, parts[:, _LEXICAL])
    _shared_terms(items, recent, categories, scratch.terms, measure)
    _give(shared, measure, parts[:, _CATEGORY])
    _neighbours(items, recent, near, True, scratch.places, measure)
    _give(shared, measure, parts[:, _FOLLOWED])
    _neighbours(items, recent, near, False, scratch.places, measure)
    _give(shared, measure, parts[:, _TOGETHER])
    _sessions(items, user, world, window, slots, likeness, scratch.places, measure)
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
            shares[int(terms[term]), r] = FADES[r] * scales[last[r]] * counts[at] * idf[term] ** 2
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
        weight = near.scales[row] * FADES[r]
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
    user: User,
    world: World,
    window: SessionArrays,
    slots: AnyArray,
    likeness: AnyArray,
    places: AnyArray,
    measure: AnyArray,
) -> None:
    """``places`` (one an item) is zeros, and zeros again afterwards; recent items are below 0 in it."""
    recent, lengths = user.recent, window.lengths
    count = len(recent)
    gains = np.zeros(count, np.float32)
    shared = np.zeros(SESSION_ITEMS, np.int32)
    for r in range(count):
        gains[r] = FADES[r] * rarity(world, recent[r])
        places[recent[r]] = -1 - r
    for k in range(len(items)):
        if places[items[k]] == 0:  # one that may be repeated is among the user's own
            places[items[k]] = k + 1
    least = np.float32(0.0)
    if len(slots) > _TELLING:
        least = cut(likeness[: len(slots)], _TELLING, _TELLING)
    for s in range(len(slots)):
        if likeness[s] < least:
            continue
        held = window.items[slots[s], : lengths[slots[s]]]
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
                value = likeness[s] * FADES[abs(p - here)] / total
                for at in range(found):
                    measure[k, shared[at]] += value * gains[shared[at]]
    for r in range(count):
        places[recent[r]] = 0
    for k in range(len(items)):
        places[items[k]] = 0
