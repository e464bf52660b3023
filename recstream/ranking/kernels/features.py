"""Compiled loops (numba) that gather one list's evidence: what few items have, and all of it in one call.

Why compiled: a list looks at some thousand neighbours, postings and sessions, and reads each signal once an
item; as numpy temporaries that would cost several times the whole budget of a list.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from recstream.items.jit import compiled, top_k_threshold
from recstream.items.session_index import SESSION_ITEMS
from recstream.items.tfidf_index import match_terms, score_terms
from recstream.ranking.kernels.candidates import candidate_signals, choose_candidates
from recstream.ranking.kernels.structs import (
    LATER,
    RECENCY_WEIGHTS,
    SPARSE,
    CatalogueArrays,
    Neighbours,
    UserArrays,
    UserBatchArrays,
    Workspace,
    user_arrays_of,
)
from recstream.records.arrays import AnyArray

__all__ = [
    "FOLLOWED_ITEMS",
    "NEAREST_SESSIONS",
    "extract_all",
    "extract_sparse",
    "find_sessions",
    "gather",
    "rarity",
]

NEAREST_SESSIONS: Final = 200
"""Sessions most like the user's own that speak for items."""
FOLLOWED_ITEMS: Final = 3
"""How many of the user's last items speak for what follows."""
_NEXT_FADES: Final = np.exp(-np.arange(SESSION_ITEMS + 1) / 3.0).astype(np.float32)
_YOUNG: Final = 1000.0
_LEXICAL: Final = SPARSE.index("lexical")
_FOLLOWED: Final = SPARSE.index("followed")
_TOGETHER: Final = SPARSE.index("together")
_SESSIONS: Final = SPARSE.index("sessions")
_NEXT: Final = SPARSE.index("sessions_next")
_LEXICAL_LAST: Final = LATER.index("lexical_last")
_CATEGORY: Final = LATER.index("category")
_FOLLOWED_LAST: Final = LATER.index("followed_last")
_TURNED_AWAY: Final = LATER.index("turned_away")


@compiled
def extract_all(
    users: UserBatchArrays,
    arrays: CatalogueArrays,
    products: AnyArray,
    raw: AnyArray,
    each: int,
    wanted: int,
    used: AnyArray,
    workspace: Workspace,
    slots: AnyArray,
    likeness: AnyArray,
    found: AnyArray,
    items: AnyArray,
    columns: AnyArray,
    ends: AnyArray,
) -> None:
    """The evidence of some users' lists: see `gather`.

    Of each user are row k of ``slots`` and ``likeness`` (so many as ``found`` says), and what ``items`` and
    the columns of ``columns`` hold from ``ends[k]`` to ``ends[k + 1]``. One call for all of them, for each
    one hands over some sixty arrays, and what runs between two of them is fetched from memory anew.
    """
    ends[0] = 0
    for k in range(len(found)):
        begin = ends[k]
        found[k], count = gather(
            user_arrays_of(users, k),
            arrays,
            products,
            raw,
            each,
            wanted,
            used,
            workspace,
            slots[k],
            likeness[k],
            items[begin:],
            columns[:, begin:],
        )
        ends[k + 1] = begin + count


@compiled
def gather(
    user: UserArrays,
    arrays: CatalogueArrays,
    products: AnyArray,
    raw: AnyArray,
    each: int,
    wanted: int,
    used: AnyArray,
    workspace: Workspace,
    slots: AnyArray,
    likeness: AnyArray,
    items: AnyArray,
    columns: AnyArray,
) -> tuple[int, int]:
    """All evidence of one list: gives how many sessions and how many candidates were found.

    Filled are ``raw``, ``slots`` and ``likeness``, ``items`` and ``columns``: see below.
    """
    raw[:] = 0.0
    extract_sparse(user, arrays, workspace.terms, raw)
    found = find_sessions(user, arrays, workspace, slots, likeness, raw)
    count = choose_candidates(user, arrays, products, raw, each, wanted, workspace, items)
    later = np.zeros((len(LATER), count + 1), np.float32)  # the first place takes up what is of no candidate
    places, chosen, mine = workspace.places, items[:count], columns[:, :count]
    for k in range(count):
        places[items[k]] = k + 1
    extract_candidate_only(user, arrays, workspace.terms, chosen, places, later)
    candidate_signals(user, arrays, products, raw, later[:, 1:], chosen, used, places, mine)
    for k in range(count):
        places[items[k]] = 0
    return found, count


