"""Compiled loops (numba) that gather one list's evidence: what few items have, and all of it in one call.

Why compiled: a list looks at some thousand neighbours, postings and sessions, and reads each signal once an
item; as numpy temporaries that would cost several times the whole budget of a list.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit

from recstream.core.arrays import AnyArray
from recstream.core.candidates import candidate_signals, choose_candidates
from recstream.core.inverted_index import Postings, score_terms
from recstream.core.session_window import SESSION_ITEMS, SessionArrays
from recstream.core.views import SPARSE, Neighbours, Scratch, User, World

__all__ = [
    "FADES",
    "FOLLOWED_ITEMS",
    "NEAREST_SESSIONS",
    "find_sessions",
    "gather",
    "gather_sparse",
    "rarity",
]

NEAREST_SESSIONS: Final = 200
"""Sessions most like the user's own that speak for items."""
FOLLOWED_ITEMS: Final = 3
"""How many of the user's last items speak for what follows."""
_WINDOW: Final = 5.0
FADES: Final = np.exp(-np.arange(SESSION_ITEMS + 1) / _WINDOW).astype(np.float32)
"""What is left of a weight so many places away: it falls by e every five."""
_NEXT_FADES: Final = np.exp(-np.arange(SESSION_ITEMS + 1) / 3.0).astype(np.float32)
_AGING: Final = 2.5
"""A session counts by the share of the stream it has seen to this power: scale-free decay."""
_YOUNG: Final = 1000.0
_LEXICAL: Final = SPARSE.index("lexical")
_LEXICAL_LAST: Final = SPARSE.index("lexical_last")
_CATEGORY: Final = SPARSE.index("category")
_FOLLOWED: Final = SPARSE.index("followed")
_FOLLOWED_LAST: Final = SPARSE.index("followed_last")
_TOGETHER: Final = SPARSE.index("together")
_SESSIONS: Final = SPARSE.index("sessions")
_NEXT: Final = SPARSE.index("sessions_next")
_TURNED_AWAY: Final = SPARSE.index("turned_away")


@njit(cache=True, nogil=True)
def gather(
    user: User,
    world: World,
    near: Neighbours,
    lexicon: Postings,
    categories: Postings,
    window: SessionArrays,
    dense: AnyArray,
    raw: AnyArray,
    each: int,
    wanted: int,
    used: AnyArray,
    scratch: Scratch,
    slots: AnyArray,
    likeness: AnyArray,
    items: AnyArray,
    signals: AnyArray,
) -> tuple[int, int]:
    """All evidence of one list: gives how many sessions and how many candidates were found.

    Filled are ``raw`` (zeros before), ``slots`` and ``likeness``, ``items`` and ``signals``: see below.
    One call, for handing arrays over to compiled code costs more than some of its parts.
    """
    gather_sparse(user, near, lexicon, categories, scratch.terms, raw)
    found = find_sessions(user, world, window, scratch, slots, likeness, raw)
    count = choose_candidates(user, world, dense, raw, each, wanted, scratch.marks, items)
    candidate_signals(user, world, dense, raw, items[:count], used, signals[:count])
    return found, count


@njit(cache=True, nogil=True)
def gather_sparse(
    user: User, near: Neighbours, lexicon: Postings, categories: Postings, terms: AnyArray, raw: AnyArray
) -> None:
    """Add up the sparse signals but those of sessions into ``raw``, zeros of shape ``(SPARSE, items)``.

    ``terms`` is zeros, one a term, and is zeros again afterwards. ``followed`` is a transition probability,
    ``together`` a cosine between the items' audiences (Deshpande and Karypis, TOIS 2004).
    """
    count = len(user.recent)
    weights = FADES[:count]
    score_terms(lexicon, user.recent, weights, terms, raw[_LEXICAL])
    score_terms(lexicon, user.recent[:1], weights, terms, raw[_LEXICAL_LAST])
    score_terms(categories, user.recent, weights, terms, raw[_CATEGORY])
    for k in range(count):
        row = user.recent[k]
        if row >= len(near.items):
            continue
        if k < FOLLOWED_ITEMS:
            total = near.followed_by[row].sum()
            if total > 0.0:
                for j in range(near.items.shape[1]):
                    other = near.items[row, j]
                    if other < 0:
                        break
                    share = near.followed_by[row, j] / total
                    raw[_FOLLOWED, other] += share / (1 + k)
                    if k == 0:
                        raw[_FOLLOWED_LAST, other] += share
        _add_together(row, weights[k], near, raw[_TOGETHER])
    score_terms(lexicon, user.turned, FADES[: len(user.turned)], terms, raw[_TURNED_AWAY])
    for k in range(len(user.turned)):
        if user.turned[k] < len(near.items):
            _add_together(user.turned[k], FADES[k], near, raw[_TURNED_AWAY])