@compiled
def extract_sparse(user: UserArrays, arrays: CatalogueArrays, terms: AnyArray, raw: AnyArray) -> None:
    """Add up what finds candidates, but for sessions, into ``raw``, zeros of shape ``(SPARSE, items)``.

    ``terms`` is zeros, one a term, and is zeros again afterwards. ``followed`` is a transition probability,
    ``together`` a cosine between the items' audiences (Deshpande and Karypis, TOIS 2004).
    """
    recent = user.recent
    score_terms(arrays.lexicon, recent, RECENCY_WEIGHTS[: len(recent)], terms, raw[_LEXICAL])
    for k in range(min(len(recent), FOLLOWED_ITEMS)):
        _add_followed(recent[k], 1.0 / (1 + k), arrays.near, raw[_FOLLOWED])
    for k in range(len(recent)):
        _add_together(recent[k], RECENCY_WEIGHTS[k], arrays.near, raw[_TOGETHER])


@compiled
def extract_candidate_only(
    user: UserArrays,
    arrays: CatalogueArrays,
    terms: AnyArray,
    items: AnyArray,
    places: AnyArray,
    later: AnyArray,
) -> None:
    """Add up what finds no candidates into ``later``, zeros of shape ``(LATER, 1 + candidates)``.

    ``items`` are the candidates, ``places[i]`` says which one item i is: from 1, and 0 for none.
    """
    recent, turned = user.recent, user.turned
    last = recent[:1]
    score_terms(arrays.lexicon, last, RECENCY_WEIGHTS[: len(last)], terms, later[_LEXICAL_LAST], places)
    match_terms(arrays.categories, recent, RECENCY_WEIGHTS[: len(recent)], terms, items, later[_CATEGORY, 1:])
    if len(recent):
        _add_followed(recent[0], 1.0, arrays.near, later[_FOLLOWED_LAST], places)
    score_terms(arrays.lexicon, turned, RECENCY_WEIGHTS[: len(turned)], terms, later[_TURNED_AWAY], places)
    for k in range(len(turned)):
        _add_together(turned[k], RECENCY_WEIGHTS[k], arrays.near, later[_TURNED_AWAY], places)


@compiled
def _add_followed(
    row: int, weight: float, near: Neighbours, scores: AnyArray, places: AnyArray | None = None
) -> None:
    if row >= len(near.items):
        return
    others, followed = near.items[row], near.followed_by[row]
    total = followed.sum()
    if total <= 0.0:
        return
    weight /= total
    for j in range(len(others)):
        other = others[j]
        if other < 0:
            break
        if places is None:
            scores[other] += weight * followed[j]
        else:
            scores[places[other]] += weight * followed[j]


@compiled
def _add_together(
    row: int, weight: float, near: Neighbours, scores: AnyArray, places: AnyArray | None = None
) -> None:
    if row >= len(near.items):
        return
    others, together, scales = near.items[row], near.together_with[row], near.scales
    weight *= scales[row]
    for j in range(len(others)):
        other = others[j]
        if other < 0:
            break
        if places is None:
            scores[other] += weight * together[j] * scales[other]
        else:
            scores[places[other]] += weight * together[j] * scales[other]


@compiled
def rarity(arrays: CatalogueArrays, item: int) -> float:
    """How much an item that two sessions share says: ln(1 + events / (1 + its own))."""
    return math.log(1.0 + arrays.tick / (1.0 + arrays.popularity[-1, item]))


@compiled
def find_sessions(
    user: UserArrays,
    arrays: CatalogueArrays,
    workspace: Workspace,
    slots: AnyArray,
    likeness: AnyArray,
    raw: AnyArray,
) -> int:
    """Find the sessions most like the user's last items, and add what they hold to ``raw``; gives how many.

    V-STAN (Ludewig, Mauro, Latifi and Jannach, UMUAI 2021) with popularity discounted: a session is as like
    as the items it shares are recent with the user (weights falling by e every five places) and rare, over
    the root of its length, and newer ones count more: by the share of the stream there was at its newest
    item, to the power of 2.5. It speaks for its items the more, the nearer they are to the one shared that
    is most recent with the user.

    ``slots`` and ``likeness`` (at least `NEAREST_SESSIONS`) receive the sessions found.
    """
    sums, places, touched = workspace.slots, workspace.places, workspace.touched
    window = arrays.sessions
    recent, cycle, most = user.recent, window.cycle, len(workspace.slots)
    oldest = window.next - most
    found = 0
    for k in range(len(recent)):
        item = recent[k]
        places[item] = k + 1
        if item >= len(window.of_item):
            continue
        weight = RECENCY_WEIGHTS[k] * rarity(arrays, item)
        if weight <= 0.0:  # before the first event was counted
            continue
        ring = window.of_item[item]
        for j in range(len(ring)):
            number = ring[j]
            if number < 0:
                break
            if number < oldest or number == user.session:
                continue
            slot = number - cycle if number >= cycle else number - cycle + most
            touched[found] = slot
            found += sums[slot] == 0.0
            sums[slot] += weight
    values = np.empty(found, np.float32)
    for k in range(found):
        slot = touched[k]
        age = min((window.ticks[slot] + _YOUNG) / (arrays.tick + _YOUNG), 1.0)
        values[k] = sums[slot] * window.scales[slot] * age * age * math.sqrt(age)
        sums[slot] = 0.0
    if found > NEAREST_SESSIONS:
        found = _keep_nearest(values, touched[:found], window.next - cycle)
    together, following, discounts, lengths = raw[_SESSIONS], raw[_NEXT], arrays.discounts, window.lengths
    kept = 0
    for k in range(found):
        if values[k] <= 0.0:
            continue
        slot = touched[k]
        slots[kept], likeness[kept] = slot, values[k]
        kept += 1
        items = window.items[slot, : lengths[slot]]
        here = 0
        best = len(recent) + 1
        for p in range(len(items)):
            place = places[items[p]]
            if 0 < place < best:
                best, here = place, p
        for p in range(len(items)):
            value = values[k] * discounts[items[p]]
            together[items[p]] += value * RECENCY_WEIGHTS[abs(p - here)]
            if p > here:
                following[items[p]] += value * _NEXT_FADES[p - here]
    for k in range(len(recent)):
        places[recent[k]] = 0
    return kept


@compiled
def _keep_nearest(values: AnyArray, slots: AnyArray, next_slot: int) -> int:
    """Bring the greatest values and their slots to the front, `NEAREST_SESSIONS` of them; gives how many.

    Of equal ones those come first that began last: sessions are in the slots in their order, round from
    ``next_slot``.
    """
    least = top_k_threshold(values, NEAREST_SESSIONS, NEAREST_SESSIONS)
    reach = (values >= least).sum()
    if reach > NEAREST_SESSIONS:  # some are equal
        least = np.partition(values, len(values) - NEAREST_SESSIONS)[len(values) - NEAREST_SESSIONS]
    ties = slots[values == least]
    kept = 0
    for k in range(len(values)):
        if values[k] > least:
            values[kept], slots[kept] = values[k], slots[k]
            kept += 1
    ages = np.where(ties < next_slot, next_slot - ties, np.int32(1 << 30) - ties)
    for tie in ties[np.argsort(ages)]:
        if kept == NEAREST_SESSIONS:
            break
        values[kept], slots[kept] = least, tie
        kept += 1
    return kept