@njit(cache=True, nogil=True)
def _add_together(row: int, weight: float, near: Neighbours, scores: AnyArray) -> None:
    weight *= near.scales[row]
    for j in range(near.items.shape[1]):
        other = near.items[row, j]
        if other < 0:
            break
        scores[other] += weight * near.together_with[row, j] * near.scales[other]


@njit(cache=True, nogil=True)
def rarity(world: World, item: int) -> float:
    """How much an item that two sessions share says: ln(1 + events / (1 + its own))."""
    return math.log(1.0 + world.tick / (1.0 + world.popularity[-1, item]))


@njit(cache=True, nogil=True)
def find_sessions(
    user: User,
    world: World,
    window: SessionArrays,
    scratch: Scratch,
    slots: AnyArray,
    likeness: AnyArray,
    raw: AnyArray,
) -> int:
    """Find the sessions most like the user's last items, and add what they hold to ``raw``; gives how many.

    V-STAN (Ludewig, Mauro, Latifi and Jannach, UMUAI 2021) with popularity discounted: a session is as like
    as the items it shares are recent with the user (weights falling by e every five places) and rare, over
    the root of its length, and newer ones count more; it speaks for its items the more, the nearer they
    are to the one shared that is most recent with the user.

    ``slots`` and ``likeness`` (at least `NEAREST_SESSIONS`) receive the sessions found.
    """
    sums, places, touched = scratch.slots, scratch.places, scratch.touched
    found = 0
    slots_used = len(window.lengths)
    for k in range(len(user.recent)):
        item = user.recent[k]
        places[item] = k + 1
        if item >= len(window.of_item):
            continue
        weight = FADES[k] * rarity(world, item)
        if weight <= 0.0:  # before the first event was counted
            continue
        for j in range(window.of_item.shape[1]):
            number = window.of_item[item, j]
            if number < 0:
                break
            slot = number % len(sums)
            if number == user.session or slot >= slots_used or window.numbers[slot] != number:
                continue
            if sums[slot] == 0.0:
                touched[found] = slot
                found += 1
            sums[slot] += weight
    values = np.empty(found, np.float32)
    for k in range(found):
        slot = touched[k]
        age = (window.ticks[slot] + _YOUNG) / (world.tick + _YOUNG)
        values[k] = sums[slot] / math.sqrt(window.lengths[slot]) * min(age, 1.0) ** _AGING
        sums[slot] = 0.0
    least = 0.0
    if found > NEAREST_SESSIONS:
        least = np.partition(values, found - NEAREST_SESSIONS)[found - NEAREST_SESSIONS]
    kept = 0
    for k in range(found):
        if values[k] < least or kept == NEAREST_SESSIONS:
            continue
        slot = touched[k]
        slots[kept], likeness[kept] = slot, values[k]
        kept += 1
        here = 0
        best = len(user.recent) + 1
        for p in range(window.lengths[slot]):
            place = places[window.items[slot, p]]
            if 0 < place < best:
                best, here = place, p
        for p in range(window.lengths[slot]):
            other = window.items[slot, p]
            value = values[k] * world.discounts[other]
            raw[_SESSIONS, other] += value * FADES[abs(p - here)]
            if p > here:
                raw[_NEXT, other] += value * _NEXT_FADES[p - here]
    for k in range(len(user.recent)):
        places[user.recent[k]] = 0
    return kept
